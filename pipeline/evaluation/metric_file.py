"""The JSON of one run's metrics: flat numbers, as ``dvc metrics`` shows them, and in lists what DVC should not show."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.errors import PipelineError
from pipeline.evaluation.feature_store import MEASURES

METRICS = ("fvd", "fd_pca", "is", *MEASURES, "motion_error")  # the last for what was asked for a motion alone
COUNTS = ("count", "seeds", "reference_count", "minimum", "spread_count")


@dataclass(frozen=True)
class Value:
    """A number and the standard deviation beside it, None where there are too few clips for one."""

    value: float
    spread: float | None


@dataclass(frozen=True)
class Measurement:
    """Metrics of one set of clips; a metric missing from ``values`` had too few clips."""

    values: Mapping[str, Value]
    count: int  # clips a sampling seed
    seeds: int
    reference_count: int
    minimum: int  # clips below which no number is given
    spread_over: Literal["seeds", "subsets"]
    spread_count: int  # clips in each set that the spread is over
    provenance: list[dict]  # detectors: role, name, hash, protocol
    details: list[dict]  # of the samples and the reference: fps, frames, size


def write_metrics(path: Path, measurements: Mapping[str, Measurement]) -> None:
    """Write one measurement a name; a single one named "" lies flat at the top."""
    document = {name: _to_json(measurement) for name, measurement in measurements.items()}
    document = document[""] if set(document) == {""} else document
    path.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")


def read_metrics(path: Path) -> dict[str, Measurement]:
    """Read what ``write_metrics`` wrote; raises PipelineError where the file is missing or damaged."""
    try:
        document = json.loads(path.read_text())
        document = {"": document} if "count" in document else document
        return {name: _from_json(entry) for name, entry in document.items()}
    except (FileNotFoundError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise PipelineError(
            f"{path} is no metric file ({error!r}); run the stage metrics for {path.stem} again"
        ) from None


def _to_json(measurement: Measurement) -> dict:
    numbers = {}
    for name, value in measurement.values.items():
        numbers[name] = _rounded(value.value)
        if value.spread is not None:
            numbers[f"{name}_spread"] = _rounded(value.spread)
    return {
        **numbers,
        **{name: getattr(measurement, name) for name in COUNTS},
        "spread_over": [measurement.spread_over],
        "provenance": measurement.provenance,
        "details": measurement.details,
    }


def _rounded(number: float) -> float:
    # Linear algebra libraries differ in the last digits from run to run; the ledger should see the same file.
    return float(f"{number:.10g}")


def _from_json(entry: dict) -> Measurement:
    return Measurement(
        values={name: Value(entry[name], entry.get(f"{name}_spread")) for name in METRICS if name in entry},
        **{name: entry[name] for name in COUNTS},
        spread_over=entry["spread_over"][0],
        provenance=entry["provenance"],
        details=entry["details"],
    )
