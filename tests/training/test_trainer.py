"""The trainer: exact resume after a real SIGKILL, the same data for both fine-tunes, clear errors."""

import copy
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from pipeline.backbones.checkpoint import load_backbone
from pipeline.backbones.registry import FAMILIES, build
from pipeline.data.latents import LatentSet
from pipeline.diffusion.schedules import make_schedule
from pipeline.diffusion.timenoise import make_condition_noise
from pipeline.errors import PipelineError
from pipeline.params.backbones import ConditionDropout, Optimisation
from pipeline.training.batches import assemble, noise_conditions
from pipeline.training.job import FAILURE
from pipeline.training.order import clip_order
from pipeline.training.trainer import _read, learning_rate, train

TIMENOISE = {"kind": "timenoise", "beta_max": 2.0, "exponent": 5.0}
NO_NOISE = make_condition_noise({"kind": "none"})


def plain(value):
    return json.loads(json.dumps(value))


def weights(job) -> dict:
    return load_file(Path(job.output) / "model.safetensors")


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def settings_of(job) -> Optimisation:
    values = plain(job.optimisation)
    return Optimisation(**{**values, "dropout": ConditionDropout(**values["dropout"])})


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_trains_and_writes_its_checkpoint(make_job, family):
    job = make_job(family, condition_noise=TIMENOISE)
    train(job)
    lines = [json.loads(line) for line in Path(job.losses).read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1, 2, 3]
    assert all(line["loss"] > 0 for line in lines)
    config = json.loads((Path(job.output) / "config.json").read_text())
    assert (config["family"], config["vae_hash"]) == (family, "vae")


def worker(job, folder: Path) -> subprocess.Popen:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "job.json").write_text(json.dumps(plain(asdict(job))))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.training.worker", str(folder / "job.json")],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def test_killed_and_resumed_equals_never_killed_bit_for_bit(make_job, tmp_path):
    whole, killed = make_job("dynamicrafter", "whole", steps=9), make_job("dynamicrafter", "killed", steps=9)
    assert worker(whole, tmp_path / "a").wait() == 0
    process = worker(killed, tmp_path / "b")
    deadline = time.monotonic() + 120
    while not (Path(killed.losses).exists() and Path(killed.losses).read_text().count("\n") >= 5):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (Path(killed.output) / "model.safetensors").exists()
    assert (Path(killed.state) / "training.pt").exists(), "it must have a state to go on from"
    assert worker(killed, tmp_path / "b").wait() == 0
    assert same(weights(whole), weights(killed))
    assert Path(whole.losses).read_text() == Path(killed.losses).read_text()


def test_a_full_disk_is_said_in_a_line(make_job, tmp_path):
    job = make_job("svd")
    partial = Path(job.losses).with_suffix(".partial")  # it becomes the file of the losses
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.symlink_to("/dev/full")
    assert worker(job, tmp_path / "a").wait() == 1
    assert (tmp_path / "a" / FAILURE).read_text().startswith("training: no space left on the disk")
    assert not Path(job.output).exists()


def test_a_gradient_that_is_not_finite_is_an_error_and_writes_nothing(make_job, monkeypatch):
    job = make_job("svd", "job", 3)
    monkeypatch.setattr(Accelerator, "clip_grad_norm_", lambda *_: torch.tensor(float("nan")))
    with pytest.raises(PipelineError, match="gradient is not finite at step 0"):
        train(job)
    assert not Path(job.output).exists()


def test_loss_that_is_not_finite_names_step_and_clip_and_writes_nothing(make_job, broken_latents):
    job = make_job("svd", steps=20, latents=str(broken_latents))
    with pytest.raises(PipelineError, match=r"not finite at step \d+ for clips \['clip3'\]"):
        train(job)
    assert not Path(job.output).exists()


def test_finetune_refuses_latents_of_another_vae(make_job, other_vae_latents):
    start = make_job("svd", "start", steps=1)
    train(start)
    with pytest.raises(PipelineError, match="was trained on latents of VAE"):
        train(make_job("svd", "next", source=start.output, model=None, latents=str(other_vae_latents)))


