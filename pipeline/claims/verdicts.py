"""The paper's claims as numbers: an effect a seed, its interval over seeds, and whether the claim holds.

Every effect is a difference between two things that share the seed's start, clips, conditions and noise, signed so
that above zero is what the claim says. The interval is Student's t over seeds, 95 %; for the gap to the perfect
denoiser the standard errors over its scenes and over the probe's clips are added. A claim holds where the interval
lies above zero, is contradicted where it lies below, and is not shown where zero lies in it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from pipeline.claims.plan import FEW_NAIVE, FEW_TIMENOISE, NAIVE, TIMENOISE, Sampling
from pipeline.claims.seed_file import SeedResult

LEVEL = 0.95
PROBED = {"motion of one-step predictions": "ratio", "own motion that they follow": "followed"}
HOLDS, CONTRADICTED, NOT_SHOWN = "holds", "contradicted", "not shown"


@dataclass(frozen=True)
class Reference:
    """The perfect denoiser's predictions at the probe times, with standard errors over scenes; as ``ProbeResult``."""

    ratio: Sequence[float]
    ratio_error: Sequence[float]
    followed: Sequence[float]
    followed_error: Sequence[float]


@dataclass(frozen=True)
class Line:
    """One line of reports/claims.csv before it has numbers.

    ``pair(seed)``: the two values compared; the effect is the second minus the first, or the reverse where
    ``lower_is_better``. ``error(seed)``: a standard error that all seeds share.
    """

    claim: str  # a to e
    regime: str
    statement: str
    measure: str
    unit: str
    shown_in: str
    pair: Callable[[SeedResult], tuple[float, float]]
    lower_is_better: bool = False
    error: Callable[[SeedResult], float] | None = None
    premise: bool = False  # what a claim is made under: shown beside it, never counted for it


@dataclass(frozen=True)
class Verdict:
    """One line with its numbers."""

    line: Line
    effects: list[float]  # by seed
    effect: float
    low: float
    high: float
    first: float  # means over seeds of the two values compared
    second: float
    verdict: str


def judge(line: Line, seeds: Sequence[SeedResult]) -> Verdict:
    """Effect, interval and verdict over at least two seeds; an error that is NaN shows nothing."""
    pairs = np.array([line.pair(seed) for seed in seeds], dtype=float)
    effects = (pairs[:, 1] - pairs[:, 0]) * (-1 if line.lower_is_better else 1)
    shared = float(np.mean([line.error(seed) for seed in seeds])) if line.error else 0.0
    error = float(np.hypot(effects.std(ddof=1) / np.sqrt(len(effects)), shared))
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(effects) - 1)) * error
    effect = float(effects.mean())
    verdict = HOLDS if effect - half > 0 else CONTRADICTED if effect + half < 0 else NOT_SHOWN
    first, second = pairs.mean(0).tolist()
    return Verdict(line, effects.tolist(), effect, effect - half, effect + half, first, second, verdict)


def lines_of(perfect: Reference | None) -> list[Line]:
    """Every line; without a perfect denoiser (the reader's own videos) those that need it are left out."""
    return [*(_leakage(perfect) if perfect else []), *_earlier(), *_analytic(), *_timenoise(), *_both()]


def _leakage(perfect: Reference) -> list[Line]:
    def line(weights: str, regime: str, measure: str, field: str) -> Line:
        def error(seed: SeedResult) -> float:
            of_clips = np.mean(getattr(seed.probes[weights], f"{field}_error"))
            return float(np.hypot(np.mean(getattr(perfect, f"{field}_error")), of_clips))

        return Line(
            "a", regime, "one-step predictions of a naive fine-tune move less than a perfect denoiser's", measure,
            "share of the clips' motion", "leakage.png",
            lambda seed: (_mean_of(seed, weights, field), float(np.mean(getattr(perfect, field)))), error=error,
        )  # fmt: skip

    regimes = ((NAIVE, "all clips"), (FEW_NAIVE, "few clips"))
    return [line(*each, *measure) for each in regimes for measure in PROBED.items()]


