"""Our own three networks against numbers of an earlier state of this code, for machines without the golden folder.

reference.json was written when test_golden.py passed. To write it anew, in the repository's root:
PYTHONPATH=. python tests/backbones/test_reference.py
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.backbones.registry import FAMILIES, build

PATH = Path(__file__).parent / "reference.json"
REFERENCE = json.loads(PATH.read_text())
FRAMES, SIZE = 4, (8, 8)


@torch.inference_mode()
def output(family: str, config: dict, recipe) -> torch.Tensor:
    """Of the whole backbone, with its projector, for conditions of different samples."""
    backbone = recipe.fill(build(family, config))
    tokens = (1, 24) if backbone.image_input == "image_embedding" else (9, 40)
    conditions = backbone.conditions(
        text=recipe.draw("text", (2, 12, 24)),
        image_latent=recipe.draw("latent", (2, 4, *SIZE)),
        fps=torch.tensor([3.0, 24.0]),
    )
    conditions = replace(conditions, image_context=backbone.image_context(recipe.draw("image", (2, *tokens))))
    return backbone(recipe.draw("x", (2, 4, FRAMES, *SIZE)), torch.tensor([999, 3]), conditions)


def summary(values: torch.Tensor) -> dict:
    """Few numbers that all of the tensor enters, and some of its elements."""
    flat = values.double().flatten()
    return {
        "shape": list(values.shape),
        "largest": flat.abs().max().item(),
        "std": flat.std().item(),
        "elements": flat[:: len(flat) // 16][:16].tolist(),
        "by_frame": values.double().square().mean((1, 3, 4)).flatten().tolist(),
    }


def test_every_family_has_a_reference():
    assert list(REFERENCE) == list(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_output_is_the_recorded_one(recipe, family):
    entry = REFERENCE[family]
    found, expected = summary(output(family, entry["config"], recipe)), entry["output"]
    assert found["shape"] == expected["shape"]
    tolerance = 1e-4 * expected["largest"]
    for name in ("largest", "std", "elements", "by_frame"):
        assert found[name] == pytest.approx(expected[name], abs=tolerance), name


if __name__ == "__main__":
    from conftest import Recipe

    for family, entry in REFERENCE.items():
        entry["output"] = summary(output(family, entry["config"], Recipe()))
    PATH.write_text(json.dumps(REFERENCE, indent=1) + "\n")
