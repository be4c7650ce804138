"""The stage moments on latents as the trainings read them."""

import logging
from types import SimpleNamespace

import pytest

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
