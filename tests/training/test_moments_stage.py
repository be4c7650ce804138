"""The stage moments on latents as the trainings read them."""

import logging
from types import SimpleNamespace

import pytest
import torch

from pipeline.data.latents import FIELDS, MIRRORED, LatentWriter
from pipeline.errors import PipelineError
from pipeline.sampling.moments_file import read_moments
from pipeline.stages import moments


def run_stage(latents, output):
    moments.run(
        SimpleNamespace(
            inputs=[latents], outputs=[output], params=SimpleNamespace(moments=SimpleNamespace(clips=10)),
            log=logging.getLogger("test"), record=SimpleNamespace(metrics=lambda values: None),
        )
    )  # fmt: skip
    return output


def test_same_latents_give_the_same_bytes(latents, tmp_path):
    """safetensors writes several entries of metadata in an order that changes from file to file."""
    assert len({run_stage(latents, tmp_path / str(number)).read_bytes() for number in range(12)}) == 1


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
        writer = LatentWriter(tmp_path / name, 4, "vae", "encoders", 0.5)
        generator.manual_seed(0)
        for number in range(6):
            mean = torch.randn(1, 4, 2, 3, 3, generator=generator)
            for suffix in ("", MIRRORED)[: 1 + mirrored]:
                fields = {key: torch.zeros(1, 1) for key in FIELDS}
                fields |= {"mean": mean.flip(-1) if suffix else mean, "logvar": torch.full_like(mean, -3.0)}
                writer.add([f"clip{number}{suffix}"], fields)
        writer.close({"text": torch.zeros(1)})
        folders.append(run_stage(tmp_path / name, tmp_path / f"{name}.safetensors"))
    plain, both = (read_moments(path, "vae") for path in folders)
    assert torch.equal(plain[0], both[0]) and plain[1] == both[1]
