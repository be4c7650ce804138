"""Say what is there, what is missing, and whether disk and GPU memory suffice for params.yaml."""

import argparse
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.params.file import Params, load_params
from pipeline.tools.project import PARAMS

GIB = 2**30
LATENT_SCALE, LATENT_CHANNELS = 8, 4  # of the autoencoder of Stable Diffusion, which all families share at paper scale
MARKS = {True: "ok     ", False: "MISSING", None: "note   "}


@dataclass(frozen=True)
class Finding:
    """``good``: True, False (something is missing), or None (to be known)."""

    good: bool | None
    what: str


def run(arguments: list[str]) -> int:
    """``python -m pipeline doctor``; the exit code is 1 where something is missing."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline doctor",
        description="Say what is there, what is missing, and whether disk and GPU memory suffice for params.yaml.",
    )
    parser.parse_args(arguments)
    params = load_params(PARAMS)
    missing = False
    for title, check in (("data", _data), ("released files", _released), ("machine", _machine), ("memory", _memory),
                         ("disk", _disk)):  # fmt: skip
        print(title)
        for finding in check(params):
            print(f"  {MARKS[finding.good]} {finding.what}")
            missing |= finding.good is False
    print("something is missing" if missing else "nothing is missing")
    return 1 if missing else 0


def _data(params: Params) -> Iterator[Finding]:
    from pipeline.data.pointers import followed, require_unchanged
    from pipeline.data.storage import exists

    world = Path("data/world")
    for name, spec in params.clip_sets.items():
        for what in ("listing", "videos"):
            place, key = getattr(spec, what), f"clip_sets.{name}.{what}"
            if world in Path(place).parents:
                continue
            try:
                require_unchanged(place, key)
                yield Finding(exists(followed(place), key), f"{key}: {place}")
            except PipelineError as error:  # a server that does not answer, or has other data than a pointer says
                yield Finding(False, str(error))
    if any(world in Path(spec.listing).parents for spec in params.clip_sets.values()):
        yield Finding(True, f"{world}: made by the pipeline itself")


def _released(params: Params) -> Iterator[Finding]:
    from pipeline.conversion.weight_file import whereabouts

    files = [(f"backbones.{name}.initialise.checkpoint", spec.initialise.checkpoint)
             for name, spec in params.backbones.items() if spec.initialise.kind == "released"]  # fmt: skip
    for name, spec in params.encoders.items():
        for key in ("checkpoint", "vae_weights", "image_tower_weights"):
            if hasattr(spec, key):
                files.append((f"encoders.{name}.{key}", getattr(spec, key)))
    if params.detectors.kind == "published":
        files += [("detectors.fvd.weights", params.detectors.fvd.weights),
                  ("detectors.inception.weights", params.detectors.inception.weights)]  # fmt: skip
        if params.detectors.inception.mean:
            files.append(("detectors.inception.mean", params.detectors.inception.mean))
    if not files:
        yield Finding(True, "none is needed: every model is trained here")
    for key, spec in files:
        good, what = whereabouts(spec.location, spec.file, spec.revision)
        yield Finding(good, f"{key}: {what}")
        if spec.sha256 is None:
            yield Finding(None, f"{key}: any file is taken (sha256: null); its hash will be recorded")


def _machine(params: Params) -> Iterator[Finding]:
    import torch

    from pipeline.training.nodes import Layout

    config = Path(params.runtime.accelerate_config)
    if not config.is_file():
        yield Finding(False, f"runtime.accelerate_config: {config} does not exist; envs/accelerate holds some")
        return
    count = torch.cuda.device_count()
    for index in range(count):
        device = torch.cuda.get_device_properties(index)
        yield Finding(True, f"GPU {index}: {device.name}, {device.total_memory / GIB:.0f} GiB")
    if not count:
        wanted = params.runtime.device == "cuda"
        yield Finding(False if wanted else None, "no GPU is seen: everything runs on the CPU")
    asked = Layout.read(config).processes
    enough = count >= asked or asked == 1
    yield Finding(enough, f"{config}: {asked} process(es) a training, {count} GPU(s) here")


def _memory(params: Params) -> Iterator[Finding]:
    """The rest of a GPU is for encoders and workspaces: a tenth of the footprint is asked on top."""
    import torch

    from pipeline.footprint import footprint
    from pipeline.training.nodes import Layout

    there = min((torch.cuda.get_device_properties(i).total_memory for i in range(torch.cuda.device_count())), default=0)
    shares = Layout.read(Path(params.runtime.accelerate_config)).processes
    for name, spec in params.backbones.items():
        shape = latent_shape(params, spec)
        unet = spec.model["unet"]
        checkpointing = unet.get("use_checkpoint", False) or spec.model.get("use_checkpoint", False)
        batch = max(1, min(spec.finetune.batch_size // shares, params.runtime.clips_per_device or math.inf))
        training = footprint(spec.family, spec.model, shape, batch, checkpointing)
        sampling = footprint(spec.family, spec.model, shape, spec.sampling.batch_size, checkpointing)
        yield Finding(None, f"{name}: {training.parameters / 1e6:,.1f} million parameters")
        for what, needed, count in (("fine-tuning", training.training, batch),
                                    ("sampling", sampling.sampling, spec.sampling.batch_size)):  # fmt: skip
            text = f"{name}: {what} {count} clip(s) at once takes about {1.1 * needed / GIB:.1f} GiB"
            yield Finding(1.1 * needed <= there if there else None, text + ("" if there else " of a GPU"))


def latent_shape(params: Params, spec) -> tuple[int, int, int, int]:
    """(C, F, h, w) of a backbone's latents."""
    encoders = params.encoders[spec.encoders]
    vae = getattr(encoders, "vae", None)
    scale = 2 ** (len(vae["block_out_channels"]) - 1) if vae else LATENT_SCALE
    return LATENT_CHANNELS, params.clips.frames, params.clips.height // scale, params.clips.width // scale


def _disk(params: Params) -> Iterator[Finding]:
    """Only what can be known beforehand: weights by their number, latents and samples by their number and size."""
    from pipeline.backbones.registry import build_empty

    total = 0
    for spec in params.backbones.values():
        count = sum(value.numel() for value in build_empty(spec.family, spec.model).state_dict().values())
        trained = sum(training.backbone in params.backbones and params.backbones[training.backbone] is spec
                      for training in params.trainings.values())  # fmt: skip
        total += 4 * count * (1 + 4 * trained)  # EMA weights; and while it trains weights, EMA and Adam's two moments
    pixels = params.clips.frames * params.clips.height * params.clips.width
    clips = params.evaluation.conditions * len(params.evaluation.seeds) * len(params.runs)
    total += int(1.5 * pixels * clips)  # lossless frames take about half of their three bytes a pixel
    free = shutil.disk_usage(Path.cwd()).free
    yield Finding(free >= total, f"checkpoints and samples take about {total / GIB:.1f} GiB, {free / GIB:.0f} GiB are "
                  "free here")  # fmt: skip
    yield Finding(None, "clips and latents come on top: their number shows only when the listing has been read")
