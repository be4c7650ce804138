"""The weights of a seed: drawn from it, made once, and gone on with."""

import logging
from types import SimpleNamespace

import pytest

from pipeline import presets
from pipeline.backbones.checkpoint import weights_hash
from pipeline.claims.few_clips import write_few
from pipeline.claims.weights import SeedWeights
from pipeline.data.latents import LatentSet
from pipeline.errors import PipelineError
from pipeline.params.file import validate_params
from tests.test_params import ROOT
from tests.training.conftest import write_latents


class Record:
    def __init__(self):
        self.names = set()

    def metrics(self, values, step=None):
        self.names |= set(values)


@pytest.fixture(scope="module")
def latents(tmp_path_factory):
    return write_latents(tmp_path_factory.mktemp("claims") / "latents", count=12)


@pytest.fixture
def params():
    tree = presets.read(ROOT / "presets/demo.yaml")
    tree["claims"]["design"]["few"] = {"clips": 3, "steps": 2, "learning_rate": 1.0e-3}
    spec = tree["backbones"]["dynamicrafter"]
    spec["initialise"]["optimisation"].update(steps=2, batch_size=2)
    spec["finetune"].update(steps=3, batch_size=2)
    return validate_params(tree, "params.yaml")


def make(folder, seed, params, latents) -> SeedWeights:
    return SeedWeights(
        folder, seed, params.claims.design, params.backbones["dynamicrafter"], latents, folder / "initial",
        SimpleNamespace(accelerate_config="envs/accelerate/cpu.yaml", clips_per_device=None), Record(),
        logging.getLogger("test"),
    )  # fmt: skip


def test_few_clips_are_drawn_by_seed_and_id(latents, tmp_path):
    whole = LatentSet(latents)
    drawn = {seed: write_few(whole, 4, seed, tmp_path / str(seed)) for seed in (1, 2, 3)}
    assert len({tuple(ids) for ids in drawn.values()}) == 3
    part = LatentSet(tmp_path / "1")
    assert part.ids == drawn[1] and (part.vae_hash, part.scaling_factor) == (whole.vae_hash, whole.scaling_factor)
    for place, name in enumerate(part.ids):
        own, original = part.row(place), whole.row(whole.ids.index(name))
        assert all(own[field].equal(original[field]) for field in original)
    assert all(part.null()[name].equal(value) for name, value in whole.null().items())
    with pytest.raises(PipelineError, match=r"claims\.design\.few\.clips asks for 13 clips, latents holds 12; lower"):
        write_few(whole, 13, 0, tmp_path / "many")


def test_a_seed_trains_once_and_goes_on_after_a_kill(params, latents, tmp_path):
    first = make(tmp_path / "a", 7, params, latents)
    naive, few = first.tune("naive"), first.tune("few-timenoise")
    hashes = weights_hash(first.start()), weights_hash(naive), weights_hash(few)
    assert len(set(hashes)) == 3
    assert first.final_loss("naive") > 0
    assert {"start.loss", "naive.loss", "few-timenoise.loss"} <= first.record.names
    assert LatentSet(tmp_path / "a" / "few").ids and len(LatentSet(tmp_path / "a" / "few")) == 3
    stamp = (naive / "model.safetensors").stat().st_mtime_ns
    again = make(tmp_path / "a", 7, params, latents)
    assert again.tune("naive") == naive and (naive / "model.safetensors").stat().st_mtime_ns == stamp
    # As after a kill while the weights were being written.
    naive.rename(naive.with_name("weights.partial"))
    (naive.with_name("weights.partial") / "config.json").write_text("{")
    assert weights_hash(again.tune("naive")) == hashes[1]
    other = make(tmp_path / "b", 8, params, latents)
    assert weights_hash(other.start()) != hashes[0]


def test_released_weights_are_every_seeds_start(params, latents, tmp_path):
    weights = make(tmp_path, 7, params, latents)
    released = weights.spec.initialise.model_copy(update={"kind": "released"})
    weights.spec = weights.spec.model_copy(update={"initialise": released})
    assert weights.start() == tmp_path / "initial"
