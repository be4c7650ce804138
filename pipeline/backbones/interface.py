"""What training, sampling and tests know of a backbone: conditions in, a network output out."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from pipeline.errors import PipelineError


@dataclass(frozen=True)
class Conditions:
    """All that a network is told besides x_t; the batch comes first, None where a family has no such path."""

    text: Tensor | None = None  # (B, L, D) hidden states of the frozen text tower
    image_context: Tensor | None = None  # (B, K, D) CLIP tokens after the family's projector
    image_latent: Tensor | None = None  # (B, C, h, w), or (B, C, F, h, w) where it differs by frame; the family's scale
    fps: Tensor | None = None  # (B,) frames per second
    motion_bucket: Tensor | None = None  # (B,)
    noise_level: Tensor | None = None  # (B,) level of noise on the image that the network is told

    def map(self, change) -> "Conditions":
        """``change`` applied to every tensor."""
        return Conditions(**{
            item.name: None if (value := getattr(self, item.name)) is None else change(value) for item in fields(self)
        })  # fmt: skip

    def to(self, device) -> "Conditions":
        return self.map(lambda value: value.to(device))

    @staticmethod
    def cat(parts: "list[Conditions]") -> "Conditions":
        """Several batches as one."""
        return Conditions(**{
            item.name: None
            if getattr(parts[0], item.name) is None
            else torch.cat([getattr(part, item.name) for part in parts])
            for item in fields(Conditions)
        })  # fmt: skip


class Backbone(nn.Module, ABC):
    """One family at any width. ``forward`` is the bare network; preconditioning is the schedule's."""

    family: ClassVar[str]
    process: ClassVar[str]  # "vp" or "ve"
    conditional_frame: ClassVar[str]  # in training: "first" or "random"
    noised_conditions: ClassVar[tuple[str, ...]]  # fields of Conditions where TimeNoise enters
    told_noise_level: str | None = None  # the one of them whose level the network is told
    image_input: ClassVar[str] = "image_tokens"  # what the projector takes: image_tokens or image_embedding
    official_prefixes: ClassVar[dict[str, str]]  # of the released state dict -> ours
    official_renames: ClassVar[dict[str, str]] = {}  # spellings of older released files -> the official one
    config: dict

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return next(self.parameters()).dtype

    @property
    @abstractmethod
    def frames(self) -> int:
        """Frames of a clip."""

    @abstractmethod
    def image_context(self, image: Tensor) -> Tensor:
        """Frozen CLIP output (B, T, D) -> context tokens (B, K, D), through the trainable projector if there is one."""

    @abstractmethod
    def conditions(self, text: Tensor, image_latent: Tensor, fps: Tensor) -> Conditions:
        """The family's conditions but for ``image_context``; what it has no path for is left out.

        ``text`` (B, L, D), ``image_latent`` (B, C, h, w) in model scale, ``fps`` (B,).
        """

    @abstractmethod
    def unconditional(self, conditions: Conditions, null_text: Tensor, null_context: Tensor) -> Conditions:
        """Conditions of the unconditional branch of guidance; ``null_text`` (L, D), ``null_context`` (1, K, D)."""

    @abstractmethod
    def forward(self, scaled_x: Tensor, model_time: Tensor, conditions: Conditions) -> Tensor:
        """(B, C, F, h, w) -> network output of the same shape; ``model_time`` (B,)."""

    @staticmethod
    @abstractmethod
    def recognises(shapes: dict[str, tuple[int, ...]]) -> bool:
        """Whether a released state dict, given by its shapes, is of this family."""

    def image_latent_factor(self, scaling_factor: float) -> float:
        """What turns model scale into the scale in which the family is given the conditional latent."""
        return 1.0

    def tell_noise_level(self) -> None:
        """Give the network a path by which it is told the level of noise on the image; at first it changes nothing."""
        raise NotImplementedError(f"{self.family} is told the level already")

    def drop(self, conditions: Conditions, empty: Conditions, text: Tensor, image: Tensor) -> Conditions:
        """Conditioning dropout: rows of ``text`` / ``image`` (B,) bool take the value that ``empty`` has there."""
        changed = {}
        for name, rows in (
            ("text", text),
            ("image_context", image),
            *((name, image) for name in self.dropped_with_image),
        ):
            value, other = getattr(conditions, name), getattr(empty, name)
            if value is not None:
                changed[name] = torch.where(rows.reshape(-1, *[1] * (value.dim() - 1)), other.to(value), value)
        return replace(conditions, **changed)

    dropped_with_image: ClassVar[tuple[str, ...]] = ()


def set_norm_groups(network: nn.Module, groups: int) -> None:
    """Groups of every GroupNorm, 32 in the released models. A group of one channel loses what the embedding of time and
    frame rate adds to that channel, so that narrow models need fewer."""
    for name, module in network.named_modules():
        if isinstance(module, nn.GroupNorm):
            if module.num_channels % groups:
                raise PipelineError(
                    f"model.norm_groups: {groups} does not divide the {module.num_channels} channels of {name}"
                )
            module.num_groups = groups


def repeat_frames(latent: Tensor, frames: int) -> Tensor:
    """(B, C, h, w) -> (B, C, F, h, w); a latent that differs by frame passes as it is."""
    return latent if latent.dim() == 5 else latent.unsqueeze(2).expand(-1, -1, frames, -1, -1)
