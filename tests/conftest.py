"""Weights and inputs by the golden folder's recipe: normal draws seeded by the key, so that no layer stays at zero."""

import json
import zlib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests.helpers.web import Server

ROOT = Path(__file__).resolve().parents[1]


def pytest_addoption(parser):
    parser.addoption(
        "--golden", action="append", metavar="DIR", help="a folder of reference numbers, for tests/test_golden.py"
    )


def pytest_terminal_summary(terminalreporter):
    """Errors of the reference cases, where any ran."""
    rows = []
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            rows += [(*value, outcome) for name, value in report.user_properties if name == "golden"]
    if rows and (terminalreporter.config.getoption("--golden") or terminalreporter.verbosity > 0):
        terminalreporter.section("reference numbers")
        width = max(len(f"{row[0]} / {row[1]}") for row in rows)
        terminalreporter.write_line(f"{'name / case':<{width}}  max abs error  relative  allowed")
        for document, case, absolute, relative, allowed, outcome in rows:
            line = f"{document + ' / ' + case:<{width}}  {absolute:13.3g}  {relative:8.2g}  {allowed:7.0e}"
            terminalreporter.write_line(line + ("" if outcome == "passed" else "  FAILED"))


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


@pytest.fixture
def server(data):
    """A web server of the folder that the module's fixture ``data`` makes."""
    running = Server(data)
    yield running
    running.end()


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    return Recipe()


@pytest.fixture(scope="session")
def switches():
    """Training's switches of a family; keyword arguments change single ones."""
    from pipeline.diffusion.source import TRAINING, resolve

    def make(family: str, source: str = "paper", **changed):
        return resolve(TRAINING, family, SimpleNamespace(source=source, switches=changed), "trainings")

    return make


@pytest.fixture(scope="session")
def small_backbones() -> dict:
    """A small config of each family."""
    return json.loads((ROOT / "tests/backbones/small.json").read_text())


@pytest.fixture(scope="session")
def make_backbone(small_backbones, recipe):
    """The reference backbone of a family, filled by the recipe; one for the whole session."""
    from pipeline.backbones.registry import build

    made = {}

    def make(family: str):
        if family not in made:
            with torch.inference_mode(False):  # whoever asks first: later tests train it
                made[family] = recipe.fill(build(family, small_backbones[family]["config"]))
        return made[family]

    return make
