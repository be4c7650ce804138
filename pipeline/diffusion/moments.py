"""E[X0] and tr Cov(X0) / d by the method of moments, in float64, one pass, mergeable in any order."""

import torch
from torch import Tensor

from pipeline.errors import PipelineError


class MomentsAccumulator:
    """Running mean and sum of squared deviations, merged as Chan et al. (1979) do.

    ``mean``: one value a latent element, (C, F, h, w); ``variance``: one scalar, the average variance of an element.
    """

    def __init__(self):
        self.count = 0
        self._mean: Tensor | None = None
        self._squares = 0.0  # over elements and clips
        self._within = 0.0  # variance that the encoder's posterior adds, summed over clips

    def update(self, batch: Tensor, within: Tensor | None = None) -> None:
        """Add latents (B, C, F, h, w); ``within``: variance of each element around them, same shape.

        Raises PipelineError on values that are not finite.
        """
        batch = batch.double()
        if not torch.isfinite(batch).all() or (within is not None and not torch.isfinite(within).all()):
            rows = (~torch.isfinite(batch).flatten(1).all(1)).nonzero().flatten().tolist()
            raise PipelineError(
                f"moments: latents are not finite (rows {rows} of a batch); look at the clips and the VAE"
            )
        other = MomentsAccumulator()
        other.count = len(batch)
        other._mean = batch.mean(0)
        other._squares = (batch - other._mean).square().sum().item()
        other._within = within.double().flatten(1).mean(1).sum().item() if within is not None else 0.0
        self.merge(other)

    def merge(self, other: "MomentsAccumulator") -> None:
        """Add what another accumulator has seen. Raises PipelineError where the shapes differ."""
        if other.count == 0:
            return
        if self.count == 0:
            self.count, self._mean = other.count, other._mean.clone()
            self._squares, self._within = other._squares, other._within
            return
        if self._mean.shape != other._mean.shape:
            raise PipelineError(
                f"moments: latents of shapes {tuple(self._mean.shape)} and {tuple(other._mean.shape)} do not mix"
            )
        total = self.count + other.count
        delta = other._mean - self._mean
        self._squares += other._squares + delta.square().sum().item() * self.count * other.count / total
        self._mean = self._mean + delta * (other.count / total)
        self._within += other._within
        self.count = total

    def state(self) -> dict[str, Tensor]:
        """Everything it has seen, float64 and exact, to be merged elsewhere."""
        self._require_some()
        scalars = torch.tensor([self.count, self._squares, self._within], dtype=torch.float64)
        return {"mean": self._mean, "count_squares_within": scalars}

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> "MomentsAccumulator":
        """The accumulator that gave ``state``."""
        made = cls()
        count, made._squares, made._within = state["count_squares_within"].tolist()
        made.count, made._mean = int(count), state["mean"]
        return made

    @property
    def mean(self) -> Tensor:
        self._require_some()
        return self._mean

    @property
    def variance(self) -> float:
        self._require_some()
        return self._squares / (self.count * self._mean.numel()) + self._within / self.count

    def _require_some(self) -> None:
        if self.count == 0:
            raise PipelineError("moments: no clip was seen; moments.clips and the latents decide how many there are")
