"""From judgements to numbers: win rates with Wilson intervals, Bradley-Terry strengths, the ratings of table 3."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

Z = 1.959963984540054  # of a two-sided 95 % interval
PRIOR = 0.5  # ties that every two runs are taken to have had beforehand, so that a clean sweep has a finite strength
STEPS = 200  # at most; a clean sweep of 10,000 judgements takes about 20
TOLERANCE = 1e-12  # of the likelihood's slope, a judgement


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


def bradley_terry(wins: np.ndarray) -> np.ndarray:
    """Log strengths (..., R), mean zero, of (..., R, R): run i beats run j with probability 1 / (1 + exp(s_j - s_i)).

    The maximum of the likelihood with ``PRIOR`` ties beforehand between every two, by Newton steps for all matrices at
    once. A step that spreads the strengths by d is shortened by log(1 + d) / d, with which no step can overshoot
    (Sun and Tran-Dinh 2019, as the logistic loss is self-concordant in the generalised sense).
    """
    count = wins.shape[-1]
    wins = wins + PRIOR / 2 * (1 - np.eye(count))
    played, strength = wins + np.swapaxes(wins, -1, -2), np.zeros(wins.shape[:-1])
    for _ in range(STEPS):
        chance = 1 / (1 + np.exp(strength[..., None, :] - strength[..., :, None]))
        slope = (wins - played * chance).sum(-1)
        if np.abs(slope).max() < TOLERANCE * played.max():
            break
        weight = played * chance * (1 - chance)
        curvature = weight.sum(-1)[..., None] * np.eye(count) - weight + 1 / count  # 1 / R: the mean stays zero
        step = np.linalg.solve(curvature, slope[..., None])[..., 0]
        spread = np.ptp(step, axis=-1, keepdims=True)
        strength = strength + step * np.divide(np.log1p(spread), spread, out=np.ones_like(spread), where=spread > 0)
    return strength


def ratings(wins: np.ndarray) -> np.ndarray:
    """Table 3's rating of each run (..., R): 1 plus the opponents lost to, ties half; R runs sum to R (R + 1) / 2.

    As every participant judges all pairs of the same number of pictures, this is the mean over participants and
    pictures of 1 plus the pairs lost. NaN where some two runs were never compared.
    """
    played = wins + np.swapaxes(wins, -1, -2) + np.eye(wins.shape[-1])
    compared = (played > 0).all((-1, -2))
    lost = np.divide(np.swapaxes(wins, -1, -2), played, out=np.zeros(wins.shape), where=played > 0).sum(-1)
    return np.where(compared[..., None], 1 + lost, np.nan)


def bootstrap(judgements: Sequence[Judgement], runs: Sequence[str], statistic, draws: int, generator) -> np.ndarray:
    """(2, R): 2.5 % and 97.5 % quantiles of ``statistic`` of (draws, R, R) over participants drawn with replacement.

    Draws for which it is NaN are left out. NaN where there are none, and where fewer than two participants leave
    nothing to draw from.
    """
    people = sorted({each.participant for each in judgements})
    nothing = np.full((2, len(runs)), np.nan)
    if len(people) < 2:
        return nothing
    parts = np.stack([win_matrix([each for each in judgements if each.participant == name], runs) for name in people])
    times = generator.multinomial(len(people), np.full(len(people), 1 / len(people)), size=draws)
    found = statistic(np.tensordot(times.astype(float), parts, 1))
    found = found[~np.isnan(found).any(-1)]
    return np.quantile(found, [0.025, 0.975], axis=0) if len(found) else nothing


def pairs_of(runs: Sequence[str]) -> list[tuple[str, str]]:
    """Every two runs once."""
    return list(combinations(runs, 2))
