"""What one seed measured, as JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.errors import PipelineError


@dataclass(frozen=True)
class ProbeResult:
    """One-step predictions of test clips from the probe times of the design."""

    ratio: list[float]  # their motion over the clips' own, by time
    ratio_error: list[float]  # standard error over clips
    followed: list[float]  # share of the clips' own motion that they follow
    followed_error: list[float]
    squared_error: list[float]  # of the latents, mean over clips and elements


@dataclass(frozen=True)
class SeedResult:
    """Numbers of one seed; motion in pixels a frame."""

    seed: int
    runs: Mapping[str, Mapping[str, float]]  # by Sampling.name and metric
    probes: Mapping[str, ProbeResult]  # by weights
    final_loss: Mapping[str, float]  # by weights: mean training loss of the last steps
    real_motion: float  # of the real clips that condition the samples
    clips: int
    probe_times: list[float]
    provenance: list[dict]


def write_seed(path: Path, result: SeedResult) -> None:
    """Numbers are cut where linear algebra libraries begin to differ from run to run."""
    path.write_text(json.dumps(_rounded(asdict(result)), indent=1) + "\n")


def read_seed(path: Path) -> SeedResult:
    """Raises PipelineError where the file is missing or damaged."""
    try:
        raw = json.loads(path.read_text())
        return SeedResult(**{**raw, "probes": {name: ProbeResult(**value) for name, value in raw["probes"].items()}})
    except (OSError, TypeError, ValueError, KeyError) as error:
        raise PipelineError(f"{path} holds no result of a seed ({error!r}); run claims_seed@{path.stem}") from None


def _rounded(node):
    if isinstance(node, dict):
        return {key: _rounded(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_rounded(value) for value in node]
    return float(f"{node:.10g}") if isinstance(node, float) else node
