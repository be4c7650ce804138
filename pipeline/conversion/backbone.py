"""A released backbone into the pipeline's layout, and back: the same tensors under other names."""

import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from pipeline.backbones.checkpoint import WEIGHTS, write_config
from pipeline.backbones.interface import Backbone
from pipeline.backbones.registry import FAMILIES, build_empty, family_class
from pipeline.conversion.rules import some
from pipeline.conversion.streamed_file import write_float32
from pipeline.conversion.weight_file import Found, read_weights
from pipeline.errors import PipelineError

SCHEDULE = "alphas_cumprod"  # released checkpoints of VP families hold their schedule


def convert_backbone(folder: Path, found: Found, family: str, model: dict, vae_hash: str, params: dict) -> dict:
    """Write the released weights ``found`` as a checkpoint of ``family`` into ``folder``; float32, tensor by tensor.

    Returns the parts of the released state dict that the schedule is checked with. Raises PipelineError where the file
    is of another family, or does not fit ``model``, key for key and shape for shape.
    """
    backbone = build_empty(family, model)
    state = _renamed(read_weights(found.path), backbone.official_renames)
    shapes = {name: tuple(value.shape) for name, value in backbone.state_dict().items()}
    names = official_names(backbone)
    _check_family(state, family, found)
    _check_config_beside(found.path, model)
    _check_keys(state, backbone, {names[ours]: shape for ours, shape in shapes.items()}, found)
    folder.mkdir(parents=True, exist_ok=True)
    write_float32(folder / WEIGHTS, shapes, lambda ours: state[names[ours]])
    write_config(folder, family, model, vae_hash, params, found.record())
    return {SCHEDULE: state[SCHEDULE].float()} if SCHEDULE in state else {}


def export_backbone(backbone: Backbone) -> dict[str, Tensor]:
    """The released names of a backbone's tensors."""
    names = official_names(backbone)
    return {names[ours]: value for ours, value in backbone.state_dict().items()}


def official_names(backbone: Backbone) -> dict[str, str]:
    """Our name -> the released one, for every tensor."""
    names = {}
    for name in backbone.state_dict():
        theirs, ours = next(
            (theirs, ours) for theirs, ours in backbone.official_prefixes.items() if name.startswith(ours)
        )
        names[name] = theirs + name.removeprefix(ours)
    return names


def _renamed(state: Mapping[str, Tensor], renames: Mapping[str, str]) -> dict[str, Tensor]:
    renamed = {}
    for name, value in state.items():
        for old, new in renames.items():
            name = name.replace(old, new)
        renamed[name] = value
    return renamed


def _check_family(state: Mapping[str, Tensor], family: str, found: Found) -> None:
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    if family_class(family).recognises(shapes):
        return
    others = [name for name in FAMILIES if family_class(name).recognises(shapes)]
    what = f"a {others[0]} network" if others else f"no network that we know (it starts with {some(list(shapes))})"
    raise PipelineError(f"{found.asked} holds {what}, but {family} is asked for; check family and checkpoint")


def _check_config_beside(path: Path, model: dict) -> None:
    """diffusers stores a config beside its weights; the number of heads shows in no shape."""
    beside = path.with_name("config.json")
    if not beside.is_file():
        return
    theirs = json.loads(beside.read_text())
    wrong = [
        f"{key} is {value!r}, there {theirs[key]!r}"
        for key, value in model["unet"].items()
        if key in theirs and theirs[key] != value and key != "num_frames"  # weights fit clips of any length
    ]
    if wrong:
        raise PipelineError(f"model.unet is not what {beside} says: {'; '.join(wrong)}; copy the values from that file")


def _check_keys(state: Mapping[str, Tensor], backbone: Backbone, expected: dict[str, tuple], found: Found) -> None:
    ours = tuple(backbone.official_prefixes)
    missing = [name for name in expected if name not in state]
    unknown = [name for name in state if name.startswith(ours) and name not in expected]
    wrong = [
        f"{name} {tuple(state[name].shape)} for {shape}"
        for name, shape in expected.items()
        if name in state and tuple(state[name].shape) != shape
    ]
    faults = [("missing", missing), ("unknown", unknown), ("of another shape", wrong)]
    said = "; ".join(f"{len(names)} {what}: {some(names)}" for what, names in faults if names)
    if said:
        raise PipelineError(
            f"{found.asked} does not fit the model group of {backbone.family} ({said}); "
            "copy its fields from the official config of this checkpoint"
        )
