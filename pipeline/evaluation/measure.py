"""Features to numbers: each with its count and its spread."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pipeline.errors import PipelineError
from pipeline.evaluation.feature_store import MEASURES, FeatureSet
from pipeline.evaluation.frechet import frechet_distance
from pipeline.evaluation.inception import inception_score
from pipeline.evaluation.metric_file import METRICS, Measurement, Value
from pipeline.seeding import numpy_generator


@dataclass(frozen=True)
class MeasureSettings:
    """How numbers are formed."""

    seed: int
    minimum: int  # clips a set, below which no number is given
    allow_few: bool  # give numbers below the minimum all the same
    subsets: int  # disjoint subsets for the spread where there is one sampling seed
    is_splits: int  # the inception score is the mean over this many disjoint splits


def measure(samples: FeatureSet, reference: FeatureSet, settings: MeasureSettings) -> Measurement:
    """Every metric of ``samples``, Frechet distances to ``reference``.

    Value: mean over sampling seeds, each on all its clips. Spread: standard deviation over the seeds, or, where there
    is one, over disjoint subsets (whose smaller size makes Frechet distances larger and noisier: the spread is on the
    safe side). A metric is left out where there are too few clips. Raises PipelineError where detectors differ.
    """
    if samples.provenance != reference.provenance:
        raise PipelineError(
            "samples and reference come from different detectors or protocols; run the stage features again"
        )
    replicates = [samples.rows(_where(samples.seeds, seed)) for seed in sorted(set(samples.seeds))]
    smallest = min(len(part) for part in replicates)
    several = len(replicates) > 1
    parts = replicates if several else _disjoint(replicates[0], settings)
    # A subset is no larger than one split of the inception score need be: splitting it again would leave single clips.
    asked = samples.details.get("motion_bucket")
    of_part = _functions(reference, settings, settings.is_splits if several else 1, asked)
    values = {}
    for name, function in _functions(reference, settings, settings.is_splits, asked).items():
        if min(smallest, len(reference)) < (2 if settings.allow_few else max(settings.minimum, 2)):
            continue
        value = float(np.mean([function(part) for part in replicates]))
        enough = len(parts) > 1 and min(len(part) for part in parts) > 1
        values[name] = Value(value, float(np.std([of_part[name](part) for part in parts], ddof=1)) if enough else None)
    return Measurement(
        values=values,
        count=smallest,
        seeds=len(replicates),
        reference_count=len(reference),
        minimum=settings.minimum,
        spread_over="seeds" if several else "subsets",
        spread_count=min(len(part) for part in parts),
        provenance=reference.provenance,
        details=[samples.details, reference.details],
    )


def _functions(
    reference: FeatureSet, settings: MeasureSettings, is_splits: int, asked: float | None
) -> dict[str, Callable[[FeatureSet], float]]:
    functions = {
        "fvd": lambda part: frechet_distance(part.arrays["fvd"], reference.arrays["fvd"]),
        "fd_pca": lambda part: frechet_distance(part.arrays["pca"], reference.arrays["pca"]),
        "is": lambda part: _split_inception_score(part, settings.seed, is_splits),
        **{name: lambda part, name=name: float(part.arrays[name].mean()) for name in MEASURES},
    }
    if asked is not None:
        functions["motion_error"] = lambda part: float(np.abs(part.arrays["motion_score"] - asked).mean())
    assert tuple(functions) == METRICS[: len(functions)]
    return functions


def _split_inception_score(part: FeatureSet, seed: int, count: int) -> float:
    splits = np.array_split(_shuffled(part, seed, "is splits"), min(count, len(part)))
    return float(np.mean([inception_score(part.arrays["is"][split]) for split in splits]))


def _disjoint(part: FeatureSet, settings: MeasureSettings) -> list[FeatureSet]:
    return [part.rows(rows) for rows in np.array_split(_shuffled(part, settings.seed, "subsets"), settings.subsets)]


def _shuffled(part: FeatureSet, *purpose: object) -> np.ndarray:
    """Positions in a random order of the ids, the same however the set is ordered on disk."""
    by_id = np.argsort(np.array(part.ids, dtype=str), kind="stable")
    return by_id[numpy_generator("measure", *purpose).permutation(len(part))]


def _where(seeds: list[int], seed: int) -> np.ndarray:
    return np.flatnonzero(np.array(seeds) == seed)
