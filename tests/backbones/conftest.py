"""Presets and small filled backbones."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def preset() -> dict:
    """The demo's parameters in plain values, for a test to change."""
    from pipeline import presets

    return json.loads(json.dumps(presets.read(ROOT / "presets/demo.yaml")))


@pytest.fixture(scope="session")
def demo() -> dict:
    """The demo's backbones."""
    from pipeline import presets

    return json.loads(json.dumps(presets.read(ROOT / "presets/demo.yaml")))["backbones"]


@pytest.fixture(scope="session")
def reference() -> dict:
    """A small config of each family, and the recorded output."""
    return json.loads((Path(__file__).parent / "reference.json").read_text())


@pytest.fixture(scope="session")
def make_backbone(reference, recipe):
    """The reference backbone of a family, filled by the recipe; one for the whole session."""
    from pipeline.backbones.registry import build

    made = {}

    def make(family: str):
        if family not in made:
            made[family] = recipe.fill(build(family, reference[family]["config"]))
        return made[family]

    return make
