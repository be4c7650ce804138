"""Parameters of moments and fine-tunings."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.params.backbones import Source, Switches
from pipeline.params.base import Group, Name, Positive, PositiveFloat


class Moments(Group):
    clips: Positive  # at most


class NoConditionNoise(Group):
    kind: Literal["none"]


class TimeNoise(Group):
    kind: Literal["timenoise"]
    beta_max: PositiveFloat
    exponent: PositiveFloat  # a of mu(t) = 2 t^a - 1


class Training(Group):
    backbone: Name
    latents: Name
    condition_noise: Annotated[NoConditionNoise | TimeNoise, Field(discriminator="kind")]
    source: Source
    switches: Switches
