"""Answer files as participants send them back: untrusted, each counted or left out with a reason."""

import csv
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from pipeline.errors import PipelineError
from pipeline.study.questions import QUESTIONS

NAMES = tuple(name for name, _ in QUESTIONS)
LARGEST = 5_000_000  # bytes; a file of 1,000 pairs has a twentieth of that
LONGEST = 80  # characters of a file's own words in a reason
PASSED_OVER = ("README.md", ".gitignore", ".gitkeep")
Choice = Literal["left", "same", "right"]


class _Exact(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


Answer = create_model(
    "Answer",
    __base__=_Exact,
    pair=(str, Field(max_length=40)),
    milliseconds=(int, Field(ge=0, le=10**12)),
    **dict.fromkeys(NAMES, (Choice, ...)),
)


class AnswerFile(_Exact):
    """What pipeline/study/page.js saves."""

    format: Literal[1]
    study: str
    participant: int = Field(ge=1, le=10**6)
    code: str = Field(min_length=1, max_length=40)
    started: str = Field(max_length=40)
    ended: str | None = Field(max_length=40)
    answers: list[Answer]
    checksum: str

    def expected_checksum(self) -> str:
        """CRC-32 of the contents in the page's own spelling: it tells mishaps and careless edits, not forgery."""
        rows = [[each.pair, *(getattr(each, name) for name in NAMES), each.milliseconds] for each in self.answers]
        contents = [self.study, self.participant, self.code, self.started, self.ended, rows]
        text = json.dumps(contents, separators=(",", ":"), ensure_ascii=False)
        return f"{zlib.crc32(text.encode('utf-8', 'surrogatepass')):08x}"


@dataclass(frozen=True)
class Key:
    """What undoes the blinding of one backbone's study."""

    backbone: str
    study: str
    runs: dict[str, tuple[str, str]]  # of each pair that counts: left, right
    pictures: dict[str, str]
    checks: dict[str, tuple[str, str]]  # of each attention check: question, expected answer
    lists: dict[int, list[str]]  # pairs of each participant


@dataclass(frozen=True)
class Verdict:
    """What became of one file; ``reason`` is empty where it counts."""

    file: str
    backbone: str
    participant: str
    reason: str
    answers: dict[str, dict[str, str]] = field(default_factory=dict)  # by pair and question, checks left out


def read_key(folder: Path, backbone: str) -> Key:
    """The key folder of a sheet; raises PipelineError where a part is missing."""
    try:
        study = (folder / "study.txt").read_text().strip()
        rows = list(csv.DictReader((folder / "key.csv").open(newline="")))
        lists: dict[int, list[str]] = {}
        for row in csv.DictReader((folder / "assignment.csv").open(newline="")):
            lists.setdefault(int(row["participant"]), []).append(row["pair"])
        counted = [row for row in rows if not row["check"]]
        return Key(
            backbone,
            study,
            {row["pair"]: (row["left_run"], row["right_run"]) for row in counted},
            {row["pair"]: row["picture"] for row in counted},
            {row["pair"]: (row["check"], row["expected"]) for row in rows if row["check"]},
            lists,
        )
    except (OSError, KeyError, ValueError) as error:
        raise PipelineError(f"{folder} holds no whole key ({error}); run the stage pairs again") from None


def read_answers(folder: Path, keys: Sequence[Key], failed_checks_allowed: int) -> list[Verdict]:
    """A verdict for every file below ``folder``, by path.

    Of several files of one participant number or one code, the earliest ended one that is whole counts.
    """
    of_study = {key.study: key for key in keys}
    files = sorted(path for path in folder.rglob("*") if path.name not in PASSED_OVER and path.is_file())
    judged = [_judge(path, _printable(path.relative_to(folder)), of_study, failed_checks_allowed) for path in files]
    return _without_duplicates(judged)


def _printable(path: Path) -> str:
    """A path as text for a table and a log: line ends and bytes that are no text are escaped."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in str(path))


def _quoted(text: str) -> str:
    """A stranger's words, short and harmless."""
    return ascii(text[:LONGEST])[1:-1][:LONGEST]


def _judge(path: Path, name: str, keys: dict[str, Key], allowed: int) -> tuple[Verdict, AnswerFile | None]:
    def out(reason: str, backbone: str = "", participant: str = "") -> tuple[Verdict, None]:
        return Verdict(name, backbone, participant, reason), None

    if path.suffix.lower() != ".json":
        return out("not an answers file: its name does not end in .json")
    if path.stat().st_size > LARGEST:
        return out(f"too large: more than {LARGEST} bytes")
    try:
        found = AnswerFile.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = _quoted(".".join(str(part) for part in first["loc"]))
        return out(f"not an answers file: {where + ': ' if where else ''}{_quoted(first['msg'])}")
    key = keys.get(found.study)
    if key is None:
        return out(f"stranger: answers of another study, '{_quoted(found.study)}'")
    told = (key.backbone, str(found.participant))
    if found.checksum != found.expected_checksum():
        return out("edited: its checksum is not that of its contents", *told)
    wanted = key.lists.get(found.participant)
    if wanted is None:
        return out(f"stranger: the study has no participant {found.participant}", *told)
    given = [answer.pair for answer in found.answers]
    if len(set(given)) < len(given):
        return out("edited: a pair is answered twice", *told)
    strange = sorted(set(given) - set(wanted))
    if strange:
        return out(f"stranger: '{_quoted(strange[0])}' is no pair of participant {found.participant}", *told)
    if len(given) < len(wanted) or found.ended is None:
        return out(f"partial: {len(given)} of {len(wanted)} pairs", *told)
    by_pair = {answer.pair: {name: getattr(answer, name) for name in NAMES} for answer in found.answers}
    failed = [
        pair for pair, (question, expected) in key.checks.items()
        if pair in by_pair and by_pair[pair][question] != expected
    ]  # fmt: skip
    if len(failed) > allowed:
        return out(f"inattentive: {len(failed)} attention checks failed, {allowed} allowed", *told)
    answers = {pair: choices for pair, choices in by_pair.items() if pair not in key.checks}
    return Verdict(name, *told, "", answers), found


def _without_duplicates(judged: list[tuple[Verdict, AnswerFile | None]]) -> list[Verdict]:
    kept: dict[tuple, str] = {}
    order = sorted((pair for pair in judged if pair[1]), key=lambda pair: (pair[1].ended, pair[0].file))
    reasons = {}
    for verdict, found in order:
        marks = [(found.study, "participant", found.participant), (found.study, "code", found.code)]
        earlier = [kept[mark] for mark in marks if mark in kept]
        if earlier:
            reasons[verdict.file] = f"duplicate: {earlier[0]} is of the same participant and ended earlier"
        else:
            kept |= dict.fromkeys(marks, verdict.file)
    return [
        Verdict(verdict.file, verdict.backbone, verdict.participant, reasons[verdict.file])
        if verdict.file in reasons
        else verdict
        for verdict, _ in judged
    ]
