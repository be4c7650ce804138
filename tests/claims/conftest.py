"""Invented results of seeds."""

import pytest

from pipeline.claims.plan import SAMPLINGS, TUNINGS
from pipeline.claims.seed_file import ProbeResult, SeedResult

METRICS = {
    "fvd": 20.0, "fd_pca": 40.0, "is": 2.0, "motion_score": 4.0, "motion_px": 0.1, "temporal_consistency": 35.0,
    "image_alignment": 25.0, "first_frame": 20.0,
}  # fmt: skip


def invent(seed: int, ratio: float = 0.4, **changed) -> SeedResult:
    """All weights and starts alike; ``changed``: ``runs={"naive-standard-mend": {"motion_px": 0.2}}`` and the like."""
    runs = {each.name: {**METRICS, **changed.get("runs", {}).get(each.name, {})} for each in SAMPLINGS}
    probes = {name: ProbeResult([ratio] * 2, [0.01] * 2, [ratio / 2] * 2, [0.01] * 2, [0.5] * 2) for name in TUNINGS}
    probes |= changed.get("probes", {})
    detectors = [{"role": "fvd", "name": "demo-conv3d", "hash": "a" * 64, "protocol": "p"}]
    loss = {**dict.fromkeys(TUNINGS, 0.3), **changed.get("final_loss", {})}
    return SeedResult(seed, runs, probes, loss, 0.2, 256, [0.7, 0.9], detectors)


@pytest.fixture
def seed_result():
    """The function that invents one."""
    return invent
