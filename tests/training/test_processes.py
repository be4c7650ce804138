"""One process, two, and gradients added up over several passes: the same training but for rounding."""

import os
import re
import signal
import time
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from pipeline.backbones.registry import FAMILIES, build
from pipeline.data.latents import LatentSet
from pipeline.diffusion.schedules import make_schedule
from pipeline.diffusion.timenoise import make_condition_noise
from pipeline.errors import PipelineError
from pipeline.seeding import seed_for
from pipeline.training import trainer
from pipeline.training.batches import assemble
from pipeline.training.loss import TrainingStep
from pipeline.training.order import clip_order, passes, share
from pipeline.training.trainer import add_gradients, train
from tests.training.launching import finish, logged, said, start, wait_for_steps, workers
from tests.training.test_trainer import TIMENOISE, same, settings_of, weights

RATE = 1e-3  # learning rate: about the length of one step of Adam, which turns a rounding of a tiny gradient into some
LOSS, NORM, WEIGHTS = 1e-5, 1e-4, RATE / 10  # allowed: relative of losses and gradient norms, absolute of weights


@pytest.fixture
def learning(make_job):
    """A job whose weights move by far more than rounding; batches of five are shared unequally."""

    def make(family, name="job", steps=5, **changes):
        job = make_job(family, name, steps, condition_noise=TIMENOISE, **changes)
        job.optimisation.update(batch_size=5, learning_rate=RATE, warmup=0, ema=0.5)
        return job

    return make


def assert_same_but_for_rounding(one, two) -> None:
    for name, allowed in (("loss", LOSS), ("gradient_norm", NORM)):
        assert logged(two, name) == pytest.approx(logged(one, name), rel=allowed)
    mine, theirs = weights(one), weights(two)
    assert all((mine[name] - theirs[name]).abs().max() < WEIGHTS for name in mine)


@pytest.mark.parametrize("family", FAMILIES)
def test_two_processes_and_added_gradients_train_as_one(learning, family):
    whole, parts, two = (learning(family, name) for name in ("whole", "parts", "two"))
    train(whole)
    start_of = build_start(whole)
    moved = max((weights(whole)[name] - value).abs().max().item() for name, value in start_of.items())
    assert moved > 20 * WEIGHTS
    train(replace(parts, clips_per_device=2))
    assert_same_but_for_rounding(whole, parts)
    finish(two, "cpu2", 2)  # shares of 3 and 2 clips: two passes and one
    assert_same_but_for_rounding(whole, two)
    assert not same(weights(whole), weights(two)) or not same(weights(whole), weights(parts)), "it was the same sum"


def build_start(job) -> dict:
    """The weights that a training from nothing begins with."""
    torch.manual_seed(seed_for(settings_of(job).seed, "weights", job.family))
    return build(job.family, job.model).state_dict()


@pytest.mark.parametrize("family", FAMILIES)
def test_added_gradients_are_those_of_the_whole_batch_in_float64(learning, switches, family):
    job = learning(family)
    settings, latents, schedule = settings_of(job), LatentSet(Path(job.latents)), make_schedule(job.process)
    torch.manual_seed(0)
    backbone = build(family, job.model).train()
    noise = make_condition_noise(TIMENOISE)
    step_of = TrainingStep(backbone, schedule, noise, switches(family), latents.null()).double()
    for value in backbone.parameters():  # no branch at zero
        torch.nn.init.normal_(value, std=0.05)
    order = clip_order(settings.seed, 0, 5, len(latents))

    def gradients(most):
        backbone.zero_grad()
        cut = passes(share(5, 0, 1), most)
        batches = [assemble(backbone, schedule, latents, settings, 0, [order[p] for p in part]) for part in cut]
        double = iter([batch.map(lambda x: x.double() if x.is_floating_point() else x) for batch in batches])
        loss = add_gradients(Accelerator(), step_of, double, len(cut), settings, 0)
        return loss, {name: value.grad.clone() for name, value in backbone.named_parameters() if value.grad is not None}

    loss, whole = gradients(None)
    scale = max(value.abs().max() for value in whole.values())
    assert scale > 0
    for most in (1, 2, 3):
        total, added = gradients(most)
        assert total.item() == pytest.approx(loss.item(), rel=1e-12)
        assert added.keys() == whole.keys()
        assert max((added[name] - whole[name]).abs().max() for name in whole) < 1e-12 * scale


