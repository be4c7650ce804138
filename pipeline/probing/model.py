"""One-step predictions of a backbone from real clips noised to t, under their clean first frames."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from pipeline.backbones.checkpoint import CONFIG
from pipeline.backbones.interface import Backbone
from pipeline.diffusion.leakage import probe_time
from pipeline.diffusion.source import SAMPLING, resolve
from pipeline.encoders.frozen import to_pixels, to_uint8
from pipeline.sampling.generate import image_conditions
from pipeline.seeding import torch_generator


def trained_process(weights: Path) -> dict:
    """The process that a checkpoint was trained with: a training may change its backbone's noise levels."""
    return json.loads((weights / CONFIG).read_text())["params"]["process"]


class ModelProbe:
    """``frames`` uint8 (B, F, H, W, 3) of the clips ``ids``, one batch; noise comes from (seed, id, time) alone."""

    def __init__(
        self, backbone: Backbone, encoders, schedule, frames: np.ndarray, ids: Sequence[str], captions, fps,
        seed: int, device: str,
    ):  # fmt: skip
        self.backbone, self.encoders, self.schedule, self.ids, self.seed = backbone, encoders, schedule, list(ids), seed
        pixels = to_pixels(frames).to(device)
        switches = resolve(SAMPLING, backbone.family, SimpleNamespace(source="paper", switches={}), "probe")
        with torch.inference_mode():
            mean = encoders.encode(pixels.flatten(0, 1))[0]
            self.x0 = mean.unflatten(0, (len(pixels), -1)).transpose(1, 2) * encoders.scaling_factor
            drawn = [torch_generator(seed, "picture", name, 0) for name in self.ids]
            self.conditions, _ = image_conditions(
                backbone, encoders, pixels[:, 0], list(captions), torch.tensor(fps), switches, drawn
            )

    @torch.inference_mode()
    def predict(self, time: float) -> Tensor:
        """X0 (B, C, F, h, w) as estimated at ``time`` (fraction of T, or sigma)."""
        shape = self.x0.shape[1:]
        noise = torch.stack(
            [torch.randn(shape, generator=torch_generator(self.seed, "probe", n, time)) for n in self.ids]
        ).to(self.x0)
        t = torch.full((len(noise),), probe_time(self.schedule, time))
        x_t = self.schedule.add_noise(self.x0, noise, t)
        scaled, model_time = self.schedule.model_input(x_t, t)
        output = self.backbone(scaled, model_time.to(noise.device), self.conditions)
        return self.schedule.x0_from_output(output.float(), x_t, t)

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> np.ndarray:
        """(B, C, F, h, w) to uint8 (B, F, H, W, 3)."""
        return to_uint8(self.encoders.decode(latents).transpose(1, 2))


def probes_of_clips(
    backbone: Backbone, encoders, schedule, clips, positions: Sequence[int], seed: int, batch_size: int, device: str
) -> Iterator[ModelProbe]:
    """The clips at ``positions`` of a ClipSet, a batch at a time: memory is bounded by a batch."""
    for begin in range(0, len(positions), batch_size):
        part = positions[begin : begin + batch_size]
        yield ModelProbe(
            backbone, encoders, schedule, clips.frames(part), [clips.ids[i] for i in part],
            [clips.captions[i] for i in part], [clips.fps[i] for i in part], seed, device,
        )  # fmt: skip
