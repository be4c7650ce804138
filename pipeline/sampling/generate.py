"""From conditions to latents: start, guided denoiser, sampler of one run row."""

from dataclasses import replace

import torch
from torch import Tensor

from pipeline.backbones.interface import Backbone, Conditions
from pipeline.diffusion import analytic_init, guidance, samplers, start_times
from pipeline.diffusion.schedules import make_schedule
from pipeline.diffusion.source import SAMPLING, own_switches, resolve


def prepare_network(backbone: Backbone, sampling, device: str) -> Backbone:
    """The network as it samples: on its device, in its precision, compiled if asked. Changed in place.

    With bfloat16 weights the statistics of norms are still float32, inside PyTorch's kernels.
    """
    backbone.to(device, {"no": torch.float32, "bf16": torch.bfloat16}[sampling.precision])
    if sampling.compile:
        backbone.unet.compile()
    return backbone


class Generator:
    """One backbone with its sampling settings, start and initial distribution.

    ``sampling``: the group of params.yaml; ``start``: fraction of T (VP) or sigma (VE); ``init``: standard or analytic;
    ``mean`` (C, F, h, w) and ``variance`` are needed for analytic. ``motion_bucket``: asked of a model that is told
    one; None for its own.
    """

    def __init__(
        self,
        backbone: Backbone,
        process,
        sampling,
        start: float,
        init: str,
        mean: Tensor | None,
        variance: float | None,
        motion_bucket: float | None = None,
    ):
        self.motion_bucket = motion_bucket
        self.backbone, self.sampling, self.schedule = backbone, sampling, make_schedule(process)
        self.switches = switches = resolve(SAMPLING, backbone.family, sampling, "sampling")
        if self.schedule.kind == "vp":
            first = start_times.first_step(start, self.schedule.num_steps)
            last = first if switches.start == "first_step" else self.schedule.num_steps - 1
            self.times = start_times.vp_timesteps(last, sampling.steps, sampling.spacing, switches.rounding)
            self.initial = analytic_init.vp_initial(self.schedule, first, init, switches.analytic, mean, variance)
        else:
            sigmas = start_times.ve_sigmas(start, self.schedule.sigma_min, self.schedule.rho, sampling.steps)
            self.times = sigmas
            self.initial = analytic_init.ve_initial(
                start, init, switches.standard_std, switches.analytic, mean, variance
            )

    def describe(self) -> dict:
        """What is recorded beside every clip."""
        times = [round(float(value), 4) for value in self.times]
        left_out = {"kind", "steps", "seed", "batch_size", "source", "switches", "compile"}
        settings = self.sampling.model_dump(exclude=left_out)
        std = torch.as_tensor(self.initial[1]).square().mean().sqrt().item()
        switches = {name: getattr(self.switches, name) for name in own_switches(SAMPLING, self.backbone.family)}
        return {"sampler": self.sampling.kind, "times": times, "initial_std": std, **settings, **switches}

    @torch.inference_mode()
    def __call__(
        self,
        conditions: Conditions,
        null_text: Tensor,
        null_image: Tensor,
        shape: tuple[int, ...],
        generators: list,
        device: str,
    ) -> Tensor:
        """Latents (B, *shape) in model scale; ``null_image`` (1, T, D): frozen CLIP output of a grey picture."""
        conditions, dtype = conditions.to(device), self.backbone.dtype
        empty = self.backbone.unconditional(
            conditions, null_text.to(device), self.backbone.image_context(null_image.to(device, dtype))
        )
        x = analytic_init.draw_initial(*self.initial, shape, generators).float().to(device)
        scale = self._guidance_scale(shape[1]).to(device)
        both = Conditions.cat([conditions, empty]) if bool((scale != 1).any()) else None

        def denoise(x_t: Tensor, t: Tensor) -> Tensor:
            scaled, time = self.schedule.model_input(x_t, t)
            scaled, time = scaled.to(dtype), time.to(device)
            if both is None:
                output = self.backbone(scaled, time, conditions)
            else:
                pair = self.backbone(scaled.repeat(2, *[1] * (scaled.dim() - 1)), time.repeat(2), both)
                conditional, unconditional = pair.float().chunk(2)
                output = guidance.guide(conditional, unconditional, scale)
                if getattr(self.sampling, "guidance_rescale", 0):
                    output = guidance.rescale(output, conditional, self.sampling.guidance_rescale)
            return self.schedule.x0_from_output(output.float(), x_t, t)

        if self.schedule.kind == "vp":
            last_step, rounding = self.switches.last_step, self.switches.rounding
            eta = self.sampling.eta
            return samplers.ddim(denoise, x, self.times, self.schedule, eta, generators, last_step, rounding)
        return {"euler": samplers.euler, "heun": samplers.heun}[self.sampling.kind](denoise, x, self.times)

    def _guidance_scale(self, frames: int) -> Tensor:
        if self.schedule.kind == "vp":
            return torch.tensor(float(self.sampling.guidance))
        return guidance.frame_ramp(self.sampling.guidance_min, self.sampling.guidance_max, frames)


def image_conditions(
    backbone: Backbone, encoders, frames: Tensor, prompts: list[str], fps: Tensor, switches, generators: list
) -> tuple[Conditions, Tensor]:
    """Conditions for pictures (B, 3, H, W) in [-1, 1]; also their latents in model scale (B, C, h, w).

    A family that is told a noise level has noise of that level on the picture (as SVD's own pipeline), not on what
    the CLIP tower sees. ``switches`` of pipeline/diffusion/source.py; ``generators``: one a picture.
    """
    level = backbone.config.get("noise_level", 0.0)
    pictures = frames + level * _draw(frames, generators) if level else frames
    mean, logvar = encoders.encode(pictures)
    if switches.image_latent == "sample":
        mean = mean + (0.5 * logvar).exp() * _draw(mean, generators)
    latent = mean * encoders.scaling_factor
    fps = fps - 1 if switches.told_fps == "minus_one" else fps
    tokens, embedding = encoders.image(frames)
    image = {"image_tokens": tokens, "image_embedding": embedding}[backbone.image_input]
    given = backbone.conditions(
        text=encoders.text(prompts).float(),
        image_latent=latent * backbone.image_latent_factor(encoders.scaling_factor),
        fps=fps.to(frames.device),
    )
    return replace(given, image_context=backbone.image_context(image.to(backbone.dtype))), latent


def _draw(like: Tensor, generators: list[torch.Generator]) -> Tensor:
    return torch.stack([torch.randn(like.shape[1:], generator=source) for source in generators]).to(like)
