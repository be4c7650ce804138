"""params.yaml, typed and validated once. No key has a default here: what is not in the file is an error that names
its path.

A stage never sees this whole: the runner hands it ``Declared``, the part that dvc.yaml declares for it.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from ruamel.yaml import YAML, YAMLError

from pipeline.backbones.registry import FAMILIES
from pipeline.errors import PipelineError

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveFloat = Annotated[float, Field(gt=0)]


class Group(BaseModel):
    """A mapping of params.yaml: exact keys, exact types (whole numbers may stand where a float is asked)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


# --- data -----------------------------------------------------------------------------------------------------------


class World(Group):
    seed: int
    size: Positive  # pixels
    frames: Positive  # frames of a source video
    fps: Positive
    webvid_clips: Positive
    ucf101_train: Positive  # videos
    ucf101_test: Positive
    pictures: Positive


class Codec(Group):
    format: Literal["png", "jpeg"]
    quality: Annotated[int, Field(ge=1, le=100)]  # jpeg only


class Clips(Group):
    seed: int
    frames: Positive
    height: Positive  # pixels
    width: Positive
    codec: Codec
    check: Literal["whole", "window"]  # which frames of a source must decode: all, or those of the clip
    rows_per_shard: Positive


class UniformStride(Group):
    kind: Literal["uniform_stride"]
    min: Positive  # source frames
    max: Positive


class FixedFps(Group):
    kind: Literal["fixed_fps"]
    fps: PositiveFloat


class Columns(Group):
    """Which column of the listing holds what; ``folder`` may be null where videos lie in one folder."""

    id: str
    caption: str
    folder: str | None


class ClipSet(Group):
    layout: Literal["webvid", "ucf101", "imagebench"]
    listing: str  # path of the csv or split file
    videos: str  # path of the folder
    columns: Columns
    frame_rule: Annotated[UniformStride | FixedFps, Field(discriminator="kind")]
    windows: Positive  # clips a video
    limit: Positive | None  # rows of the listing; null: all


# --- models ---------------------------------------------------------------------------------------------------------


class EncoderTraining(Group):
    seed: int
    vae_steps: Positive
    vae_batch: Positive  # frames
    vae_learning_rate: PositiveFloat
    kl_weight: PositiveFloat
    tower_steps: Positive
    tower_batch: Positive  # pictures with captions
    tower_learning_rate: PositiveFloat


class ReleasedFile(Group):
    """Weights as their authors publish them; converted once."""

    location: str  # a file or folder of this machine, or hf:OWNER/NAME
    file: str | None  # inside the folder or repository
    revision: str | None  # of the repository: a commit, so that it stays the same
    sha256: Sha256 | None  # null: any file; what was found is recorded


class ReleasedFolder(Group):
    location: str
    revision: str | None


class LvdmEncoders(Group):
    """VAE and OpenCLIP towers inside a checkpoint of VideoCrafter1 or DynamiCrafter."""

    kind: Literal["lvdm"]
    clips: Name  # whose frames check the conversion: their reconstruction error is logged
    checkpoint: ReleasedFile
    scaling_factor: PositiveFloat
    autoencoder: dict[str, Any]  # official config: embed_dim, ddconfig
    towers: dict[str, Any]  # open_clip config: embed_dim, vision_cfg, text_cfg
    tokenizer: ReleasedFolder  # CLIP's vocab.json and merges.txt


class DiffusersEncoders(Group):
    """VAE and image tower of Stable Video Diffusion, as diffusers lays them out."""

    kind: Literal["diffusers"]
    clips: Name
    vae: dict[str, Any]  # fields of AutoencoderKLTemporalDecoder
    vae_weights: ReleasedFile
    image_tower: dict[str, Any]  # fields of CLIPVisionConfig
    image_tower_weights: ReleasedFile


class TrainedEncoders(Group):
    kind: Literal["trained"]
    clips: Name
    vae: dict[str, Any]  # fields of diffusers' AutoencoderKL
    image_tower: dict[str, Any]  # fields of transformers' CLIPVisionConfig
    text_tower: dict[str, Any]  # fields of transformers' CLIPTextConfig
    training: EncoderTraining


class Latents(Group):
    clips: Name
    encoders: Name
    batch_size: Positive  # clips


