"""DynamiCrafter: VP, v-prediction, zero terminal SNR; the image enters as concatenated latent and as CLIP tokens of
every frame, beside the text; in training it is a random frame of the clip."""

from dataclasses import replace

import torch
from torch import Tensor

from pipeline.backbones.interface import Conditions, repeat_frames
from pipeline.backbones.videocrafter1 import VideoCrafter1


class DynamiCrafter(VideoCrafter1):
    """``config``: as VideoCrafter1's; the projector makes ``num_queries`` tokens for each of ``video_length``."""

    family = "dynamicrafter"
    conditional_frame = "random"
    noised_conditions = ("image_latent", "image_context")

    def conditions(self, text: Tensor, image_latent: Tensor, fps: Tensor) -> Conditions:
        return replace(super().conditions(text, image_latent, fps), image_latent=image_latent)

    def forward(self, scaled_x: Tensor, model_time: Tensor, conditions: Conditions) -> Tensor:
        latent = repeat_frames(conditions.image_latent, scaled_x.shape[2]).to(scaled_x)
        return super().forward(torch.cat([scaled_x, latent], 1), model_time, conditions)
