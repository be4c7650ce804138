"""The moving average of the weights, which is what a training hands on."""

import torch
from torch import Tensor, nn


class Ema:
    """``decay`` of the average is kept each step; 0: the average is the weights themselves, and takes no memory."""

    def __init__(self, module: nn.Module, decay: float):
        self._module, self._decay = module, decay
        self._average = {name: value.detach().clone() for name, value in self._weights().items()} if decay else None

    def _weights(self) -> dict[str, Tensor]:
        return self._module.state_dict()

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        for name, value in self._weights().items() if self._average is not None else ():
            if value.is_floating_point():
                self._average[name].lerp_(value, 1 - self._decay)
            else:
                self._average[name].copy_(value)

    def state_dict(self) -> dict[str, Tensor]:
        """What must be saved beside the weights."""
        return self._average or {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for name, value in state.items():
            self._average[name].copy_(value)

    def into_module(self) -> None:
        """Give the module the average."""
        if self._average is not None:
            self._module.load_state_dict(self._average)
