"""The tables of a study: what became of each file, win rates, rankings, and the ratings for table 3."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.seeding import numpy_generator
from pipeline.study.answers import NAMES, Key, Verdict
from pipeline.study.scores import Judgement, bootstrap, bradley_terry, pairs_of, ratings, wilson, win_matrix

DRAWS = 2000
OVERALL = NAMES[-1]
SCORES = {"left": 1.0, "same": 0.5, "right": 0.0}


def judgements_of(verdicts: Sequence[Verdict], key: Key, question: str) -> list[Judgement]:
    """The answers that count, of one study and question."""
    return [
        Judgement(verdict.file, *key.runs[pair], SCORES[choices[question]])
        for verdict in verdicts
        if verdict.backbone == key.backbone and not verdict.reason
        for pair, choices in verdict.answers.items()
    ]


def write_results(folder: Path, keys: Sequence[Key], runs: Mapping[str, Sequence[str]], verdicts, seed: int) -> int:
    """Write answers.csv, win_rates.csv, ranking.csv and ratings.csv; returns the number of files that count."""
    folder.mkdir(parents=True)
    _write(
        folder / "answers.csv",
        ["file", "backbone", "participant", "verdict", "reason"],
        [[v.file, v.backbone, v.participant, "left out" if v.reason else "counted", v.reason] for v in verdicts],
    )
    rates, ranks, rated = [], [], []
    for key in keys:
        for question in NAMES:
            found = judgements_of(verdicts, key, question)
            if found:
                rates += _win_rates(key.backbone, question, found, runs[key.backbone])
                ranks += _ranking(key.backbone, question, found, runs[key.backbone], seed)
        rated += _ratings(judgements_of(verdicts, key, OVERALL), runs[key.backbone], key.backbone, seed)
    header = ["backbone", "question", "run_a", "run_b", "wins_a", "ties", "wins_b", "rate_a", "low", "high"]
    _write(folder / "win_rates.csv", header, rates)
    _write(folder / "ranking.csv", ["backbone", "question", "run", "rank", "strength", "low", "high"], ranks)
    _write(folder / "ratings.csv", ["run", "rating", "low", "high", "participants"], rated)
    return sum(not verdict.reason for verdict in verdicts)


def _win_rates(backbone: str, question: str, found: Sequence[Judgement], runs: Sequence[str]) -> list[list]:
    rows = []
    for a, b in pairs_of(runs):
        scores = [each.score for each in found if (each.first, each.second) == (a, b)]
        scores += [1 - each.score for each in found if (each.first, each.second) == (b, a)]
        wins, ties, losses = (sum(score == value for score in scores) for value in (1.0, 0.5, 0.0))
        low, high = wilson(wins + ties / 2, len(scores))
        rate = _plain((wins + ties / 2) / len(scores)) if scores else ""
        rows.append([backbone, question, a, b, wins, ties, losses, rate, _plain(low), _plain(high)])
    return rows


def _ranking(backbone: str, question: str, found, runs: Sequence[str], seed: int) -> list[list]:
    strengths = bradley_terry(win_matrix(found, runs))
    generator = numpy_generator(seed, "bootstrap", backbone, question)
    low, high = bootstrap(found, runs, bradley_terry, DRAWS, generator)
    order = np.argsort(-strengths, kind="stable")
    return [
        [backbone, question, runs[i], rank, _plain(strengths[i]), _plain(low[i]), _plain(high[i])]
        for rank, i in enumerate(order, 1)
    ]


def _ratings(found: Sequence[Judgement], runs: Sequence[str], backbone: str, seed: int) -> list[list]:
    values = ratings(win_matrix(found, runs))
    if np.isnan(values).any():
        return []
    low, high = bootstrap(found, runs, ratings, DRAWS, numpy_generator(seed, "bootstrap", backbone, "rating"))
    people = len({each.participant for each in found})
    return [[run, _plain(values[i]), _plain(low[i]), _plain(high[i]), people] for i, run in enumerate(runs)]


def _plain(number: float) -> str:
    return "" if np.isnan(number) else f"{number:.4f}"


def _write(path: Path, header: list[str], rows: list[list]) -> None:
    with path.open("w", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