class VPProcess(Group):
    kind: Literal["vp"]
    prediction: Literal["eps", "v"]
    num_steps: Positive
    beta_start: PositiveFloat
    beta_end: PositiveFloat
    zero_terminal_snr: bool
    input_rescale: bool  # s_t: from 1 to 0.7 over the first 400 steps


class VEProcess(Group):
    kind: Literal["ve"]
    sigma_min: PositiveFloat
    sigma_max: PositiveFloat
    sigma_data: PositiveFloat
    p_mean: float  # of ln sigma in training
    p_std: PositiveFloat
    rho: PositiveFloat
    fraction_map: Literal["sigma_over_max", "equal_snr"]  # what t means for TimeNoise


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


class Ddim(Group):
    kind: Literal["ddim"]
    steps: Positive
    eta: Fraction
    guidance: PositiveFloat
    guidance_rescale: Fraction
    spacing: Literal["trailing", "uniform", "released_trailing", "released_uniform"]  # released: with its roundings
    last_step: Literal["x0", "alpha_0", "alpha_0_scaled"]  # where the last step ends; the released code's: alpha_0…
    init_form: Literal["kl", "released"]  # Analytic-Init with or without s_t
    seed: int
    batch_size: Positive


class Edm(Group):
    kind: Literal["euler", "heun"]
    steps: Positive
    guidance_min: PositiveFloat  # first frame
    guidance_max: PositiveFloat  # last frame
    standard_std: Literal["sigma", "sqrt_sigma2_plus_1"]
    seed: int
    batch_size: Positive


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


# --- evaluation -----------------------------------------------------------------------------------------------------


class Start(Group):
    ucf101: PositiveFloat  # VP: fraction of T; VE: sigma
    imagebench: PositiveFloat


class Run(Group):
    """One row of a table."""

    backbone: Name
    training: Name  # <backbone>-initial or a key of trainings
    init: Literal["standard", "analytic"]
    start: Start


class Evaluation(Group):
    seed: int
    conditions: Positive  # clips whose first frame conditions a sample
    reference: Positive  # other real clips
    minimum: Positive  # samples below which a cell stays empty
    allow_few: bool
    subsets: Annotated[int, Field(ge=2)]  # disjoint, for the spread
    is_splits: Positive
    seeds: list[int]  # replicate samplings of every condition


class Detectors(Group):
    kind: Literal["trained"]
    seed: int
    steps: Positive
    batch_size: Positive
    learning_rate: PositiveFloat
    width: Positive
    features: Positive


class Motion(Group):
    height: Positive  # pixels that the flow is computed at
    width: Positive


class Sheet(Group):
    runs: Annotated[list[Name], Field(min_length=4, max_length=4)]


class Study(Group):
    seed: int
    height: Positive  # pixels of the videos shown
    fps: Positive


class Runtime(Group):
    """Cannot change a result: readable by every stage, declared by none."""

    device: Literal["auto", "cpu", "cuda"]
    workers: Annotated[int, Field(ge=0)]  # 0: one a core
    log_level: Literal["DEBUG", "INFO", "WARNING"]
    accelerate_config: str


