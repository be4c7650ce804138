"""The sheet that raters open from a folder: a page, its pictures and videos under names that say nothing, a csv.

The answer key lies in a folder of its own, which the sheet does not mention: hand out ``sheet``, keep ``key``.
"""

import csv
import shutil
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from pipeline.errors import PipelineError
from pipeline.seeding import seed_for
from pipeline.study.pairing import Pair, make_pairs
from pipeline.study.questions import QUESTIONS

TEMPLATE = Path(__file__).with_name("sheet.html.j2")
FIELDS = ("condition", "video")  # what a sheet needs of a manifest entry, beyond what every manifest has


def write_sheet(folder: Path, samples: Mapping[str, tuple[Path, list[dict]]], seed: int) -> int:
    """Write ``folder``/sheet and ``folder``/key from each run's (sample folder, manifest entries).

    Returns the number of pairs. Pictures that not every run has are an error. Of several sampling seeds the
    lowest is shown.
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
    prompts = {picture: entry["prompt"] for picture, entry in next(iter(entries.values())).items()}
    _write_files(folder, pairs, videos, conditions, prompts)
    return len(pairs)


def _write_files(folder: Path, pairs: list[Pair], videos, conditions, prompts) -> None:
    shown = [
        {
            "pair": f"pair-{number:04d}",
            "picture": pair.picture,
            "prompt": prompts[pair.picture],
            "left": videos[pair.left_run, pair.picture],
            "right": videos[pair.right_run, pair.picture],
        }
        for number, pair in enumerate(pairs, 1)
    ]
    key = [
        {"pair": row["pair"], "picture": pair.picture, "left_run": pair.left_run, "right_run": pair.right_run}
        for row, pair in zip(shown, pairs, strict=True)
    ]
    _write_csv(folder / "sheet" / "pairs.csv", ("pair", "picture", "prompt", "left", "right"), shown)
    _write_csv(folder / "key" / "key.csv", ("pair", "picture", "left_run", "right_run"), key)
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(TEMPLATE.read_text())
    page = template.render(
        pairs=[{**row, "condition": conditions[row["picture"]]} for row in shown],
        questions=QUESTIONS,
    )
    (folder / "sheet" / "index.html").write_text(page)


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


def _write_csv(path: Path, columns: tuple[str, ...], rows: list[dict]) -> None:
    with path.open("w", newline="") as out:
        writer = csv.DictWriter(out, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
