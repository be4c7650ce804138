"""The stage sample from folders to a folder: its manifest, its refusals, and memory bounded by the batch."""

import json
import logging
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pipeline.backbones.checkpoint import save_backbone, weights_hash
from pipeline.data.schema import ClipSet
from pipeline.errors import PipelineError
from pipeline.evaluation.samples import asked_motion, read_manifest
from pipeline.stages import sample as stage_module
from tests.helpers.parted import files_of, run_parted

EVALUATION = SimpleNamespace(seed=0, conditions=3, reference=4, allow_few=False, seeds=[0, 7])


@pytest.fixture
def run(make_backbone, make_generator, encoders_folder, encoders, clips_folder, moments, processes, tmp_path):
    """Runs the stage; returns the samples folder. Keyword arguments replace fields of the row or of sampling."""

    def call(
        family: str,
        data: str,
        name: str = "samples",
        init: str = "standard",
        vae=None,
        mean=None,
        asked=None,
        shards=1,
        order=None,
        **sampling,
    ):
        weights, moments_file = tmp_path / "weights", tmp_path / "moments.safetensors"
        save_backbone(weights, make_backbone(family), vae or encoders.vae_hash, {})
        mean = moments[0] if mean is None else mean
        save_file(
            {"mean": mean, "variance": torch.tensor(moments[1])},
            moments_file,
            {"moments": json.dumps({"vae_hash": encoders.vae_hash})},
        )
        start = SimpleNamespace(ucf101=50.0 if family == "svd" else 0.96, imagebench=20.0 if family == "svd" else 0.92)
        generator = make_generator(family, **{"seed": 5, **sampling})
        stage = SimpleNamespace(
            args=SimpleNamespace(run="row", data=data),
            params=SimpleNamespace(
                runs={"row": SimpleNamespace(backbone=family, init=init, start=start, motion_bucket=asked)},
                backbones={family: SimpleNamespace(process=processes[family], sampling=generator.sampling)},
                evaluation=EVALUATION,
                study=SimpleNamespace(height=64, fps=8),
            ),
            inputs=[weights, encoders_folder, moments_file, clips_folder],
            outputs=[tmp_path / name],
            device="cpu",
            log=logging.getLogger("test"),
            record=SimpleNamespace(metrics=lambda *_, **__: None, artifact=lambda *_: None, params=lambda *_: None),
        )
        run_parted(stage_module, stage, shards, order)
        return tmp_path / name

    return call


SAMPLER = {
    "svd": {"guidance_min", "guidance_max", "standard_std", "analytic", "told_fps"},
    "dynamicrafter": {
        "guidance",
        "guidance_rescale",
        "eta",
        "spacing",
        "rounding",
        "last_step",
        "analytic",
        "image_latent",
    },
}
TOLD = {"svd": {"fps", "motion_bucket", "noise_level"}, "dynamicrafter": {"fps"}}


@pytest.mark.parametrize("family", SAMPLER)
@pytest.mark.parametrize("data", ["ucf101", "imagebench"])
def test_manifest_holds_everything_that_a_clip_was_made_from(run, encoders, clips, tmp_path, family, data):
    folder = run(family, data, init="analytic")
    entries = read_manifest(folder)
    fields = {"id", "condition_id", "prompt", "seed", "sampling_seed", "init", "start", "vae", "weights", "moments"}
    fields |= {"sampler", "times", "initial_std", "precision"} | SAMPLER[family] | TOLD[family]
    fields |= {"video", "condition"} if data == "imagebench" else set()
    for entry in entries:
        place = clips.ids.index(entry["condition_id"])
        assert set(entry) == fields
        assert (entry["prompt"], entry["fps"]) == (clips.captions[place], clips.fps[place])
        assert (entry["vae"], entry["weights"]) == (encoders.vae_hash, weights_hash(tmp_path / "weights"))
        assert (entry["init"], entry["sampling_seed"], len(entry["moments"])) == ("analytic", 5, 64)
    starts = {("svd", "ucf101"): 50.0, ("svd", "imagebench"): 20.0, ("dynamicrafter", "ucf101"): 0.96}
    assert {entry["start"] for entry in entries} == {starts.get((family, data), 0.92)}
    if data == "imagebench":
        assert [entry["id"] for entry in entries] == clips.ids and {entry["seed"] for entry in entries} == {0}
    else:
        assert [entry["seed"] for entry in entries] == [0] * 3 + [7] * 3
        assert len({entry["id"] for entry in entries}) == 6 and len({entry["condition_id"] for entry in entries}) == 3
    assert ClipSet(folder).ids == [entry["id"] for entry in entries]


def test_a_standard_start_names_no_moments(run):
    assert all("moments" not in entry for entry in read_manifest(run("svd", "ucf101")))


