"""How the noise on the condition rises over the times that a training really draws."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.diffusion.timenoise import ConditionNoise

BINS, DRAWS = 20, 40_000


@dataclass(frozen=True)
class LevelProfile:
    """Levels in ``BINS`` equally frequent ranges of t, lowest first; each (BINS,)."""

    time: Tensor  # median t of the range: step (VP) or sigma (VE)
    low: Tensor  # 5 % quantile of beta_s
    median: Tensor
    high: Tensor  # 95 %
    lowest: float  # median level of the lowest tenth of t
    highest: float  # of the highest

    @property
    def rise(self) -> float:
        """Median level in the highest tenth of t over that in the lowest; NaN where there is no noise."""
        return self.highest / self.lowest if self.lowest else float("nan")


def level_profile(schedule, noise: ConditionNoise, seed: int = 0) -> LevelProfile:
    """Levels of ``noise`` over draws of the schedule's own training distribution of t."""
    generator = torch.Generator().manual_seed(seed)
    t = schedule.sample_time(DRAWS, generator)
    level = noise.draw_level(schedule.fraction(t), schedule.noise_std(t), generator)
    order = t.argsort(stable=True)
    levels, times = level[order].double().reshape(BINS, -1), t[order].double().reshape(BINS, -1)
    low, median, high = levels.quantile(torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64), dim=1)
    tenth = DRAWS // 10
    lowest, highest = (part.median().item() for part in (levels.flatten()[:tenth], levels.flatten()[-tenth:]))
    return LevelProfile(times.median(1).values, low, median, high, lowest, highest)
