"""VideoCrafter1 image-to-video: VP, eps-prediction; the image enters only through CLIP tokens, beside the text."""

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from pipeline.backbones.interface import Backbone, Conditions, set_norm_groups
from pipeline.backbones.lvdm_blocks import GROUPS
from pipeline.backbones.lvdm_unet import LvdmUNet
from pipeline.backbones.resampler import Resampler

FIRST_CONVOLUTION = "model.diffusion_model.input_blocks.0.0.weight"


class VideoCrafter1(Backbone):
    """``config``: ``unet`` (official fields), ``image_projector`` (fields of Resampler), optionally ``norm_groups`` and
    ``tells_noise_level`` (a path that the released models have not, for a training that tells the level)."""

    family = "videocrafter1"
    process = "vp"
    conditional_frame = "first"
    noised_conditions = ("image_context",)
    official_prefixes: ClassVar = {"model.diffusion_model.": "unet.", "image_proj_model.": "image_projector."}

    def __init__(self, config: dict):
        super().__init__()
        self.config = config
        self.unet = LvdmUNet(config["unet"])
        set_norm_groups(self.unet, config.get("norm_groups", GROUPS))
        self.image_projector = Resampler(**config["image_projector"])
        if config.get("tells_noise_level", False):
            self.tell_noise_level()

    @staticmethod
    def recognises(shapes: dict[str, tuple[int, ...]]) -> bool:
        return shapes.get(FIRST_CONVOLUTION, (0, 0))[1] == 4  # the noisy latent alone

    @property
    def frames(self) -> int:
        return self.config["unet"]["temporal_length"]

    def image_context(self, image: Tensor) -> Tensor:
        return self.image_projector(image)

    def conditions(self, text: Tensor, image_latent: Tensor, fps: Tensor) -> Conditions:
        return Conditions(text=text, fps=fps, noise_level=torch.zeros_like(fps) if self.told_noise_level else None)

    def tell_noise_level(self) -> None:
        self.config = {**self.config, "tells_noise_level": True}
        self.told_noise_level = self.noised_conditions[0]
        self.unet.add_noise_level_embedding()

    def unconditional(self, conditions: Conditions, null_text: Tensor, null_context: Tensor) -> Conditions:
        """Empty text and the tokens of a grey picture, the same fps."""
        return replace(
            conditions,
            text=null_text.expand_as(conditions.text),
            image_context=null_context.expand_as(conditions.image_context),
        )

    def forward(self, scaled_x: Tensor, model_time: Tensor, conditions: Conditions) -> Tensor:
        context = torch.cat([conditions.text, conditions.image_context], 1).to(scaled_x)
        return self.unet(scaled_x, model_time, context, conditions.fps, conditions.noise_level)
