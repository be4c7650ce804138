"""Parameters of the claims: what is repeated over seeds, and with which."""

from typing import Annotated

from pydantic import Field

from pipeline.params.base import Fraction, Group, Name, Positive, PositiveFloat
from pipeline.params.trainings import TimeNoise


class FewClips(Group):
    """The regime in which a naive model memorises: a short training on few clips, drawn by the seed."""

    clips: Positive
    steps: Positive
    learning_rate: PositiveFloat


class Starts(Group):
    """VP: fractions of T; VE: sigmas. The standard start is the largest that the process has."""

    mend: PositiveFloat  # of the paper's mend
    early: PositiveFloat  # far smaller


class Design(Group):
    """What one seed makes: two weights on all clips, two on few, and samples of each."""

    backbone: Name
    latents: Name
    timenoise: TimeNoise
    few: FewClips
    starts: Starts
    probe_times: Annotated[list[Fraction | PositiveFloat], Field(min_length=1)]  # where leakage is read


class Claims(Group):
    seeds: Annotated[list[int], Field(min_length=2)]  # reported; others than those that settings were tuned on
    design: Design
