"""params.yaml, typed and validated once. No key has a default here: what is not in the file is an error that names
its path.

A stage never sees this whole: the runner hands it ``Declared``, the part that dvc.yaml declares for it.
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator
from ruamel.yaml import YAML, YAMLError

from pipeline.backbones.registry import FAMILIES
from pipeline.diffusion.source import SAMPLING, TRAINING, resolve
from pipeline.errors import PipelineError
from pipeline.params.backbones import Backbone
from pipeline.params.base import Group, Name
from pipeline.params.claims import Claims
from pipeline.params.data import Clips, ClipSet, World
from pipeline.params.encoders import DiffusersEncoders, Latents, LvdmEncoders, TrainedEncoders
from pipeline.params.evaluation import (
    Evaluation,
    Motion,
    ProbedWeights,
    ProbeSettings,
    PublishedDetectors,
    Run,
    Runtime,
    Sheet,
    Study,
    Survey,
    TrainedDetectors,
)
from pipeline.params.trainings import Moments, Training


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
    detectors: Annotated[TrainedDetectors | PublishedDetectors, Field(discriminator="kind")]
    motion: Motion
    probe: ProbeSettings
    probes: dict[Name, ProbedWeights]
    claims: Claims
    sheets: dict[Name, Sheet]
    study: Study
    survey: Survey
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
            resolve(SAMPLING, spec.family, spec.sampling, f"backbones.{key}.sampling")
        for key, spec in self.trainings.items():
            known(f"trainings.{key}.backbone", spec.backbone, "backbones", self.backbones)
            known(f"trainings.{key}.latents", spec.latents, "latents", self.latents)
            backbone, noise = self.backbones[spec.backbone], spec.condition_noise
            resolve(TRAINING, backbone.family, spec, f"trainings.{key}")
            try:
                spec.process.applied_to(backbone.process)
            except ValueError as error:
                raise ValueError(f"trainings.{key}.process: {error}") from None
            if not getattr(noise, "tokens", True) and backbone.family == "videocrafter1":
                raise ValueError(
                    f"trainings.{key}.condition_noise.tokens: tokens are the only condition of videocrafter1; use "
                    "true, or kind: none"
                )
        owners = {f"{name}-initial": name for name in self.backbones}
        owners |= {name: spec.backbone for name, spec in self.trainings.items()}
        for key, spec in self.runs.items():
            known(f"runs.{key}.backbone", spec.backbone, "backbones", self.backbones)
            known(f"runs.{key}.training", spec.training, "trainings (or <backbone>-initial)", owners)
            if owners[spec.training] != spec.backbone:
                owner = owners[spec.training]
                raise ValueError(f"runs.{key}.training: {spec.training} is of {owner}, the row of {spec.backbone}")
            if spec.motion_bucket is not None and "motion_bucket" not in self.backbones[spec.backbone].model:
                raise ValueError(f"runs.{key}.motion_bucket: {spec.backbone} is told no motion; use null")
            process = self.backbones[spec.backbone].process
            largest = 1.0 if process.kind == "vp" else process.sigma_max
            for data, start in spec.start:
                if start > largest:
                    raise ValueError(f"runs.{key}.start.{data}: {start} lies above the largest start, {largest}")
        for key, spec in self.probes.items():
            known(f"probes.{key}.weights", spec.weights, "trainings (or <backbone>-initial)", owners)
            if owners[spec.weights] != spec.backbone:
                raise ValueError(f"probes.{key}.backbone: {spec.weights} is of {owners[spec.weights]}")
        self._claims_fit(known)
        for key, spec in self.sheets.items():
            for run in spec.runs:
                known(f"sheets.{key}.runs", run, "runs", self.runs)
        return self

    def _claims_fit(self, known) -> None:
        design = self.claims.design
        known("claims.design.backbone", design.backbone, "backbones", self.backbones)
        known("claims.design.latents", design.latents, "latents", self.latents)
        process = self.backbones[design.backbone].process
        largest = 1.0 if process.kind == "vp" else process.sigma_max
        if not design.starts.early < design.starts.mend <= largest:
            raise ValueError(
                f"claims.design.starts: early must lie below mend, and mend at most at {largest}; found {design.starts}"
            )
        strangers = sorted(set(design.probe_times) - set(self.probe.times(process)))
        if strangers:
            raise ValueError(
                f"claims.design.probe_times: {strangers} are not among probe.{process.kind}_times, at which the "
                "perfect denoiser is known"
            )
        repeated = {seed for seed in self.claims.seeds if self.claims.seeds.count(seed) > 1}
        if repeated:
            raise ValueError(f"claims.seeds: {sorted(repeated)} stand there twice; every seed counts once")


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
    tags |= {"linear_mix", "constant", "same_as_x", "cdm"}
    tags |= {"trained", "released", "lvdm", "diffusers", "published", "dis", "raft"}
    where = ".".join(str(part) for part in item["loc"] if part not in tags)
    if item["type"] == "missing":
        return f"  {where}: this key is missing; add it (presets/demo.yaml shows every key)"
    if item["type"] == "extra_forbidden":
        return f"  {where}: unknown key; remove it or mend its spelling"
    message = item["msg"].removeprefix("Value error, ")
    given = "" if item["type"] == "value_error" else f", found {item['input']!r}"
    return f"  {where + ': ' if where else ''}{message}{given}"
