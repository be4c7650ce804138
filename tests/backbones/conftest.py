"""Weights and inputs by the golden folder's recipe: normal draws seeded by the key, so that no layer stays at zero."""

import json
import os
import zlib
from pathlib import Path

import pytest
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[2]


class Recipe:
    """``draw``: an input; ``fill``: weights of 0.05 times a draw, norm weights of 1 plus that."""

    @staticmethod
    def draw(key: str, shape) -> torch.Tensor:
        return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(zlib.crc32(key.encode())))

    def fill(self, module: nn.Module) -> nn.Module:
        """The module in eval mode with every weight from its key."""
        norms = {
            f"{name}.weight" for name, part in module.named_modules() if isinstance(part, nn.GroupNorm | nn.LayerNorm)
        }
        state = module.state_dict()
        module.load_state_dict(
            {key: 0.05 * self.draw(key, value.shape) + (key in norms) for key, value in state.items()}
        )
        return module.eval()


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    return Recipe()


@pytest.fixture(scope="session")
def golden():
    """Reads a JSON file of the reference numbers of the official code; skips where they are not."""
    folder = Path(os.environ.get("PIPELINE_GOLDEN") or ROOT.parent / "shared" / "golden") / "lvdm"
    if not folder.is_dir():
        pytest.skip(f"no reference numbers of the official code at {folder} (set PIPELINE_GOLDEN)")

    def read(name: str):
        """A JSON file, and the tensors that lie beside it."""
        from safetensors.torch import load_file

        tensors = folder / f"{name}_expected.safetensors"
        return json.loads((folder / f"{name}.json").read_text()), load_file(tensors) if tensors.exists() else {}

    return read


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
