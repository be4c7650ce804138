"""The perfect denoiser of one scene of the embedded world: it knows all but the motion, and weighs them all by X_t."""

import numpy as np
import torch
from torch import Tensor

from pipeline.diffusion.leakage import posterior_mean, probe_time
from pipeline.encoders.frozen import to_pixels, to_uint8
from pipeline.seeding import torch_generator


class PerfectProbe:
    """``frames`` uint8 (K + 1, F, H, W, 3): the clip itself, then the scene with other motions, all as likely."""

    def __init__(self, encoders, schedule, frames: np.ndarray, name: str, seed: int, batch_size: int, device: str):
        self.encoders, self.schedule, self.name, self.seed = encoders, schedule, name, seed
        with torch.inference_mode():
            parts = to_pixels(frames).to(device).split(batch_size)
            mean = torch.cat([encoders.encode(part.flatten(0, 1))[0] for part in parts])
            self.candidates = mean.unflatten(0, (len(frames), -1)).transpose(1, 2) * encoders.scaling_factor

    @property
    def x0(self) -> Tensor:
        """The clip itself, (1, C, F, h, w)."""
        return self.candidates[:1]

    @torch.inference_mode()
    def predict(self, time: float) -> Tensor:
        """E[X0 | X_t], (1, C, F, h, w)."""
        noise = torch.randn(self.x0.shape, generator=torch_generator(self.seed, "perfect", self.name, time))
        t = torch.tensor([probe_time(self.schedule, time)])
        return posterior_mean(self.schedule, self.candidates, self.schedule.add_noise(self.x0, noise.to(self.x0), t), t)

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> np.ndarray:
        """(1, C, F, h, w) to uint8 (1, F, H, W, 3)."""
        return to_uint8(self.encoders.decode(latents).transpose(1, 2))
