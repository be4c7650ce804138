"""The stage moments on latents as the trainings read them."""

import logging
from fractions import Fraction
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from pipeline.data.latents import FIELDS, MIRRORED
from pipeline.errors import PipelineError
from pipeline.sampling.moments_file import read_moments
from pipeline.stages import moments
from tests.helpers.parted import run_parted, write_latents


def run_stage(latents, output, clips=10, **shards):
    stage = SimpleNamespace(
        inputs=[latents], outputs=[output], params=SimpleNamespace(moments=SimpleNamespace(clips=clips)),
        log=logging.getLogger("test"), record=SimpleNamespace(metrics=lambda values: None),
    )  # fmt: skip
    run_parted(moments, stage, **shards)
    return output


def test_same_latents_give_the_same_bytes(latents, tmp_path):
    """safetensors writes several entries of metadata in an order that changes from file to file."""
    assert len({run_stage(latents, tmp_path / str(number)).read_bytes() for number in range(12)}) == 1


def test_bytes_do_not_depend_on_the_number_of_shards_or_their_order(latents, tmp_path, monkeypatch):
    monkeypatch.setattr(moments, "CLIPS_PER_PART", 3)
    whole = run_stage(latents, tmp_path / "whole")
    two = run_stage(latents, tmp_path / "two", shards=2, order=[1, 0])
    many = run_stage(latents, tmp_path / "many", shards=6, order=[5, 3, 1, 0, 2, 4])
    assert whole.read_bytes() == two.read_bytes() == many.read_bytes()


def test_blocks_merged_are_the_exact_sum(tmp_path, monkeypatch):
    """Against fractions, which do not round: within 1e-12, also where the mean is large beside the spread."""
    monkeypatch.setattr(moments, "CLIPS_PER_PART", 4)
    monkeypatch.setattr(moments, "BATCH", 3)
    values = (100 + torch.randn(23, 1, 1, 1, 2, generator=torch.Generator().manual_seed(0))).float()
    rows = []
    for number, value in enumerate(values):
        fields = {key: torch.zeros(1, 1) for key in FIELDS}
        fields |= {"mean": value[None], "logvar": torch.full_like(value[None], -2.0)}
        rows.append(([f"clip{number}"], fields))
    write_latents(tmp_path / "set", rows, {"text": torch.zeros(1)})
    found = load_file(run_stage(tmp_path / "set", tmp_path / "m.safetensors", clips=23, shards=3, order=[2, 0, 1]))
    exact = [[Fraction(float(v)) / 2 for v in value.flatten()] for value in values]  # the scale of the helper: 0.5
    means = [sum(row[k] for row in exact) / 23 for k in range(2)]
    spread = sum((row[k] - means[k]) ** 2 for row in exact for k in range(2)) / (23 * 2)
    within = torch.tensor(-2.0).double().exp().item() / 4
    for k in range(2):
        assert abs(float(found["mean"].flatten()[k]) / float(means[k]) - 1) < 1e-12
    assert abs(float(found["variance"]) / (float(spread) + within) - 1) < 1e-12


def test_what_it_writes_is_what_sampling_reads(latents, tmp_path):
    path = run_stage(latents, tmp_path / "moments.safetensors")
    mean, variance = read_moments(path, "vae")
    assert mean.ndim == 4 and mean.std() > 0 and variance > 0
    with pytest.raises(PipelineError, match="VAE"):
        read_moments(path, "another")


def test_mirrored_clips_do_not_enter(tmp_path):
    """They are there for training; E[X0] is that of the clips as they are."""
    generator, folders = torch.Generator().manual_seed(0), []
    for name, mirrored in (("plain", False), ("both", True)):
        generator.manual_seed(0)
        rows = []
        for number in range(6):
            mean = torch.randn(1, 4, 2, 3, 3, generator=generator)
            for suffix in ("", MIRRORED)[: 1 + mirrored]:
                fields = {key: torch.zeros(1, 1) for key in FIELDS}
                fields |= {"mean": mean.flip(-1) if suffix else mean, "logvar": torch.full_like(mean, -3.0)}
                rows.append(([f"clip{number}{suffix}"], fields))
        write_latents(tmp_path / name, rows, {"text": torch.zeros(1)})
        folders.append(run_stage(tmp_path / name, tmp_path / f"{name}.safetensors"))
    plain, both = (read_moments(path, "vae") for path in folders)
    assert torch.equal(plain[0], both[0]) and plain[1] == both[1]
