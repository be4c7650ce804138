"""One batch of conditions to videos."""

import torch

from pipeline.encoders.frozen import to_pixels, to_uint8
from pipeline.sampling.generate import Generator, image_conditions
from pipeline.seeding import torch_generator


@torch.inference_mode()
def sample_batch(generator: Generator, encoders, clips, items, seed: int, device: str):
    """Videos uint8 (B, F, H, W, 3) and what the model was told of each, for ``items`` of evaluation.conditions.

    Noise comes from (seed, condition id, replicate) alone: every run row starts from the same, and a clip does not
    depend on its batch.
    """
    backbone = generator.backbone
    frames = to_pixels(clips.frames([item.position for item in items])[:, 0]).to(device)
    fps = torch.tensor([clips.fps[item.position] for item in items])
    prompts = [clips.captions[item.position] for item in items]
    drawn = [torch_generator(seed, "picture", item.condition, item.seed) for item in items]
    conditions, latents = image_conditions(backbone, encoders, frames, prompts, fps, generator.switches, drawn)
    null = encoders.null(*frames.shape[-2:])
    frames_per_clip = backbone.frames
    channels, height, width = latents.shape[1:]
    shape = (channels, frames_per_clip, height, width)
    sources = [torch_generator(seed, "sample", item.condition, item.seed) for item in items]
    made = generator(conditions, null["text"], null[backbone.image_input][None], shape, sources, device)
    videos = to_uint8(encoders.decode(made).transpose(1, 2))
    told = [
        {name: round(float(value[i]), 6) for name, value in
         (("fps", conditions.fps), ("motion_bucket", conditions.motion_bucket), ("noise_level", conditions.noise_level))
         if value is not None}
        for i in range(len(items))
    ]  # fmt: skip
    return videos, told
