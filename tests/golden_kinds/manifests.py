"""Full-size manifests of released checkpoints: every name and shape, at the sizes of presets/paper.yaml."""

from functools import cache
from pathlib import Path

import torch

from tests.golden_kinds.core import Case, Comparison, Document

FAMILY = {"DynamiCrafter": "dynamicrafter", "VideoCrafter": "videocrafter1"}


def manifest(document: Document) -> list[Case]:
    """One case for the backbone, one for each frozen encoder; nothing is computed, nothing takes memory."""
    content = document.content
    if content.get("family") not in FAMILY or "parts" not in content:
        return []
    checks = {"backbone": _backbone, "autoencoder": _autoencoder, "text tower": _text, "image tower": _image}
    return [
        Case(document.name, name, lambda check=check: _equal(*check(content["keys"], FAMILY[content["family"]])))
        for name, check in checks.items()
    ]


@cache
def _paper():
    from pipeline import presets

    return presets.preset(Path(__file__).parents[2] / "presets", "paper")


def _equal(found: dict[str, tuple], official: dict[str, tuple]) -> list[Comparison]:
    wrong = sorted(name for name in found.keys() | official.keys() if found.get(name) != official.get(name))
    assert not wrong, f"{len(wrong)} of {len(official)} names or shapes differ, such as {wrong[:3]}"
    return [Comparison(torch.tensor(len(found)), torch.tensor(len(official)), 0.0)]


def _shapes(state) -> dict[str, tuple]:
    return {name: tuple(value.shape) for name, value in state.items()}


def _part(keys: dict[str, list[int]], prefix: str) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix(prefix): torch.empty(shape, device="meta")
        for name, shape in keys.items()
        if name.startswith(prefix)
    }


def _backbone(keys, family):
    from pipeline.backbones.registry import build_empty
    from pipeline.conversion.backbone import export_backbone

    backbone = build_empty(family, _paper()["backbones"][family]["model"])
    prefixes = tuple(backbone.official_prefixes)
    official = {name: tuple(shape) for name, shape in keys.items() if name.startswith(prefixes)}
    return _shapes(export_backbone(backbone)), official


def _autoencoder(keys, family):
    from pipeline.conversion.vae import convert_vae, export_vae

    spec = _paper()["encoders"][_paper()["backbones"][family]["encoders"]]
    state = _part(keys, "first_stage_model.")
    return _shapes(export_vae(convert_vae(state, spec["autoencoder"]), spec["autoencoder"])), _shapes(state)


def _text(keys, family):
    from pipeline.conversion import clip

    return _tower(keys, family, "cond_stage_model.", clip.convert_text, clip.export_text, clip.TEXT_UNUSED)


def _image(keys, family):
    from pipeline.conversion import clip

    return _tower(keys, family, "embedder.", clip.convert_image, clip.export_image, clip.IMAGE_UNUSED)


def _tower(keys, family, prefix, convert, export, unused):
    spec = _paper()["encoders"][_paper()["backbones"][family]["encoders"]]
    state = _part(keys, prefix)
    found = _shapes(export(convert(state, spec["towers"]), spec["towers"]))
    return found, {name: shape for name, shape in _shapes(state).items() if name not in unused}
