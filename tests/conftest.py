"""Weights and inputs by the golden folder's recipe: normal draws seeded by the key, so that no layer stays at zero."""

import json
import os
import zlib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[1]


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
def golden_folder() -> Path:
    """Reference numbers of the official code; they are not ours to commit, so that a clone alone skips."""
    folder = Path(os.environ.get("PIPELINE_GOLDEN") or ROOT.parent / "shared" / "golden")
    if not folder.is_dir():
        pytest.skip(f"no reference numbers of the official code at {folder} (set PIPELINE_GOLDEN)")
    return folder


@pytest.fixture(scope="session")
def golden(golden_folder):
    """Reads a JSON file of the backbones' reference numbers."""
    folder = golden_folder / "lvdm"

    def read(name: str):
        """A JSON file, and the tensors that lie beside it."""
        from safetensors.torch import load_file

        meta = json.loads((folder / f"{name}.json").read_text())
        beside = [folder / f"{name}_expected.safetensors", folder / f"{name}.safetensors"]
        return meta, next((load_file(path) for path in beside if path.exists()), {})

    return read


@pytest.fixture(scope="session")
def switches():
    """Training's switches of a family; keyword arguments change single ones."""
    from pipeline.diffusion.source import TRAINING, resolve

    def make(family: str, source: str = "paper", **changed):
        return resolve(TRAINING, family, SimpleNamespace(source=source, switches=changed), "trainings")

    return make


@pytest.fixture(scope="session")
def small_backbones() -> dict:
    """A small config of each family, and the recorded output."""
    return json.loads((ROOT / "tests/backbones/reference.json").read_text())


@pytest.fixture(scope="session")
def make_backbone(small_backbones, recipe):
    """The reference backbone of a family, filled by the recipe; one for the whole session."""
    from pipeline.backbones.registry import build

    made = {}

    def make(family: str):
        if family not in made:
            made[family] = recipe.fill(build(family, small_backbones[family]["config"]))
        return made[family]

    return make
