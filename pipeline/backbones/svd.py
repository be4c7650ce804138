"""Stable Video Diffusion: VE / EDM, diffusers' UNet; the image enters as concatenated latent and as CLIP embedding."""

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from pipeline.backbones.interface import Backbone, Conditions, repeat_frames, set_norm_groups


class StableVideoDiffusion(Backbone):
    """``config``: ``unet`` (UNetSpatioTemporalConditionModel's fields), ``motion_bucket``, ``noise_level``; optionally
    ``norm_groups`` and ``use_checkpoint`` (less memory in training for more time)."""

    family = "svd"
    process = "ve"
    conditional_frame = "first"
    noised_conditions = ("image_latent",)
    told_noise_level = "image_latent"
    image_input = "image_embedding"
    dropped_with_image = ("image_latent",)
    official_prefixes: ClassVar = {"": "unet."}  # diffusers' folder unet/

    def __init__(self, config: dict):
        from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel

        super().__init__()
        self.config = config
        self.unet = UNetSpatioTemporalConditionModel(**config["unet"])
        set_norm_groups(self.unet, config.get("norm_groups", 32))
        if config.get("use_checkpoint", False):
            self.unet.enable_gradient_checkpointing()

    @staticmethod
    def recognises(shapes: dict[str, tuple[int, ...]]) -> bool:
        return {"conv_in.weight", "add_embedding.linear_1.weight"} <= shapes.keys()

    @property
    def frames(self) -> int:
        return self.config["unet"]["num_frames"]

    def image_latent_factor(self, scaling_factor: float) -> float:
        """The conditional latent is not multiplied by the VAE's scaling factor."""
        return 1.0 / scaling_factor

    def image_context(self, image: Tensor) -> Tensor:
        return image

    def conditions(self, text: Tensor, image_latent: Tensor, fps: Tensor) -> Conditions:
        same = torch.ones_like(fps)
        return Conditions(
            image_latent=image_latent,
            fps=fps,
            motion_bucket=same * self.config["motion_bucket"],
            noise_level=same * self.config["noise_level"],
        )

    def unconditional(self, conditions: Conditions, null_text: Tensor, null_context: Tensor) -> Conditions:
        """Zero embedding and zero latent, the same ids."""
        return replace(
            conditions,
            image_context=torch.zeros_like(conditions.image_context),
            image_latent=torch.zeros_like(conditions.image_latent),
        )

    def forward(self, scaled_x: Tensor, model_time: Tensor, conditions: Conditions) -> Tensor:
        latent = repeat_frames(conditions.image_latent, scaled_x.shape[2]).to(scaled_x)
        sample = torch.cat([scaled_x, latent], 1).transpose(1, 2)
        ids = torch.stack([conditions.fps, conditions.motion_bucket, conditions.noise_level], 1).to(scaled_x)
        context = conditions.image_context.to(scaled_x)
        return self.unet(sample, model_time, context, added_time_ids=ids, return_dict=False)[0].transpose(1, 2)
