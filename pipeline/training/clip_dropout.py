"""Dropout whose masks are drawn clip by clip, so that they do not depend on who shares a clip's batch.

A mask is drawn from (seed of the clip in this step, place of the layer): the same on any process, in a batch of any
size, and when gradient checkpointing computes a block a second time.
"""

import torch
from torch import Tensor, nn

from pipeline.seeding import seed_for


class ClipDropout(nn.Dropout):
    """In place of an nn.Dropout of probability ``p``; ``name`` tells it from the other layers of the network.

    The first axis of its input is the clip, or a clip's frames or pixels one after another.
    """

    def __init__(self, p: float, name: str):
        super().__init__(p)
        self._name = name
        self.seeds: list[int] = []  # of the clips of the batch

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        kept = torch.empty(len(self.seeds), x.numel() // len(self.seeds), dtype=torch.bool, device=x.device)
        generator = torch.Generator(x.device)
        for row, seed in zip(kept, self.seeds, strict=True):
            row.bernoulli_(1 - self.p, generator=generator.manual_seed(seed_for(seed, self._name)))
        return x * kept.view(x.shape) * (1 / (1 - self.p))


class ClipDropouts:
    """Replaces every active nn.Dropout of ``network``; ``seed`` then sets the clips before each pass."""

    def __init__(self, network: nn.Module):
        for name, parent in list(network.named_modules()):
            for key, child in parent.named_children():
                if type(child) is nn.Dropout and child.p > 0:
                    setattr(parent, key, ClipDropout(child.p, f"{name}.{key}").train(child.training))
        self._layers = [layer for layer in network.modules() if isinstance(layer, ClipDropout)]

    def seed(self, seeds: list[int]) -> None:
        """One seed a clip of the batch."""
        for layer in self._layers:
            layer.seeds = seeds
