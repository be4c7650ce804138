"""From judgements to numbers: win rates with Wilson intervals, Bradley-Terry strengths, the ratings of table 3."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

Z = 1.959963984540054  # of a two-sided 95 % interval
PRIOR = 0.5  # ties that every two runs are taken to have had beforehand, so that a clean sweep has a finite strength


@dataclass(frozen=True)
class Judgement:
    """One participant's answer to one question of one pair: ``score`` of ``first`` is 1 (better), 0.5 (same) or 0."""

    participant: str
    first: str
    second: str
    score: float


def wilson(successes: float, count: float) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927); ties count half a success. (0, 1) without any judgement."""
    if count == 0:
        return 0.0, 1.0
    share, square = successes / count, Z**2 / count
    centre = (share + square / 2) / (1 + square)
    half = Z * math.sqrt(share * (1 - share) / count + square / (4 * count)) / (1 + square)
    return max(0.0, centre - half), min(1.0, centre + half)


def win_matrix(judgements: Sequence[Judgement], runs: Sequence[str]) -> np.ndarray:
    """(R, R): how often the run of the row beat that of the column, ties half."""
    place, wins = {run: index for index, run in enumerate(runs)}, np.zeros((len(runs), len(runs)))
    for each in judgements:
        wins[place[each.first], place[each.second]] += each.score
        wins[place[each.second], place[each.first]] += 1 - each.score
    return wins


def bradley_terry(wins: np.ndarray, steps: int = 2000, tolerance: float = 1e-10) -> np.ndarray:
    """Log strengths (R,), mean zero: run i beats run j with probability 1 / (1 + exp(s_j - s_i)).

    Hunter's (2004) iteration, with ``PRIOR`` ties beforehand between every two.
    """
    wins = wins + PRIOR / 2 * (1 - np.eye(len(wins)))
    played, won, strength = wins + wins.T, wins.sum(1), np.ones(len(wins))
    for _ in range(steps):
        before = strength
        strength = won / (played / (before[:, None] + before[None, :])).sum(1)
        strength = strength / np.exp(np.log(strength).mean())
        if np.abs(strength - before).max() < tolerance:
            break
    return np.log(strength)


def ratings(wins: np.ndarray) -> np.ndarray | None:
    """Table 3's rating of each run (R,): 1 plus the opponents lost to, ties half, so that R runs sum to R (R + 1) / 2.

    Where every participant judges all pairs of a picture this is the mean over participants and pictures of 1 plus the
    pairs lost; otherwise each opponent's share of losses stands for it. None where some two runs were never compared.
    """
    played = wins + wins.T
    if (played + np.eye(len(wins)) == 0).any():
        return None
    return 1 + np.divide(wins.T, played, out=np.zeros_like(wins), where=played > 0).sum(1)


def bootstrap(judgements: Sequence[Judgement], runs: Sequence[str], statistic, draws: int, generator) -> np.ndarray:
    """(2, R): 2.5 % and 97.5 % quantiles of ``statistic(wins)`` over draws of participants with replacement.

    Draws for which the statistic is None are left out; NaN where there are none.
    """
    by_participant: dict[str, np.ndarray] = {}
    for name in sorted({each.participant for each in judgements}):
        by_participant[name] = win_matrix([each for each in judgements if each.participant == name], runs)
    parts = np.stack(list(by_participant.values()))
    chosen = generator.integers(0, len(parts), (draws, len(parts)))
    found = [statistic(parts[row].sum(0)) for row in chosen]
    found = [value for value in found if value is not None]
    return np.quantile(found, [0.025, 0.975], axis=0) if found else np.full((2, len(runs)), np.nan)


def pairs_of(runs: Sequence[str]) -> list[tuple[str, str]]:
    """Every two runs once."""
    return list(combinations(runs, 2))
