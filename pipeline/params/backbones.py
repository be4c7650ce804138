"""Parameters of backbones: network, process, starting point, optimisation, sampling."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from pipeline.backbones.registry import FAMILIES
from pipeline.params.base import Fraction, Group, Name, Positive, PositiveFloat
from pipeline.params.released import ReleasedFile

Source = Literal["paper", "released"]  # whose reading of the method: pipeline/diffusion/source.py
Switches = dict[str, str | float]  # single departures from it


class VPProcess(Group):
    kind: Literal["vp"]
    prediction: Literal["eps", "v"]
    num_steps: Positive
    beta_start: PositiveFloat
    beta_end: PositiveFloat
    zero_terminal_snr: bool
    input_rescale: bool  # s_t: from 1 to 0.7 over the first 400 steps


FractionMap = Literal["sigma_over_max", "equal_snr", "training_quantile"]


class VEProcess(Group):
    kind: Literal["ve"]
    sigma_min: PositiveFloat
    sigma_max: PositiveFloat
    sigma_data: PositiveFloat
    p_mean: float  # of ln sigma in training
    p_std: PositiveFloat
    rho: PositiveFloat
    fraction_map: FractionMap  # what t means for TimeNoise


class ConditionDropout(Group):
    text: Fraction
    image: Fraction
    both: Fraction


class Optimisation(Group):
    """One training: ``initialise`` and ``finetune`` use the same trainer."""

    seed: int
    steps: Positive
    batch_size: Positive  # clips a step
    learning_rate: PositiveFloat
    schedule: Literal["constant", "cosine"]
    warmup: Annotated[int, Field(ge=0)]  # steps
    betas: list[Fraction]
    weight_decay: Annotated[float, Field(ge=0)]
    gradient_clip: PositiveFloat
    ema: Fraction
    dropout: ConditionDropout
    precision: Literal["no", "bf16", "fp16"]
    checkpoint_every: Positive  # steps


class TrainedBackbone(Group):
    kind: Literal["trained"]
    latents: Name
    optimisation: Optimisation


class ReleasedBackbone(Group):
    kind: Literal["released"]
    latents: Name  # that it must fit: made by the same encoders
    checkpoint: ReleasedFile


class Sampler(Group):
    """What all samplers have."""

    steps: Positive
    source: Source
    switches: Switches
    precision: Literal["no", "bf16"]  # of the network; schedules and the sampler's state are float32
    compile: bool  # by torch.compile: minutes once, faster afterwards
    seed: int
    batch_size: Positive


class Ddim(Sampler):
    kind: Literal["ddim"]
    eta: Fraction
    guidance: PositiveFloat
    guidance_rescale: Fraction
    spacing: Literal["trailing", "uniform"]


class Edm(Sampler):
    kind: Literal["euler", "heun"]
    guidance_min: PositiveFloat  # first frame
    guidance_max: PositiveFloat  # last frame


def _known_family(family: str) -> str:
    if family not in FAMILIES:
        raise ValueError(f"{family!r} is no family of backbones (there are: {', '.join(FAMILIES)})")
    return family


class Backbone(Group):
    family: Annotated[str, AfterValidator(_known_family)]
    encoders: Name
    latents: Name  # of the clips whose moments Analytic-Init uses
    model: dict[str, Any]  # official config fields of the UNet and the image projector
    process: Annotated[VPProcess | VEProcess, Field(discriminator="kind")]
    initialise: Annotated[TrainedBackbone | ReleasedBackbone, Field(discriminator="kind")]
    finetune: Optimisation
    sampling: Annotated[Ddim | Edm, Field(discriminator="kind")]
