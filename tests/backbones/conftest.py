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
