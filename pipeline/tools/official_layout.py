"""A backbone in its authors' layout: what they load, with the weights of ours."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from pipeline.backbones.interface import Backbone
from pipeline.conversion.backbone import export_backbone
from pipeline.conversion.rules import some
from pipeline.conversion.weight_file import read_weights
from pipeline.errors import PipelineError


def write_official(backbone: Backbone, folder: Path, into: Path | None) -> Path:
    """Write ``backbone`` into ``folder``; returns the file.

    SVD: ``unet/`` as diffusers saves it. VideoCrafter1 and DynamiCrafter: ``model.ckpt``, with the tensors that the
    network has not (frozen encoders, schedule) from the released checkpoint ``into``, if given. Raises PipelineError
    where that is of another network.
    """
    state = {name: value.contiguous() for name, value in export_backbone(backbone).items()}
    if backbone.family == "svd":
        if into is not None:
            raise PipelineError("--into: SVD's encoders lie in folders of their own; copy them beside unet/")
        return _write_diffusers(backbone, state, folder / "unet")
    if into is not None:
        released = read_weights(into)
        lacking = [name for name in state if name not in released and _old_spelling(name, backbone) not in released]
        if lacking:
            raise PipelineError(f"{into} is no checkpoint of {backbone.family}: it lacks {some(lacking)}")
        old = {_old_spelling(name, backbone) for name in state}
        state = {name: value for name, value in released.items() if name not in old} | state
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.ckpt"
    torch.save({"state_dict": state}, path)
    return path


def _old_spelling(name: str, backbone: Backbone) -> str:
    for old, new in backbone.official_renames.items():
        name = name.replace(new, old)
    return name


def _write_diffusers(backbone: Backbone, state: dict, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "diffusion_pytorch_model.safetensors"
    save_file(state, path, {"format": "pt"})
    config = {"_class_name": "UNetSpatioTemporalConditionModel", **backbone.config["unet"]}
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    return path