def test_finetune_starts_from_the_checkpoint(make_job):
    start = make_job("svd", "start", steps=1)
    train(start)
    follow = make_job("svd", "next", steps=1, source=start.output, model=None)
    follow.optimisation = {**follow.optimisation, "learning_rate": 1e-12}
    train(follow)
    first, second = weights(start), weights(follow)
    assert all(torch.allclose(first[name], second[name], atol=1e-6) for name in first)


def batch_of(job, backbone, step=3):
    schedule, settings = make_schedule(job.process), settings_of(job)
    latents = LatentSet(Path(job.latents))
    return assemble(
        backbone, schedule, latents, settings, step, clip_order(settings.seed, step, 4, len(latents))
    ), schedule


def test_both_finetunes_see_the_same_data_and_only_the_condition_differs(make_job, switches):
    job = make_job("dynamicrafter")
    backbone = build("dynamicrafter", plain(job.model))
    (one, schedule), (two, _) = batch_of(job, backbone), batch_of(job, backbone)
    for name in ("x0", "noise", "t", "image_tokens", "drop_text", "drop_image"):
        assert torch.equal(getattr(one, name), getattr(two, name))
    clean = noise_conditions(backbone, one.conditions_with(torch.zeros(4, 8, 32)), NO_NOISE,
                             one, schedule, switches("dynamicrafter"))  # fmt: skip
    noised = noise_conditions(backbone, two.conditions_with(torch.zeros(4, 8, 32)), make_condition_noise(TIMENOISE),
                              two, schedule, switches("dynamicrafter"))  # fmt: skip
    assert torch.equal(clean.image_latent, one.conditions.image_latent)
    assert torch.equal(clean.text, noised.text)
    for name in backbone.noised_conditions:
        assert not torch.equal(getattr(clean, name), getattr(noised, name))
    levels = [(noised.image_latent - clean.image_latent).flatten(1).std(1), noised.image_context.flatten(1).std(1)]
    assert not torch.allclose(levels[0], levels[1], rtol=0.05), "latent and tokens have levels of their own"


def test_svd_is_told_the_level(make_job, switches):
    job = make_job("svd")
    backbone = build("svd", plain(job.model))
    batch, schedule = batch_of(job, backbone)
    noised = noise_conditions(
        backbone, batch.conditions, make_condition_noise(TIMENOISE), batch, schedule, switches("svd")
    )
    added = (noised.image_latent - batch.conditions.image_latent).flatten(1).std(1)
    assert torch.allclose(noised.noise_level, added, rtol=0.15)


def test_a_clip_does_not_depend_on_who_shares_its_batch(make_job):
    job = make_job("videocrafter1")
    backbone = build("videocrafter1", plain(job.model))
    latents, settings, schedule = LatentSet(Path(job.latents)), settings_of(job), make_schedule(job.process)
    alone = assemble(backbone, schedule, latents, settings, 5, [7])
    shared = assemble(backbone, schedule, latents, settings, 5, [2, 7, 1])
    assert (
        torch.equal(alone.x0[0], shared.x0[1])
        and torch.equal(alone.noise[0], shared.noise[1])
        and alone.t[0] == shared.t[1]
    )


def test_conditional_frame_is_random_for_dynamicrafter_and_first_for_the_others(make_job):
    for family in FAMILIES:
        job = make_job(family)
        backbone = build(family, plain(job.model))
        frames = set()
        for step in range(6):
            batch, _ = batch_of(job, backbone, step)
            rows = LatentSet(Path(job.latents)).batch([int(name[4:]) for name in batch.ids], (backbone.image_input,))
            tokens = rows[backbone.image_input]
            frames |= {f for i in range(4) for f in range(16) if torch.equal(tokens[i, f], batch.image_tokens[i])}
        assert frames == {0} if family != "dynamicrafter" else len(frames) > 4


def test_dropout_shares(make_job):
    job = make_job("videocrafter1")
    job.optimisation = {**copy.deepcopy(plain(job.optimisation)), "dropout": {"text": 0.2, "image": 0.3, "both": 0.1}}
    backbone = build("videocrafter1", plain(job.model))
    batches = [batch_of(job, backbone, step)[0] for step in range(150)]
    text = torch.cat([batch.drop_text for batch in batches]).float().mean().item()
    image = torch.cat([batch.drop_image for batch in batches]).float().mean().item()
    assert (text, image) == pytest.approx((0.3, 0.4), abs=0.06)


