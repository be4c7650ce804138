"""Invented measurements for tables."""

import pytest

from pipeline.evaluation.metric_file import METRICS, Measurement, Value
from pipeline.reporting.rows import BACKBONES, ROWS, Run

DETECTORS = [
    {"role": "fvd", "name": "demo-conv3d", "hash": "a" * 64, "protocol": "p"},
    {"role": "motion", "name": "optical flow", "hash": "no weights", "protocol": "q"},
]


def invent(numbers: dict[str, tuple[float, float | None]], count=256, minimum=256, provenance=DETECTORS) -> Measurement:
    return Measurement(
        values={name: Value(*numbers[name]) for name in METRICS if name in numbers},
        count=count,
        seeds=1,
        reference_count=384,
        minimum=minimum,
        spread_over="subsets",
        spread_count=count // 4,
        provenance=list(provenance),
        details=[{"fps": [3.0]}, {"fps": [3.0]}],
    )


@pytest.fixture
def measurement():
    """The function that invents one."""
    return invent


@pytest.fixture
def runs():
    return {
        f"{backbone}-{train}-{init}": Run(
            f"{backbone}-{train}-{init}", backbone, f"{backbone}-{train}", init, 0.96, "table3"
        )
        for backbone in BACKBONES
        for init, train in ROWS
    }


@pytest.fixture
def measured(runs):
    return {
        name: invent(
            {
                "fvd": (10.0 + 3 * place, 1.0),
                "fd_pca": (100.0 + place, 5.0),
                "is": (2.0 + place / 100, 0.3),
                "motion_score": (8.0 + place, 0.5),
                "motion_px": (0.25, 0.02),
            }
        )
        for place, name in enumerate(runs)
    }


@pytest.fixture
def controls():
    numbers = {
        "fvd": (0.5, 0.1),
        "fd_pca": (3.0, 0.2),
        "is": (3.0, 0.2),
        "motion_score": (9.0, 0.2),
        "motion_px": (0.3, 0.01),
    }
    return {"real": invent(numbers), "repeated": invent({**numbers, "fvd": (50.0, 2.0), "motion_px": (0.0, 0.0)})}
