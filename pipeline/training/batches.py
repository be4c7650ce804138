"""What a step sees of its clips: times, noises and conditions, each drawn from a generator of (seed, step, clip).

Naive and TimeNoise fine-tunes thus see the same clips, times, noises and dropped conditions; only the noise on the
condition differs. Nothing depends on how many processes share the batch.
"""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from pipeline.backbones.interface import Backbone, Conditions, repeat_frames
from pipeline.data.latents import LatentSet
from pipeline.diffusion.timenoise import ConditionNoise
from pipeline.errors import PipelineError
from pipeline.seeding import seed_for, torch_generator

REPLACED = 0.95  # probability that the switch token_noise: coin replaces the tokens


@dataclass
class Batch:
    """What one step computes on; every tensor has the batch in front."""

    ids: list[str]
    x0: Tensor  # (B, C, F, h, w), model scale
    noise: Tensor
    t: Tensor
    image_tokens: Tensor  # (B, T, D) or (B, 1, D): before the family's projector
    conditions: Conditions  # image_context is filled in by the step, inside the gradient
    drop_text: Tensor  # (B,) bool
    drop_image: Tensor
    generators: list[torch.Generator]  # for the noise on the condition
    dropout_seeds: list[int]  # for the network's own dropout
    replace_tokens: Tensor  # (B,) bool, one value a step: switch token_noise

    def conditions_with(self, image_context: Tensor) -> Conditions:
        """The conditions once the image has passed the family's projector."""
        return replace(self.conditions, image_context=image_context)

    def map(self, change) -> "Batch":
        """``change`` applied to every tensor."""
        changed = {item.name: getattr(self, item.name) for item in fields(self)}
        for name, value in changed.items():
            if isinstance(value, Tensor):
                changed[name] = change(value)
        changed["conditions"] = self.conditions.map(change)
        return Batch(**changed)

    def to(self, device) -> "Batch":
        """Tensors on ``device``; those in pinned memory are copied while the caller goes on."""
        return self.map(lambda value: value.to(device, non_blocking=True))


def assemble(backbone: Backbone, schedule, latents: LatentSet, settings, step: int, positions: list[int]) -> Batch:
    """Read and draw one step's batch; ``settings`` is an Optimisation group of params.yaml."""
    tokens = backbone.image_input
    rows = latents.batch(positions, ("mean", "logvar", "text", "fps"))
    ids = [latents.ids[position] for position in positions]
    drawn = [
        _draw(
            schedule,
            rows["mean"][i].shape,
            backbone.conditional_frame,
            torch_generator(settings.seed, "step", step, name),
        )
        for i, name in enumerate(ids)
    ]
    posterior, noise, t, frame, coin = (torch.stack(parts) for parts in zip(*drawn, strict=True))
    if frame.max() >= latents.shape(tokens)[0]:
        raise PipelineError(
            f"{latents.folder.name}: these latents hold the picture of the first frame alone, but {backbone.family} is "
            "conditioned on any; set latents.<name>.picture_frames to all"
        )
    x0 = (rows["mean"] + (0.5 * rows["logvar"]).exp() * posterior) * latents.scaling_factor
    each = torch.arange(len(ids))
    image_latent = x0[each, :, frame] * backbone.image_latent_factor(latents.scaling_factor)
    dropout = settings.dropout
    drop_text = coin < dropout.text + dropout.both
    drop_image = (coin >= dropout.text) & (coin < dropout.text + dropout.both + dropout.image)
    step_coin = torch.rand((), generator=torch_generator(settings.seed, "tokens", step))
    return Batch(
        ids=ids,
        x0=x0,
        noise=noise,
        t=t,
        image_tokens=latents.pictures(positions, tokens, frame.tolist()),
        conditions=backbone.conditions(text=rows["text"], image_latent=image_latent, fps=rows["fps"]),
        drop_text=drop_text,
        drop_image=drop_image,
        generators=[torch_generator(settings.seed, "condition", step, name) for name in ids],
        dropout_seeds=[seed_for(settings.seed, "dropout", step, name) for name in ids],
        replace_tokens=step_coin.lt(REPLACED).expand(len(ids)),
    )


def _draw(schedule, shape, conditional_frame: str, generator: torch.Generator) -> tuple[Tensor, ...]:
    frames = shape[1]
    return (
        torch.randn(shape, generator=generator),
        torch.randn(shape, generator=generator),
        schedule.sample_time(1, generator)[0],
        torch.randint(0, frames, (), generator=generator) if conditional_frame == "random" else torch.tensor(0),
        torch.rand((), generator=generator),
    )


def noise_conditions(
    backbone: Backbone, conditions: Conditions, condition_noise: ConditionNoise, batch: Batch, schedule, switches
) -> Conditions:
    """Noise every condition that the family names in ``noised_conditions``, each with a level of its own (eq. 6).

    A level that is told is one for all of them. ``switches`` of pipeline/diffusion/source.py.
    """
    changed, told = {}, None
    fraction, noise_std = schedule.fraction(batch.t).cpu(), schedule.noise_std(batch.t).cpu()
    for name in backbone.noised_conditions:
        value = getattr(conditions, name)
        tokens = name == "image_context"
        if tokens and not condition_noise.tokens:
            continue
        if not tokens and switches.image_noise == "frame":
            value = repeat_frames(value, backbone.frames)
        shape = [1] * (value.dim() - 1) if not tokens and switches.image_noise == "picture" else value.shape[1:]
        drawn = [
            (
                condition_noise.draw_level(fraction[i : i + 1], noise_std[i : i + 1], generator)[0],
                torch.randn(shape, generator=generator),
            )
            for i, generator in enumerate(batch.generators)
        ]
        level, noise = (torch.stack(parts) for parts in zip(*drawn, strict=True))
        if tokens and switches.token_noise == "coin":
            changed[name] = torch.where(batch.replace_tokens[:, None, None], noise.to(value), value)
            continue
        if condition_noise.told:
            told = level = level if told is None else told
        changed[name] = condition_noise.apply(value, level, noise)
        if backbone.told_noise_level == name:
            changed["noise_level"] = level.to(value.device)
    return replace(conditions, **changed)
