"""DynamiCrafter: VP, v-prediction, zero terminal SNR; the image enters as concatenated latent and as CLIP tokens of
every frame, beside the text; in training it is a random frame of the clip."""

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from pipeline.backbones.interface import Conditions, repeat_frames
from pipeline.backbones.videocrafter1 import FIRST_CONVOLUTION, VideoCrafter1


class DynamiCrafter(VideoCrafter1):
    """``config``: as VideoCrafter1's; the projector makes ``num_queries`` tokens for each of ``video_length``."""

    family = "dynamicrafter"
    conditional_frame = "random"
    noised_conditions = ("image_latent", "image_context")
    official_renames: ClassVar = {"framestride_embed": "fps_embedding"}  # as the official loader does

    @staticmethod
    def recognises(shapes: dict[str, tuple[int, ...]]) -> bool:
        return shapes.get(FIRST_CONVOLUTION, (0, 0))[1] == 8  # noisy latent and image latent

    def conditions(self, text: Tensor, image_latent: Tensor, fps: Tensor) -> Conditions:
        return replace(super().conditions(text, image_latent, fps), image_latent=image_latent)

    def forward(self, scaled_x: Tensor, model_time: Tensor, conditions: Conditions) -> Tensor:
        latent = repeat_frames(conditions.image_latent, scaled_x.shape[2]).to(scaled_x)
        return super().forward(torch.cat([scaled_x, latent], 1), model_time, conditions)
