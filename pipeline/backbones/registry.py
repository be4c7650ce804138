"""The families, one line each."""

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import PipelineError

if TYPE_CHECKING:  # the parameters read this table, and need not wait for torch
    from pipeline.backbones.interface import Backbone


@dataclass(frozen=True)
class Family:
    """Where a family's class is, and whether it is a variance-preserving ("vp") or exploding ("ve") process."""

    implementation: str
    process: str


FAMILIES = {
    "videocrafter1": Family("pipeline.backbones.videocrafter1:VideoCrafter1", "vp"),
    "dynamicrafter": Family("pipeline.backbones.dynamicrafter:DynamiCrafter", "vp"),
    "svd": Family("pipeline.backbones.svd:StableVideoDiffusion", "ve"),
}


def family_class(family: str) -> "type[Backbone]":
    """The class of a family; raises PipelineError for an unknown one."""
    if family not in FAMILIES:
        raise PipelineError(f"backbone family {family!r} is unknown; there are: {', '.join(FAMILIES)}")
    module, _, name = FAMILIES[family].implementation.partition(":")
    return getattr(importlib.import_module(module), name)


def build(family: str, config: dict) -> "Backbone":
    """An untrained backbone of ``family`` from its ``model`` group of params.yaml."""
    return family_class(family)(config)


def build_empty(family: str, config: dict) -> "Backbone":
    """The same on the meta device, without memory for weights: for keys and shapes, or to be filled by assignment."""
    import torch

    with torch.device("meta"):
        return build(family, config)