def test_a_batch_smaller_than_the_processes_is_an_error_for_people(learning):
    job = learning("svd")
    job.optimisation["batch_size"] = 1
    assert start(job, "cpu2").wait(300) != 0
    assert "PipelineError: optimisation.batch_size 1 gives 2 processes less than a clip each" in said(job)


def test_processes_that_do_not_find_each_other_do_not_train(learning):
    job = learning("svd")
    with pytest.raises(PipelineError, match="asks for 2 processes, but 1 train together"):
        train(replace(job, processes=2))
    assert not Path(job.losses).exists()


def test_states_of_different_steps_are_not_gone_on_with(tmp_path):
    """Two nodes without a common folder."""
    two = SimpleNamespace(device=torch.device("cpu"), gather=lambda mine: torch.tensor([0, 4]))
    with pytest.raises(PipelineError, match=r"states of different steps \[0, 4\]; .* shared by all nodes"):
        trainer._resume(two, tmp_path / "training.pt", {})


@pytest.mark.parametrize("killed", ["one worker", "all"])
def test_two_processes_killed_and_resumed_equal_never_killed_bit_for_bit(learning, killed):
    whole, broken = learning("dynamicrafter", "whole", 9), learning("dynamicrafter", "broken", 9)
    finish(whole, "cpu2", 2)
    process = start(broken, "cpu2", 2)
    wait_for_steps(broken, process, 5)
    both = workers(process)
    assert len(both) == 2
    if killed == "one worker":
        os.kill(both[1], signal.SIGKILL)
    else:
        process.kill()
    assert process.wait(100) != 0
    assert not (Path(broken.output) / "model.safetensors").exists()
    assert (Path(broken.state) / "training.pt").exists(), "it must have a state to go on from"
    finish(broken, "cpu2", 2)
    assert same(weights(whole), weights(broken))
    assert Path(whole.losses).read_text() == Path(broken.losses).read_text()


def test_what_two_processes_began_one_finishes_and_the_other_way_round(learning):
    whole, first, second = (learning("dynamicrafter", name, 6) for name in ("whole", "first", "second"))
    train(whole)
    for job, configs in ((first, ("cpu2", "cpu")), (second, ("cpu", "cpu2"))):
        process = start(job, configs[0], 2)
        wait_for_steps(job, process, 3)
        process.kill()
        process.wait()
        finish(job, configs[1], 2)
        assert_same_but_for_rounding(whole, job)
    assert load_file(Path(first.output) / "model.safetensors").keys() == weights(whole).keys()


def test_a_loss_that_is_not_finite_in_one_of_two_processes_ends_both_and_names_the_clip(learning, broken_latents):
    job = learning("svd", steps=20, latents=str(broken_latents))
    assert start(job, "cpu2").wait(300) != 0
    assert re.search(r"PipelineError: .*not finite at step \d+ for clips \['clip3'\]", said(job))
    assert not Path(job.output).exists()


def test_processes_of_one_machine_listen_on_loopback_only(learning):
    job = learning("svd", steps=1000)
    process = start(job, "cpu2")
    try:
        wait_for_steps(job, process, 2)
        below = [process, *psutil.Process(process.pid).children(recursive=True)]
        assert len(workers(process)) == 2
        sockets = [socket for one in below for socket in psutil.Process(one.pid).net_connections("inet")]
        addresses = {socket.laddr.ip for socket in sockets if socket.status == psutil.CONN_LISTEN}
        assert addresses and all(ip_address(address).is_loopback for address in addresses), addresses
    finally:
        process.kill()


@pytest.mark.parametrize("config", ["cpu", "cpu2"])
def test_workers_of_a_launch_that_is_killed_die_even_while_they_start(learning, config):
    """One that lived on would write beside the training that is started anew."""
    job = learning("svd", steps=1000)
    process = start(job, config)
    deadline = time.monotonic() + 60
    while not (left := workers(process)):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.wait()
    time.sleep(0.5)
    assert not any(psutil.pid_exists(worker) and psutil.Process(worker).status() != "zombie" for worker in left)


def test_a_process_that_fails_ends_the_others(learning):
    job = learning("svd", steps=1000)
    process = start(job, "cpu2")
    wait_for_steps(job, process, 2)
    first, second = workers(process)
    os.kill(second, signal.SIGKILL)
    assert process.wait(60) != 0
    assert "training ended with exit code" in said(job)
    assert not psutil.pid_exists(first)
