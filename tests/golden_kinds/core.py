"""What every kind of reference case shares: a document with tensors beside it, the recipe, comparisons."""

import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

NETWORK, ELSEWHERE = 1e-4, 1e-5  # tolerances, relative to the largest absolute value of the expected tensor


@dataclass(frozen=True)
class Document:
    """One JSON file of a folder in the goldens' format, and the tensors that lie beside it."""

    path: Path
    content: dict
    tensors: Mapping[str, Tensor]

    @property
    def name(self) -> str:
        return self.path.stem

    def inputs(self) -> dict[str, Tensor]:
        """Inputs by name without ``input.``."""
        shapes = self.content["inputs_recipe_keys_and_shapes"]
        return {key.removeprefix("input."): draw(key, shape) for key, shape in shapes.items()}


@dataclass(frozen=True)
class Case:
    """``compare`` computes; it returns what was compared with what."""

    document: str
    name: str
    compare: Callable[[], "list[Comparison]"]
    folder: str = field(default="", compare=False)


@dataclass(frozen=True)
class Comparison:
    found: Tensor
    expected: Tensor
    tolerance: float

    def errors(self) -> tuple[float, float]:
        """Largest absolute error, and that relative to the largest expected value; infinite where shapes differ."""
        found, expected = torch.as_tensor(self.found).double(), self.expected.double()
        if found.shape != expected.shape or not torch.isfinite(found).all():
            return float("inf"), float("inf")
        error, largest = (found - expected).abs().max().item(), expected.abs().max().item()
        return error, error / largest if largest else (0.0 if error == 0 else float("inf"))


def draw(key: str, shape) -> Tensor:
    """A normal draw seeded by the key."""
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(zlib.crc32(key.encode())))


def recipe_state(keys: Mapping[str, Mapping]) -> dict[str, Tensor]:
    """Weights from ``{name: {kind, shape}}``: 0.05 times a draw, norm weights of 1 plus that."""
    return {name: 0.05 * draw(name, item["shape"]) + (item["kind"] == "norm_weight") for name, item in keys.items()}


def filled(module: torch.nn.Module, keys: Mapping[str, Mapping]) -> torch.nn.Module:
    """``module`` in eval mode with the recipe's weights; names and shapes must be exactly those of ``keys``."""
    module.load_state_dict(recipe_state(keys), strict=True)
    return module.eval()


def read(path: Path) -> Document:
    """A JSON file with ``<name>_expected.safetensors`` or ``<name>.safetensors`` beside it, if there is one."""
    beside = [path.with_name(f"{path.stem}_expected.safetensors"), path.with_suffix(".safetensors")]
    tensors = next((load_file(file) for file in beside if file.is_file()), {})
    content = json.loads(path.read_text())
    return Document(path, content if isinstance(content, dict) else {}, tensors)
