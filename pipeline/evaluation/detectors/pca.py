"""A second embedding for Frechet distances: principal components of coarse clips, nothing learnt but their directions.

Learnt features and this one can disagree, and where they do neither number should be read alone.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from pipeline.errors import PipelineError
from pipeline.evaluation.detectors.interface import Detector, Identity
from pipeline.evaluation.detectors.weights import weights_hash

WEIGHTS = "model.safetensors"
COARSE = (8, 16, 16)  # frames, height, width that clips are averaged down to


class DemoPca(Detector):
    """Projection (B, components) of the coarse clip on the directions of largest variance of real clips."""

    def __init__(self, mean: Tensor, components: Tensor):
        self._mean, self._components = mean, components
        self.identity = Identity(
            name="demo-pca",
            hash=weights_hash({"mean": mean, "components": components}),
            protocol=f"averaged to {'x'.join(map(str, COARSE))} (frames, height, width), {len(components)} components "
            "of this project's demo clips",
        )

    @classmethod
    def fit(cls, coarse: Tensor, components: int) -> "DemoPca":
        """From coarse clips (n, d), see ``coarsen``; fewer components where there are fewer clips."""
        mean = coarse.double().mean(dim=0)
        directions = torch.linalg.svd(coarse.double() - mean, full_matrices=False).Vh[:components]
        # An SVD leaves signs open; fixed ones keep the hash the same from machine to machine as far as rounding does.
        largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
        return cls(mean.float(), (directions * largest.sign()).float().contiguous())

    def features(self, video: Tensor) -> Tensor:
        return (coarsen(video) - self._mean) @ self._components.T

    def logits(self, video: Tensor) -> Tensor:
        raise PipelineError("demo-pca has no classes; the inception score needs a classifier")

    def to(self, device: str) -> "DemoPca":
        self._mean, self._components = self._mean.to(device), self._components.to(device)
        return self

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"mean": self._mean, "components": self._components}, folder / WEIGHTS)

    @classmethod
    def load(cls, folder: Path) -> "DemoPca":
        """Raises PipelineError where the file is missing or holds something else."""
        try:
            state = load_file(folder / WEIGHTS)
            return cls(state["mean"], state["components"])
        except (FileNotFoundError, KeyError) as error:
            raise PipelineError(f"{folder} holds no demo-pca detector ({error}); run the stage detectors") from None


def coarsen(video: Tensor) -> Tensor:
    """Clips (B, 3, F, H, W) averaged to ``COARSE`` and flattened, (B, 3 * prod(COARSE))."""
    return functional.adaptive_avg_pool3d(video, COARSE).flatten(1)
