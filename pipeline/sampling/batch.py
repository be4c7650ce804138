"""One batch of conditions to videos."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from pipeline.encoders.frozen import to_pixels, to_uint8
from pipeline.sampling.generate import Generator, image_conditions
from pipeline.seeding import torch_generator


@dataclass(frozen=True)
class Picture:
    """What goes with a picture; id and replicate name its noise."""

    id: str
    replicate: int
    prompt: str
    fps: float


def sample_batch(generator: Generator, encoders, clips, items, seed: int, device: str):
    """Videos uint8 (B, F, H, W, 3) and what the model was told of each, for ``items`` of evaluation.conditions."""
    frames = clips.frames([item.position for item in items])[:, 0]
    pictures = [
        Picture(item.condition, item.seed, clips.captions[item.position], clips.fps[item.position]) for item in items
    ]
    return make_videos(generator, encoders, frames, pictures, seed, device)


@torch.inference_mode()
def make_videos(generator: Generator, encoders, frames: np.ndarray, pictures: list[Picture], seed: int, device: str):
    """Videos uint8 (B, F, H, W, 3) of ``frames``, uint8 (B, H, W, 3), and what the model was told of each.

    Noise comes from (seed, id, replicate) alone: every run row starts from the same, and a clip does not depend on its
    batch.
    """
    backbone = generator.backbone
    pixels = to_pixels(frames).to(device)
    fps = torch.tensor([picture.fps for picture in pictures])

    def sources(purpose: str) -> list[torch.Generator]:
        return [torch_generator(seed, purpose, picture.id, picture.replicate) for picture in pictures]

    conditions, latents = image_conditions(
        backbone, encoders, pixels, [picture.prompt for picture in pictures], fps, generator.switches,
        sources("picture"),
    )  # fmt: skip
    if generator.motion_bucket is not None:
        conditions = replace(conditions, motion_bucket=torch.full_like(conditions.fps, generator.motion_bucket))
    null = encoders.null(*pixels.shape[-2:])
    channels, height, width = latents.shape[1:]
    shape = (channels, backbone.frames, height, width)
    null_image = null[backbone.image_input][None]
    made = generator(conditions, null["text"], null_image, shape, sources("sample"), device)
    videos = to_uint8(encoders.decode(made).transpose(1, 2))
    told = [
        {name: round(float(value[i]), 6) for name, value in
         (("fps", conditions.fps), ("motion_bucket", conditions.motion_bucket), ("noise_level", conditions.noise_level))
         if value is not None}
        for i in range(len(pictures))
    ]  # fmt: skip
    return videos, told
