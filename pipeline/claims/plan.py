"""What one seed makes for the claims: weights, and samples of them."""

from collections.abc import Mapping
from dataclasses import dataclass

NAIVE, TIMENOISE = "naive", "timenoise"
FEW_NAIVE, FEW_TIMENOISE = "few-naive", "few-timenoise"


@dataclass(frozen=True)
class Tuning:
    """A fine-tuning from the seed's own start."""

    few: bool  # on few clips
    noised: bool  # with TimeNoise


@dataclass(frozen=True)
class Sampling:
    """A set of samples; ``start``: standard (the largest), mend or early."""

    weights: str
    init: str
    start: str

    @property
    def name(self) -> str:
        return f"{self.weights}-{self.init}-{self.start}"


TUNINGS: Mapping[str, Tuning] = {
    NAIVE: Tuning(few=False, noised=False),
    TIMENOISE: Tuning(few=False, noised=True),
    FEW_NAIVE: Tuning(few=True, noised=False),
    FEW_TIMENOISE: Tuning(few=True, noised=True),
}
SAMPLINGS = (
    *(Sampling(weights, "standard", "standard") for weights in TUNINGS),
    *(Sampling(NAIVE, init, start) for start in ("mend", "early") for init in ("standard", "analytic")),
    *(Sampling(weights, "analytic", "mend") for weights in (TIMENOISE, FEW_TIMENOISE)),
)


def start_values(design, process) -> dict[str, float]:
    """Starts by their names in ``Sampling``: fractions of T (VP), or sigmas (VE)."""
    largest = 1.0 if process.kind == "vp" else process.sigma_max
    return {"standard": largest, "mend": design.starts.mend, "early": design.starts.early}
