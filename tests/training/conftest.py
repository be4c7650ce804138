"""A tiny latents folder and job settings."""

import copy
from pathlib import Path

import pytest
import torch

from pipeline import presets
from tests.helpers.parted import write_latents as write_parts

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def demo():
    return presets.read(ROOT / "presets/demo.yaml")


def write_latents(
    folder: Path, count: int = 12, vae_hash: str = "vae", broken: str | None = None, pictures: int = 16
) -> Path:
    generator = torch.Generator().manual_seed(0)
    rows = []
    for number in range(count):
        shape = (1, 4, 16, 8, 8)
        fields = {
            "mean": torch.randn(shape, generator=generator), "logvar": torch.full(shape, -6.0),
            "image_tokens": torch.randn(1, 16, 17, 32, generator=generator)[:, :pictures].half(),
            "image_embedding": torch.randn(1, 16, 1, 32, generator=generator)[:, :pictures].half(),
            "text": torch.randn(1, 12, 32, generator=generator).half(), "fps": torch.tensor([3.0]),
        }  # fmt: skip
        if broken == f"clip{number}":
            fields["logvar"] = torch.full(shape, 1000.0)  # finite, but not what is sampled from it
        rows.append((f"clip{number}", fields))
    null = {"text": torch.zeros(12, 32), "image_tokens": torch.zeros(17, 32), "image_embedding": torch.zeros(1, 32)}
    parts = []
    for first in range(0, count, 5):
        ids, fields = zip(*rows[first : first + 5], strict=True)
        parts.append((list(ids), {name: torch.cat([each[name] for each in fields]) for name in fields[0]}))
    return write_parts(folder, parts, null, vae_hash)


@pytest.fixture(scope="session")
def latents(tmp_path_factory) -> Path:
    return write_latents(tmp_path_factory.mktemp("latents") / "set")


@pytest.fixture
def make_job(demo, latents, tmp_path):
    """Job of a family with few steps; keyword arguments replace its fields."""
    from pipeline.training.job import Job

    def make(family: str, name: str = "job", steps: int = 4, **changes) -> Job:
        spec = copy.deepcopy(demo["backbones"][family])
        optimisation = {**spec["initialise"]["optimisation"], "steps": steps, "batch_size": 2, "checkpoint_every": 2}
        folder = tmp_path / name
        values = {
            "family": family, "model": spec["model"], "source": None, "latents": str(latents),
            "process": dict(spec["process"]),
            "optimisation": optimisation, "condition_noise": {"kind": "none"}, "output": str(folder / "out"),
            "departures": {"source": "paper", "switches": {}},
            "state": str(folder / "state"), "losses": str(folder / "losses.jsonl"),
        }  # fmt: skip
        return Job(**{**values, **changes})

    return make


@pytest.fixture
def broken_latents(tmp_path):
    return write_latents(tmp_path / "broken", broken="clip3")


@pytest.fixture
def other_vae_latents(tmp_path):
    return write_latents(tmp_path / "other", vae_hash="another")


@pytest.fixture
def first_picture_latents(tmp_path):
    return write_latents(tmp_path / "first", pictures=1)