def test_batch_size_changes_no_clip(run):
    one, five = (
        run("dynamicrafter", "ucf101", "one", batch_size=1),
        run("dynamicrafter", "ucf101", "five", batch_size=5),
    )
    first, second = (ClipSet(folder).frames(range(6)).astype(int) for folder in (one, five))
    assert np.abs(first - second).max() <= 1
    assert np.abs(first[0] - first[3]).mean() > 2, "replicates of one condition differ"
    assert (one / "manifest.jsonl").read_text() == (five / "manifest.jsonl").read_text()


@pytest.mark.parametrize("data", ["ucf101", "imagebench"])
def test_bytes_do_not_depend_on_the_number_of_shards_or_their_order(run, data):
    whole = run("dynamicrafter", data, "whole", batch_size=2)
    two = run("dynamicrafter", data, "two", batch_size=2, shards=2, order=[1, 0])
    many = run("dynamicrafter", data, "many", batch_size=2, shards=5, order=[4, 3, 0, 2, 1])
    assert len(ClipSet(whole)) == {"ucf101": 6, "imagebench": 8}[data]
    assert files_of(two) == files_of(whole) == files_of(many)


def test_clips_that_are_finished_are_never_sampled_again(run, monkeypatch):
    """A process that dies in its third batch; the next samples what is missing alone."""
    sampled, made = [], sample_batch_of()

    def dying(generator, encoders, clips, items, seed, device):
        if len(sampled) == 2:
            raise KeyboardInterrupt
        return recording(generator, encoders, clips, items, seed, device)

    def recording(generator, encoders, clips, items, seed, device):
        sampled.append([item.id for item in items])
        return made(generator, encoders, clips, items, seed, device)

    monkeypatch.setattr("pipeline.sampling.batch.sample_batch", dying)
    with pytest.raises(KeyboardInterrupt):
        run("dynamicrafter", "imagebench", batch_size=2)
    monkeypatch.setattr("pipeline.sampling.batch.sample_batch", recording)
    folder = run("dynamicrafter", "imagebench", batch_size=2)
    assert len(sampled) == 4 and sorted(id for batch in sampled for id in batch) == sorted(ClipSet(folder).ids)


def sample_batch_of():
    from pipeline.sampling.batch import sample_batch

    return sample_batch


def test_weights_of_another_vae_are_refused(run):
    with pytest.raises(PipelineError, match=r"was trained on latents of VAE f{12}"):
        run("svd", "ucf101", vae="f" * 64)


def test_moments_that_are_not_finite_stop_the_stage(run):
    with pytest.raises(PipelineError, match=r"not finite at sigma 50 for items \[0, 1\]"):
        run("svd", "ucf101", init="analytic", mean=torch.full((4, 4, 8, 8), torch.nan))


def test_the_stage_keeps_no_batch_that_is_written(run, monkeypatch):
    """However many clips there are, one batch of videos is alive while the next is made."""
    made, alive, sizes = [], [], []

    def fake(generator, encoders, clips, items, seed, device):
        alive.append(sum(reference() is not None for reference in made))
        videos = np.zeros((len(items), 4, 32, 32, 3), np.uint8)
        made.append(weakref.ref(videos))
        sizes.append(len(items))
        return videos, [{}] * len(items)

    monkeypatch.setattr("pipeline.sampling.batch.sample_batch", fake)
    folder = run("videocrafter1", "imagebench", batch_size=1)
    assert sizes == [1] * 8 and max(alive) <= 1
    assert len((folder / "manifest.jsonl").read_text().splitlines()) == 8
    assert json.loads((folder / "manifest.jsonl").read_text().splitlines()[0])["prompt"] == "a red ball, 0"


def test_the_motion_that_is_asked_for_reaches_the_network_and_the_manifest(run):
    folder = run("svd", "ucf101", asked=77.0)
    assert {entry["motion_bucket"] for entry in read_manifest(folder)} == {77.0}
    assert asked_motion(folder) == 77.0
    own = run("svd", "ucf101", name="own")
    assert asked_motion(own) not in (None, 77.0)
    assert not np.array_equal(ClipSet(folder).frames([0]), ClipSet(own).frames([0]))
    assert asked_motion(run("dynamicrafter", "ucf101", name="told none")) is None


def test_several_asked_motions_in_one_set_are_an_error(run):
    folder = run("svd", "ucf101")
    lines = (folder / "manifest.jsonl").read_text().splitlines()
    first = {**json.loads(lines[0]), "motion_bucket": 5.0}
    (folder / "manifest.jsonl").write_text("\n".join([json.dumps(first), *lines[1:]]) + "\n")
    with pytest.raises(PipelineError, match="names several motion buckets"):
        asked_motion(folder)