def test_learning_rate(make_job):
    settings = settings_of(make_job("svd", steps=100)).model_copy(
        update={"warmup": 10, "schedule": "cosine", "learning_rate": 1.0}
    )
    assert learning_rate(settings, 0) == pytest.approx(0.1, abs=0.01)
    assert learning_rate(settings, 50) == pytest.approx(0.5, abs=0.01)
    assert learning_rate(settings.model_copy(update={"schedule": "constant"}), 99) == 1.0


def test_latents_of_the_first_picture_alone_cannot_condition_on_any_frame(make_job, first_picture_latents):
    for family in FAMILIES:
        job = make_job(family)
        backbone, schedule = build(family, plain(job.model)), make_schedule(job.process)
        arguments = (backbone, schedule, LatentSet(first_picture_latents), settings_of(job), 1, [0, 1, 2, 3])
        if family == "dynamicrafter":
            with pytest.raises(PipelineError, match=r"set latents\.<name>\.picture_frames to all"):
                assemble(*arguments)
        else:
            assert assemble(*arguments).image_tokens.shape[0] == 4


@pytest.mark.parametrize("family", ["videocrafter1", "dynamicrafter"])
def test_a_training_that_tells_the_level_gives_the_network_a_path_for_it(make_job, switches, family):
    job = make_job(family, condition_noise={"kind": "cdm", "level_max": 2.0, "tokens": True})
    train(job)
    trained = load_backbone(Path(job.output))
    assert trained.told_noise_level and trained.config["tells_noise_level"]
    given = trained.conditions(torch.zeros(1, 12, 32), torch.zeros(1, 4, 8, 8), torch.tensor([3.0]))
    assert given.noise_level.tolist() == [0.0], "sampling tells a clean picture"
    assert any(weight.abs().max() > 0 for weight in trained.unet.noise_level_embedding[-1].parameters())


def test_the_path_changes_nothing_before_training_and_all_conditions_share_the_told_level(make_job, switches):
    job = make_job("dynamicrafter")
    backbone = build("dynamicrafter", plain(job.model)).eval()
    batch, schedule = batch_of(job, backbone)
    given = batch.conditions_with(torch.randn(4, 64, 32))
    x, t = batch.x0, batch.t
    before = backbone(x, t, given)
    backbone.tell_noise_level()
    noised = noise_conditions(
        backbone, given, make_condition_noise({"kind": "cdm", "level_max": 2.0, "tokens": True}), batch, schedule,
        switches("dynamicrafter"),
    )  # fmt: skip
    told = replace(given, noise_level=noised.noise_level)
    assert torch.allclose(backbone(x, t, told), before, atol=1e-6)
    for name in backbone.noised_conditions:
        added = (getattr(noised, name) - getattr(given, name)).flatten(1).std(1)
        assert torch.allclose(added, noised.noise_level, rtol=0.15)


def test_tokens_can_be_left_clean(make_job, switches):
    job = make_job("dynamicrafter")
    backbone = build("dynamicrafter", plain(job.model))
    batch, schedule = batch_of(job, backbone)
    given = batch.conditions_with(torch.randn(4, 64, 32))
    noise = make_condition_noise({**TIMENOISE, "tokens": False})
    noised = noise_conditions(backbone, given, noise, batch, schedule, switches("dynamicrafter"))
    assert torch.equal(noised.image_context, given.image_context)
    assert not torch.equal(noised.image_latent, given.image_latent)


def test_for_a_gpu_every_tensor_is_pinned_in_one_piece(make_job, monkeypatch):
    """An expanded tensor cannot be pinned. No GPU: pinning is only watched."""
    job, pinned = make_job("dynamicrafter"), []
    backbone, schedule = build("dynamicrafter", plain(job.model)), make_schedule(job.process)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(self.is_contiguous()) or self)
    batch = _read(backbone, schedule, LatentSet(Path(job.latents)), settings_of(job), 3, [0, 5], pin=True)
    assert all(pinned) and len(pinned) == 7 + 3  # of the batch, and of its conditions
    assert batch.replace_tokens.stride(0) != 0
