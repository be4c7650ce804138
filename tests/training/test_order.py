"""Clips of a step, their shares and passes; dropout and work in advance that do not depend on them."""

import itertools
import threading
import time
from dataclasses import replace

import pytest
import torch
from torch import nn

from pipeline.backbones.registry import build
from pipeline.errors import PipelineError
from pipeline.training import order
from pipeline.training.ahead import ahead
from pipeline.training.clip_dropout import ClipDropout, ClipDropouts
from pipeline.training.order import clip_order, passes, share


def test_every_epoch_is_a_permutation_of_all_clips():
    seen = [clip for step in range(10) for clip in clip_order(0, step, 3, 10)]
    assert sorted(seen[:10]) == sorted(seen[10:20]) == list(range(10))
    assert seen[:10] != seen[10:20]


def test_order_depends_on_seed_and_step_alone():
    """And not on which steps were asked for before."""
    straight = [clip_order(3, step, 4, 11) for step in range(9)]
    assert [clip_order(3, step, 4, 11) for step in (8, 0, 5)] == [straight[8], straight[0], straight[5]]
    assert clip_order(4, 0, 4, 11) != straight[0]


def test_an_epoch_is_drawn_once(monkeypatch):
    """A million clips take 12 ms and 8 MB each time."""
    drawn, randperm = [], torch.randperm
    monkeypatch.setattr(order.torch, "randperm", lambda *a, **k: drawn.append(1) or randperm(*a, **k))
    order._permutation.cache_clear()
    for step in range(50):
        clip_order(0, step, 8, 100)  # four epochs
    assert len(drawn) == 4


@pytest.mark.parametrize("batch_size", [1, 2, 5, 8, 48, 64])
def test_shares_and_passes_hold_every_place_once_in_order(batch_size):
    for processes, most in itertools.product((1, 2, 3, 7, 8), (None, 1, 2, 3, 100)):
        if processes > batch_size:
            with pytest.raises(PipelineError, match=f"batch_size {batch_size} gives {processes} processes"):
                share(batch_size, 0, processes)
            continue
        cut = [passes(share(batch_size, rank, processes), most) for rank in range(processes)]
        assert [place for mine in cut for part in mine for place in part] == list(range(batch_size))
        assert all(0 < len(part) <= (most or batch_size) for mine in cut for part in mine)
        lengths = [sum(map(len, mine)) for mine in cut]
        assert max(lengths) - min(lengths) <= 1


# --- in advance ---


def test_results_come_in_order_whichever_is_ready_first():
    def task(number):
        time.sleep(0.02 if number % 3 == 0 else 0)
        return number

    tasks = [lambda number=number: task(number) for number in range(20)]
    for depth in (0, 1, 5, 50):
        assert list(ahead(tasks, depth, 4)) == list(range(20))


def test_no_more_is_begun_in_advance_than_asked():
    begun = []
    results = ahead((lambda number=number: begun.append(number) or number for number in range(100)), 3, 8)
    for expected in range(20):
        assert next(results) == expected
        time.sleep(0.005)
        assert len(begun) <= expected + 4
    results.close()
    assert len(begun) < 30


def test_threads_work_while_the_consumer_does():
    inside, most, lock = [0], [0], threading.Lock()

    def task():
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        time.sleep(0.05)
        with lock:
            inside[0] -= 1

    list(ahead([task] * 12, 4, 4))
    assert most[0] >= 3


@pytest.mark.parametrize("depth", [0, 4])
def test_an_error_is_raised_where_its_result_would_have_come(depth):
    def fail():
        raise PipelineError("the clip of step 2")

    results = ahead([lambda: 0, lambda: 1, fail, lambda: 3], depth, 2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(PipelineError, match="the clip of step 2"):
        next(results)
    assert "ahead" not in {thread.name[:5] for thread in threading.enumerate()}, "its threads have ended"


# --- dropout ---


def dropped(seeds: list[int], name: str = "a", p: float = 0.3, width: int = 4000) -> torch.Tensor:
    layer = ClipDropout(p, name).train()
    layer.seeds = seeds
    return layer(torch.ones(len(seeds), 2, width // 2))


def test_a_network_that_does_not_train_drops_nothing():
    network = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)).eval()
    ClipDropouts(network)
    x = torch.ones(2, 4)
    assert torch.equal(network(x), network[0](x))


def test_a_clip_s_mask_is_its_own_whoever_shares_the_batch():
    together = dropped([5, 6, 7])
    for row, seed in enumerate([5, 6, 7]):
        assert torch.equal(together[row], dropped([seed])[0])
    assert not torch.equal(together[0], together[1])
    assert not torch.equal(dropped([5], "a"), dropped([5], "b")), "each layer has a mask of its own"


def test_it_drops_the_asked_share_and_keeps_the_mean():
    values = dropped(list(range(50)))
    assert (values == 0).float().mean() == pytest.approx(0.3, abs=0.005)
    assert values.mean() == pytest.approx(1, abs=0.01)
    assert values.unique().tolist() == pytest.approx([0, 1 / 0.7])


def test_every_dropout_that_does_something_is_replaced_and_no_weight_changes_its_name(demo):
    for family, spec in demo["backbones"].items():
        backbone = build(family, spec["model"])
        active = [name for name, layer in backbone.named_modules() if isinstance(layer, nn.Dropout) and layer.p > 0]
        keys = list(backbone.state_dict())
        ClipDropouts(backbone)
        replaced = [name for name, layer in backbone.named_modules() if isinstance(layer, ClipDropout)]
        assert replaced == active and (family == "svd") == (not active)
        assert list(backbone.state_dict()) == keys
        ClipDropouts(backbone).seed([1, 2])
        assert all(layer.seeds == [1, 2] for layer in backbone.modules() if isinstance(layer, ClipDropout))


def test_a_block_computed_twice_drops_the_same(demo, recipe):
    """Gradient checkpointing computes each block again for the gradient."""
    model = demo["backbones"]["dynamicrafter"]["model"]
    gradients = []
    for checkpointing in (False, True):
        own = {**model, "unet": {**model["unet"], "use_checkpoint": checkpointing, "dropout": 0.2}}
        backbone = recipe.fill(build("dynamicrafter", own)).train()
        ClipDropouts(backbone).seed([3, 4])
        text, tokens = torch.ones(2, 12, 32), torch.ones(2, 64, 32)
        given = backbone.conditions(text, recipe.draw("latent", (2, 4, 8, 8)), torch.tensor([3.0, 4.0]))
        x = recipe.draw("x", (2, 4, 16, 8, 8))
        output = backbone(x, torch.tensor([10, 500]), replace(given, image_context=tokens))
        output.square().mean().backward()
        gradients.append({name: value.grad for name, value in backbone.named_parameters() if value.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) > 50
    assert all(torch.equal(value, gradients[1][name]) for name, value in gradients[0].items())
