"""Parameters of moments and fine-tunings."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.params.backbones import FractionMap, Source, Switches
from pipeline.params.base import Group, Name, Positive, PositiveFloat


class Moments(Group):
    clips: Positive  # at most


class NoConditionNoise(Group):
    kind: Literal["none"]


class ConditionNoise(Group):
    """Of the conditional latent and, with ``tokens``, of the CLIP tokens that families with a projector make."""

    tokens: bool


class TimeNoise(ConditionNoise):
    kind: Literal["timenoise"]
    beta_max: PositiveFloat
    exponent: PositiveFloat  # a of mu(t) = 2 t^a - 1: above 1 convex, 1 linear, below 1 concave


class LinearMix(ConditionNoise):
    kind: Literal["linear_mix"]
    beta_max: Annotated[float, Field(gt=0, le=1)]
    exponent: PositiveFloat


class ConstantNoise(ConditionNoise):
    kind: Literal["constant"]
    level: PositiveFloat


class SameAsX(ConditionNoise):
    kind: Literal["same_as_x"]


class ConditioningAugmentation(ConditionNoise):
    kind: Literal["cdm"]
    level_max: PositiveFloat


AnyConditionNoise = NoConditionNoise | TimeNoise | LinearMix | ConstantNoise | SameAsX | ConditioningAugmentation


class ProcessChange(Group):
    """Where a VE training departs from its backbone's process; null: it does not."""

    p_mean: float | None  # appendix C: larger is more noise in training
    p_std: PositiveFloat | None
    fraction_map: FractionMap | None

    def applied_to(self, process: Group) -> Group:
        """The process of this training; raises ValueError where a VP process has no such key."""
        changes = self.model_dump(exclude_none=True)
        lacking = changes.keys() - set(type(process).model_fields)
        if lacking:
            raise ValueError(f"a {process.kind} process has no {', '.join(sorted(lacking))}; use null")
        return process.model_copy(update=changes)


class Training(Group):
    backbone: Name
    latents: Name
    condition_noise: Annotated[AnyConditionNoise, Field(discriminator="kind")]
    process: ProcessChange
    source: Source
    switches: Switches