class Params(Group):
    world: World
    clips: Clips
    clip_sets: dict[Name, ClipSet]
    encoders: dict[Name, Annotated[TrainedEncoders | LvdmEncoders | DiffusersEncoders, Field(discriminator="kind")]]
    latents: dict[Name, Latents]
    backbones: dict[Name, Backbone]
    moments: Moments
    trainings: dict[Name, Training]
    runs: dict[Name, Run]
    evaluation: Evaluation
    detectors: Detectors
    motion: Motion
    sheets: dict[Name, Sheet]
    study: Study
    runtime: Runtime

    @model_validator(mode="after")
    def _references_exist(self) -> "Params":
        def known(path: str, name: str, group: str, names) -> None:
            if name not in names:
                raise ValueError(f"{path}: {name!r} is not a key of {group} (there are: {', '.join(names)})")

        for key, spec in self.encoders.items():
            known(f"encoders.{key}.clips", spec.clips, "clip_sets", self.clip_sets)
        for key, spec in self.latents.items():
            known(f"latents.{key}.clips", spec.clips, "clip_sets", self.clip_sets)
            known(f"latents.{key}.encoders", spec.encoders, "encoders", self.encoders)
        for key, spec in self.backbones.items():
            known(f"backbones.{key}.encoders", spec.encoders, "encoders", self.encoders)
            known(f"backbones.{key}.latents", spec.latents, "latents", self.latents)
            known(f"backbones.{key}.initialise.latents", spec.initialise.latents, "latents", self.latents)
            kind = FAMILIES[spec.family].process
            if spec.process.kind != kind:
                raise ValueError(
                    f"backbones.{key}.process.kind: {spec.family} is a {kind} model, found {spec.process.kind}"
                )
            expected = ("ddim",) if spec.process.kind == "vp" else ("euler", "heun")
            if spec.sampling.kind not in expected:
                raise ValueError(f"backbones.{key}.sampling.kind: a {spec.process.kind} process needs {expected}")
        for key, spec in self.trainings.items():
            known(f"trainings.{key}.backbone", spec.backbone, "backbones", self.backbones)
            known(f"trainings.{key}.latents", spec.latents, "latents", self.latents)
        owners = {f"{name}-initial": name for name in self.backbones}
        owners |= {name: spec.backbone for name, spec in self.trainings.items()}
        for key, spec in self.runs.items():
            known(f"runs.{key}.backbone", spec.backbone, "backbones", self.backbones)
            known(f"runs.{key}.training", spec.training, "trainings (or <backbone>-initial)", owners)
            if owners[spec.training] != spec.backbone:
                owner = owners[spec.training]
                raise ValueError(f"runs.{key}.training: {spec.training} is of {owner}, the row of {spec.backbone}")
            process = self.backbones[spec.backbone].process
            largest = 1.0 if process.kind == "vp" else process.sigma_max
            for data, start in spec.start:
                if start > largest:
                    raise ValueError(f"runs.{key}.start.{data}: {start} lies above the largest start, {largest}")
        for key, spec in self.sheets.items():
            for run in spec.runs:
                known(f"sheets.{key}.runs", run, "runs", self.runs)
        return self


def load_params(path: Path) -> Params:
    """Read and validate; raises PipelineError that names every wrong key by its path."""
    try:
        raw = YAML(typ="safe").load(path.read_text())  # YAML 1.2, as DVC: no is a word
    except FileNotFoundError:
        raise PipelineError(f"{path} is missing; `python -m pipeline preset demo` writes one") from None
    except YAMLError as error:
        raise PipelineError(f"{path} is not valid YAML: {error}") from None
    return validate_params(raw, str(path))


def validate_params(raw: Any, source: str) -> Params:
    """Validated parameters; raises PipelineError."""
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        raise PipelineError(f"{source}:\n" + "\n".join(_explain(item) for item in error.errors())) from None


def _explain(item: dict) -> str:
    # Members of a tagged union add their tag to the path; params.yaml has no such level.
    tags = {"uniform_stride", "fixed_fps", "vp", "ve", "ddim", "euler", "heun", "none", "timenoise"}
    tags |= {"trained", "released", "lvdm", "diffusers"}
    where = ".".join(str(part) for part in item["loc"] if part not in tags)
    if item["type"] == "missing":
        return f"  {where}: this key is missing; add it (presets/demo.yaml shows every key)"
    if item["type"] == "extra_forbidden":
        return f"  {where}: unknown key; remove it or mend its spelling"
    message = item["msg"].removeprefix("Value error, ")
    given = "" if item["type"] == "value_error" else f", found {item['input']!r}"
    return f"  {where + ': ' if where else ''}{message}{given}"


class Declared:
    """The part of the parameters that dvc.yaml declares for one stage; reading any other raises PipelineError."""

    def __init__(self, node: Any, declared: tuple[str, ...], stage: str, path: str = ""):
        self._node, self._declared, self._stage, self._path = node, declared, stage, path

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._child(name)

    def __getitem__(self, name: str) -> Any:
        return self._child(name)

    def _child(self, name: str) -> Any:
        path = f"{self._path}.{name}" if self._path else name
        if path not in self._declared and not any(item.startswith(path + ".") for item in self._declared):
            raise PipelineError(
                f"stage {self._stage} read the parameter {path}, which dvc.yaml does not declare for it; "
                f"add it under params: there, so that a change of it reruns the stage"
            )
        node = self._node[name] if isinstance(self._node, dict) else getattr(self._node, name)
        return node if path in self._declared else Declared(node, self._declared, self._stage, path)