def _earlier() -> list[Line]:
    steps = (("standard", "mend", "from T to M"), ("mend", "early", "from M to a far smaller M"))
    return [
        Line(
            "b", regime, "a smaller M raises motion", "motion", "px a frame", "start_grid.png",
            _runs("motion_px", Sampling(NAIVE, "standard", before), Sampling(NAIVE, "standard", after)),
        )
        for before, after, regime in steps
    ]  # fmt: skip


def _analytic() -> list[Line]:
    lines = []
    for start, regime in (("mend", "at M"), ("early", "at a far smaller M")):
        standard, analytic = Sampling(NAIVE, "standard", start), Sampling(NAIVE, "analytic", start)
        pairs = {
            "FVD": ("distance", True, _runs("fvd", standard, analytic)),
            "Fréchet, PCA": ("distance", True, _runs("fd_pca", standard, analytic)),
            "motion error": ("px a frame", True, _motion_errors(standard, analytic)),
            "first frame": ("dB", False, _runs("first_frame", standard, analytic)),
        }
        lines += [
            Line(
                "c", regime, "Analytic-Init is better than the standard start at the same M", measure, unit,
                "start_grid.png", pair, lower,
            )
            for measure, (unit, lower, pair) in pairs.items()
        ]  # fmt: skip
    return lines


def _timenoise() -> list[Line]:
    lines = [
        Line(
            "d", "few clips", "on few clips the naive model memorises: unseen clips are predicted worse than after all",
            "squared error of one-step predictions of unseen clips", "latents squared", "",
            lambda seed: (_mean_of(seed, NAIVE, "squared_error"), _mean_of(seed, FEW_NAIVE, "squared_error")),
            premise=True,
        ),
        Line(
            "d", "few clips", "on few clips the naive model memorises: its training loss falls below that on all",
            "final training loss", "loss", "",
            lambda seed: (seed.final_loss[NAIVE], seed.final_loss[FEW_NAIVE]), True, premise=True,
        ),
    ]  # fmt: skip
    for naive, noised, regime in ((NAIVE, TIMENOISE, "all clips"), (FEW_NAIVE, FEW_TIMENOISE, "few clips")):
        lines += [
            Line(
                "d", regime, "TimeNoise leaks less than the naive fine-tune", measure, "share of the clips' motion",
                "leakage.png",
                lambda seed, naive=naive, noised=noised, field=field: (
                    _mean_of(seed, naive, field), _mean_of(seed, noised, field),
                ),
            )
            for measure, field in PROBED.items()
        ]  # fmt: skip
        lines += _compared("d", regime, "TimeNoise is better than the naive fine-tune", naive, noised, "standard")
    return lines


def _both() -> list[Line]:
    statement = "both mends together are better than a naive fine-tune from the standard start"
    return [
        *_compared("e", "all clips", statement, NAIVE, TIMENOISE, "mend"),
        *_compared("e", "few clips", statement, FEW_NAIVE, FEW_TIMENOISE, "mend"),
    ]


def _compared(claim: str, regime: str, statement: str, naive: str, noised: str, start: str) -> list[Line]:
    first = Sampling(naive, "standard", "standard")
    second = Sampling(noised, "standard" if start == "standard" else "analytic", start)
    return [
        Line(claim, regime, statement, "motion", "px a frame", "table3.png", _runs("motion_px", first, second)),
        Line(claim, regime, statement, "FVD", "distance", "table3.png", _runs("fvd", first, second), True),
        Line(claim, regime, statement, "Fréchet, PCA", "distance", "table3.md", _runs("fd_pca", first, second), True),
    ]


def _runs(metric: str, first: Sampling, second: Sampling) -> Callable[[SeedResult], tuple[float, float]]:
    return lambda seed: (seed.runs[first.name][metric], seed.runs[second.name][metric])


def _motion_errors(first: Sampling, second: Sampling) -> Callable[[SeedResult], tuple[float, float]]:
    pair = _runs("motion_px", first, second)
    return lambda seed: tuple(abs(value - seed.real_motion) for value in pair(seed))


def _mean_of(seed: SeedResult, weights: str, field: str) -> float:
    """Of the probe times."""
    return float(np.mean(getattr(seed.probes[weights], field)))
