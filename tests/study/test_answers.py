"""Answer files: one that counts, and every kind that does not; then the stage's tables."""

import copy
import csv
import json
import logging
import os
from types import SimpleNamespace

import pytest

from pipeline.errors import PipelineError
from pipeline.stages import ratings as stage_module
from pipeline.study.answers import NAMES, AnswerFile, read_answers, read_key
from pipeline.study.sheet import write_sheet


@pytest.fixture(scope="module")
def pairs_folder(samples, survey, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "pairs"
    (folder / "b").mkdir(parents=True)
    write_sheet(folder / "b", samples, 0, survey)
    return folder


@pytest.fixture(scope="module")
def key(pairs_folder):
    return read_key(pairs_folder / "b" / "key", "b")


def signed(content: dict) -> dict:
    content = {**content, "checksum": "00000000"}
    return {**content, "checksum": AnswerFile(**content).expected_checksum()}


@pytest.fixture
def answered(key):
    """A whole file of a participant who prefers the run that comes first by name, and notices the checks."""

    def make(participant: int = 1, code: str = "blå", ended: str | None = "2026-01-01T10:00:00.000Z") -> dict:
        answers = []
        for pair in key.lists[participant]:
            if pair in key.checks:
                question, expected = key.checks[pair]
                choices = {name: expected if name == question else "same" for name in NAMES}
            else:
                left, right = key.runs[pair]
                choices = dict.fromkeys(NAMES, "left" if left < right else "right")
            answers.append({"pair": pair, "milliseconds": 1234, **choices})
        return signed({
            "format": 1, "study": key.study, "participant": participant, "code": code,
            "started": "2026-01-01T09:00:00.000Z", "ended": ended, "answers": answers,
        })  # fmt: skip

    return make


def write(folder, **files):
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        text = content if isinstance(content, bytes) else json.dumps(content, ensure_ascii=False).encode()
        (folder / f"{name}.json").write_bytes(text)
    return folder


def reasons(folder, key, allowed: int = 0) -> dict[str, str]:
    return {verdict.file: verdict.reason for verdict in read_answers(folder, [key], allowed)}


def test_a_whole_file_counts_without_its_checks(tmp_path, answered, key):
    verdict = read_answers(write(tmp_path / "a", one=answered()), [key], 0)[0]
    assert verdict.reason == "" and verdict.backbone == "b"
    assert len(verdict.answers) == 6 and not verdict.answers.keys() & key.checks.keys()


def change(content, **changed):
    return signed({**copy.deepcopy(content), **changed})


@pytest.mark.parametrize("kind, says", [
    ("cut", "not an answers file"), ("list", "not an answers file"), ("choice", "not an answers file: answers.0"),
    ("extra", "not an answers file: name: Extra inputs"), ("edited", "edited: its checksum"),
    ("twice", "edited: a pair is answered twice"), ("partial", "partial: 7 of 8 pairs"),
    ("unended", "partial: 8 of 8 pairs"), ("study", "stranger: answers of another study"),
    ("number", "stranger: the study has no participant 77"), ("pair", "stranger: 'pair-9999' is no pair"),
    ("large", "too large"), ("inattentive", "inattentive: 2 attention checks failed, 0 allowed"),
    ("deep", "not an answers file"), ("binary", "not an answers file"),
])  # fmt: skip
def test_every_bad_file_is_told_and_left_out(tmp_path, answered, key, kind, says):
    good = answered()
    answers = copy.deepcopy(good["answers"])
    spoilt = {
        "cut": lambda: json.dumps(good).encode()[:300],
        "list": lambda: [1, 2],
        "choice": lambda: {**good, "answers": [{**answers[0], "motion": "up"}, *answers[1:]]},
        "extra": lambda: {**good, "name": "Ada"},
        "edited": lambda: {**good, "answers": [{**answers[0], "overall": "same"}, *answers[1:]]},
        "twice": lambda: change(good, answers=[*answers[:-1], answers[0]]),
        "partial": lambda: change(good, answers=answers[:-1]),
        "unended": lambda: change(good, ended=None),
        "study": lambda: change(good, study="0123456789abcdef"),
        "number": lambda: change(good, participant=77),
        "pair": lambda: change(good, answers=[{**answers[0], "pair": "pair-9999"}, *answers[1:]]),
        "large": lambda: b" " * 5_000_001,
        "inattentive": lambda: change(good, answers=[{**each, **dict.fromkeys(NAMES, "same")} for each in answers]),
        "deep": lambda: b"[" * 100_000,
        "binary": lambda: bytes(range(256)),
    }[kind]()
    folder = write(tmp_path / "a", good=answered(2), spoilt=spoilt)
    found = reasons(folder, key)
    assert found["good.json"] == ""
    assert found["spoilt.json"].startswith(says)


def test_failed_checks_may_be_allowed(tmp_path, answered, key):
    answers = [{**each, **dict.fromkeys(NAMES, "same")} for each in answered()["answers"]]
    assert reasons(write(tmp_path / "a", one=change(answered(), answers=answers)), key, allowed=2) == {"one.json": ""}


def test_of_two_files_of_one_participant_or_code_the_earlier_counts(tmp_path, answered, key):
    folder = write(
        tmp_path / "a",
        later=answered(1, "x", "2026-01-01T12:00:00.000Z"),
        earlier=answered(1, "y", "2026-01-01T11:00:00.000Z"),
        same_code=answered(2, "y", "2026-01-01T13:00:00.000Z"),
        other=answered(3, "z"),
    )
    found = reasons(folder, key)
    assert found["earlier.json"] == found["other.json"] == ""
    for name in ("later", "same_code"):
        assert found[f"{name}.json"].startswith("duplicate: earlier.json")


def test_a_file_of_another_name_is_told_and_the_folders_own_are_passed_over(tmp_path, answered, key):
    folder = write(tmp_path / "a")
    for name in ("answers.json.txt", "answers.zip", "answers"):
        (folder / name).write_text(json.dumps(answered()))
    for name in ("README.md", ".gitkeep"):
        (folder / name).write_text("words")
    assert reasons(folder, key) == dict.fromkeys(
        ("answers", "answers.json.txt", "answers.zip"), "not an answers file: its name does not end in .json"
    )


@pytest.mark.parametrize("content", [
    {"\n=HYPERLINK(\u202e" + "x" * 100_000: 1}, {"answers": [{"\u2028" * 500: 1}]}, {"participant": int("9" * 4000)},
    {"study": "\x1b[2J" * 1000},
])  # fmt: skip
def test_a_files_own_words_are_bounded_and_escaped_in_the_reason(tmp_path, answered, key, content):
    spoilt = content if content.keys() & {"answers"} else {**answered(), **content}
    if "study" in content:
        spoilt = signed(spoilt)
    reason = reasons(write(tmp_path / "a", one=spoilt), key)["one.json"]
    assert reason.startswith(("not an answers file", "stranger"))
    assert len(reason) < 250 and reason.isascii() and reason.isprintable()


def test_a_files_name_cannot_break_the_table_or_the_log(tmp_path, answered, key):
    folder = write(tmp_path / "a")
    (folder / "a\nb.json").write_text(json.dumps(answered()))
    (folder / os.fsdecode(b"b\xff.json")).write_text(json.dumps(answered(2, "bo")))
    names = sorted(reasons(folder, key))
    assert names == ["a\\nb.json", "b\\udcff.json"]
    assert all(name.encode() for name in names)


@pytest.fixture
def run_stage(pairs_folder, samples, survey, tmp_path):
    def run(answers):
        recorded = {}
        stage_module.run(SimpleNamespace(
            inputs=[answers, pairs_folder], outputs=[tmp_path / "ratings"],
            params=SimpleNamespace(survey=survey, sheets={"b": SimpleNamespace(runs=list(samples))}),
            record=SimpleNamespace(metrics=recorded.update), log=logging.getLogger("test"),
        ))  # fmt: skip
        tables = {}
        for path in (tmp_path / "ratings").iterdir():
            with path.open(newline="") as lines:
                tables[path.stem] = list(csv.DictReader(lines))
        return tables, recorded

    return run


def test_the_tables_of_a_study(run_stage, answered, samples, tmp_path):
    folder = write(tmp_path / "a", **{f"p{n}": answered(n, f"c{n}") for n in (1, 2, 3)}, bad=[1])
    tables, recorded = run_stage(folder)
    assert recorded == {"answer_files": 3, "left_out": 1}
    assert [row["verdict"] for row in tables["answers"]] == ["left out", "counted", "counted", "counted"]
    order = sorted(samples)
    overall = [row for row in tables["ranking"] if row["question"] == "overall"]
    assert [row["run"] for row in overall] == order
    assert {row["run"]: float(row["rating"]) for row in tables["ratings"]} == dict(
        zip(order, (1, 2, 3, 4), strict=True)
    )
    assert {row["participants"] for row in tables["ratings"]} == {"3"}
    assert len(tables["win_rates"]) == 4 * 6
    for row in tables["win_rates"]:
        a_wins = row["run_a"] < row["run_b"]
        assert float(row["rate_a"]) == (1.0 if a_wins else 0.0)
        assert float(row["low"]) <= float(row["rate_a"]) <= float(row["high"])
        assert int(row["wins_a"]) + int(row["ties"]) + int(row["wins_b"]) == 3


def test_one_participant_alone_has_no_interval(run_stage, answered, tmp_path):
    tables, _ = run_stage(write(tmp_path / "a", one=answered()))
    for table in ("ranking", "ratings"):
        assert tables[table] and {(row["low"], row["high"]) for row in tables[table]} == {("", "")}


def test_without_answers_the_tables_are_empty_and_nothing_fails(run_stage, tmp_path):
    (tmp_path / "none").mkdir()
    tables, recorded = run_stage(tmp_path / "none")
    assert recorded == {"answer_files": 0, "left_out": 0}
    assert all(rows == [] for rows in tables.values()) and len(tables) == 4


def test_a_missing_folder_names_its_key(run_stage, tmp_path):
    with pytest.raises(PipelineError, match=r"survey\.answers"):
        run_stage(tmp_path / "absent")
