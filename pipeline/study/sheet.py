"""The folder that participants open: a page, its pictures and videos under names that say nothing.

What undoes the blinding lies in a folder of its own, which the page does not mention: hand out ``sheet``, keep ``key``.
"""

import csv
import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2

from pipeline.data.video_file import write_video
from pipeline.errors import PipelineError
from pipeline.seeding import numpy_generator, seed_for
from pipeline.study.assignment import assign, mix_in
from pipeline.study.checks import Check, make_checks
from pipeline.study.page import write_page
from pipeline.study.pairing import Pair, make_pairs
from pipeline.study.questions import QUESTIONS

FIELDS = ("condition", "video")  # what a sheet needs of a manifest entry, beyond what every manifest has
MEDIA = ("run", "picture", "video", "condition", "prompt")  # of the sheet, for the report
KEY = ("pair", "picture", "left_run", "right_run", "check", "expected")
CHECK_FRAMES = 16


@dataclass(frozen=True)
class Shown:
    """One pair as participants see it; ``check`` is None for a pair that counts."""

    picture: str
    left: str  # media
    right: str
    left_run: str
    right_run: str
    check: Check | None = None


def write_sheet(folder: Path, samples: Mapping[str, tuple[Path, list[dict]]], seed: int, survey, fps: int = 8) -> int:
    """Write ``folder``/sheet and ``folder``/key from each run's (sample folder, manifest entries).

    ``survey``: the group of params.yaml. Returns the number of pairs that count. Pictures that not every run has are
    an error. Of several sampling seeds the lowest is shown.
    """
    entries = {run: _by_picture(run, manifest) for run, (_, manifest) in samples.items()}
    pictures = _common_pictures(entries)
    pairs = make_pairs(pictures, list(samples), seed)
    media = folder / "sheet" / "media"
    media.mkdir(parents=True)
    (folder / "key").mkdir()
    videos, conditions = {}, {}
    for picture in pictures:
        for run, (source, _) in samples.items():
            entry = entries[run][picture]
            videos[run, picture] = _copy_blinded(source, entry["video"], media, seed, "video", run, picture)
        source = samples[run][0]
        conditions[picture] = _copy_blinded(source, entry["condition"], media, seed, "condition", picture)
    shown = [_shown(pair, videos) for pair in pairs]
    checks = _checks(folder / "sheet", survey.checks, conditions, seed, fps)
    lists = [
        mix_in(own, range(len(shown), len(shown) + len(checks)), seed, participant)
        for participant, own in enumerate(assign(pairs, survey.participants, survey.pairs_per_participant, seed))
    ]
    prompts = {picture: entry["prompt"] for picture, entry in next(iter(entries.values())).items()}
    _write(folder, shown + checks, lists, conditions, prompts, seed)
    _write_csv(
        folder / "key" / "media.csv",
        MEDIA,
        [[run, picture, video, conditions[picture], prompts[picture]] for (run, picture), video in videos.items()],
    )
    return len(pairs)


def _shown(pair: Pair, videos) -> Shown:
    left, right = (videos[run, pair.picture] for run in (pair.left_run, pair.right_run))
    return Shown(pair.picture, left, right, pair.left_run, pair.right_run)


def _checks(sheet: Path, count: int, conditions: Mapping[str, str], seed: int, fps: int) -> list[Shown]:
    def read(picture: str):
        found = cv2.cvtColor(cv2.imread(str(sheet / conditions[picture])), cv2.COLOR_BGR2RGB)
        return found[: found.shape[0] // 2 * 2, : found.shape[1] // 2 * 2]

    shown = []
    for number, made in enumerate(make_checks(read, list(conditions), count, CHECK_FRAMES, seed)):
        sides = []
        for side, video in (("left", made.left), ("right", made.right)):
            sides.append(f"media/{seed_for(seed, 'blinded name', 'check', side, number):016x}.mp4")
            write_video(sheet / sides[-1], video, fps)
        shown.append(Shown(made.picture, *sides, "", "", made.check))
    return shown


def _write(folder: Path, shown: list[Shown], lists: list[list[int]], conditions, prompts, seed: int) -> None:
    numbers = numpy_generator(seed, "pair names").permutation(len(shown))  # a check's name must not tell it
    names = [f"pair-{number + 1:04d}" for number in numbers]
    pairs = [
        {"pair": name, "condition": conditions[each.picture], "prompt": prompts[each.picture], "left": each.left,
         "right": each.right}
        for name, each in zip(names, shown, strict=True)
    ]  # fmt: skip
    study = _study_id(folder / "sheet", pairs, lists)
    write_page(folder / "sheet" / "index.html", study, pairs, lists)
    (folder / "key" / "study.txt").write_text(study + "\n")
    rows = []
    for name, each in sorted(zip(names, shown, strict=True), key=lambda item: item[0]):
        check = (each.check.question, each.check.expected) if each.check else ("", "")
        rows.append([name, each.picture, each.left_run, each.right_run, *check])
    _write_csv(folder / "key" / "key.csv", KEY, rows)
    assigned = [
        [participant, place, names[position]]
        for participant, own in enumerate(lists, 1)
        for place, position in enumerate(own, 1)
    ]
    _write_csv(folder / "key" / "assignment.csv", ("participant", "place", "pair"), assigned)


def _study_id(sheet: Path, pairs: list[dict], lists: list[list[int]]) -> str:
    """Of all that participants see, down to the bytes: answers to other videos or other words are a stranger's."""
    media = sorted({pair[part] for pair in pairs for part in ("condition", "left", "right")})
    digests = {name: hashlib.sha256((sheet / name).read_bytes()).hexdigest() for name in media}
    return hashlib.sha256(json.dumps([QUESTIONS, pairs, lists, digests]).encode()).hexdigest()[:16]


def _write_csv(path: Path, header: tuple[str, ...], rows: list[list]) -> None:
    with path.open("w", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _by_picture(run: str, manifest: list[dict]) -> dict[str, dict]:
    lowest = min((entry["seed"] for entry in manifest), default=None)
    found = {entry["id"]: entry for entry in manifest if entry["seed"] == lowest}
    for name, entry in found.items():
        lacking = [field for field in FIELDS if not entry.get(field)]
        if lacking:
            raise PipelineError(f"samples of {run}: {name} has no {' or '.join(lacking)}; run the stage sample again")
    return found


def _common_pictures(entries: Mapping[str, dict[str, dict]]) -> list[str]:
    all_pictures = sorted(set().union(*entries.values()))
    if not all_pictures:
        raise PipelineError(
            f"the runs {', '.join(entries)} have no samples to compare; see the rejects of the imagebench clips"
        )
    for run, found in entries.items():
        missing = [picture for picture in all_pictures if picture not in found]
        if missing:
            raise PipelineError(
                f"samples of {run} lack {missing[:5]}, which other runs have; run the stage sample again"
            )
    return all_pictures


def _copy_blinded(source: Path, relative: str, media: Path, seed: int, *purpose: str) -> str:
    path = (source / relative).resolve()
    if not path.is_relative_to(source.resolve()) or not path.is_file():
        raise PipelineError(f"{source} names the file {relative!r}, which it does not hold; run the stage sample again")
    name = f"{seed_for(seed, 'blinded name', *purpose):016x}{path.suffix}"
    shutil.copyfile(path, media / name)
    return f"media/{name}"
