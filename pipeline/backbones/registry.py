"""The families, one line each."""

import importlib

from pipeline.backbones.interface import Backbone
from pipeline.errors import PipelineError

FAMILIES = {
    "videocrafter1": "pipeline.backbones.videocrafter1:VideoCrafter1",
    "dynamicrafter": "pipeline.backbones.dynamicrafter:DynamiCrafter",
    "svd": "pipeline.backbones.svd:StableVideoDiffusion",
}


def build(family: str, config: dict) -> Backbone:
    """An untrained backbone of ``family`` from its ``model`` group of params.yaml."""
    if family not in FAMILIES:
        raise PipelineError(f"backbone family {family!r} is unknown; there are: {', '.join(FAMILIES)}")
    module, _, name = FAMILIES[family].partition(":")
    return getattr(importlib.import_module(module), name)(config)
