"""The counted memory against what the CPU's allocator really holds, and its behaviour with size."""

import pytest
import torch

from pipeline.backbones.registry import FAMILIES, build
from pipeline.footprint import _Live, example_inputs, footprint, with_checkpointing

SHAPE = (4, 4, 16, 16)


def test_live_bytes_are_those_of_tensors_that_are_held():
    with _Live() as live:
        a = torch.zeros(1000)
        b = a.view(10, 100)  # the same storage
        assert live.now == 4000
        c = a + 1
        assert (live.now, live.peak) == (8000, 8000)
        del a, b
        assert live.now == 4000
        d = c * 2
        assert (live.now, live.peak) == (8000, 8000)
    assert d.shape == c.shape


@pytest.mark.parametrize("family", FAMILIES)
def test_activations_counted_without_running_are_those_of_a_run(small_backbones, family):
    """In float32 on the CPU, where nothing is fused away: within a quarter."""
    backbone = build(family, small_backbones[family]["config"]).train()
    inputs = example_inputs(backbone, SHAPE, 2, "cpu", torch.float32)
    with _Live() as live:
        backbone(*inputs).square().mean().backward()
    gradients = 4 * sum(p.numel() for p in backbone.parameters() if p.grad is not None)
    counted = footprint(family, small_backbones[family]["config"], SHAPE, 2, checkpointing=False)
    count = counted.parameters
    activations = counted.training - 22 * count  # bfloat16: half the bytes
    assert count == sum(p.numel() for p in backbone.parameters())
    assert 2 * activations == pytest.approx(live.peak - gradients, rel=0.25)


@pytest.mark.parametrize("family", FAMILIES)
def test_checkpointing_takes_less_and_gives_the_same_gradients(small_backbones, family):
    config = small_backbones[family]["config"]
    plain, less = (footprint(family, config, SHAPE, 4, checkpointing=on) for on in (False, True))
    assert less.training < 0.8 * plain.training and less.sampling == plain.sampling
    gradients = []
    for on in (False, True):
        torch.manual_seed(0)
        backbone = build(family, with_checkpointing(config, on)).train()
        for part in backbone.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = 0.0
        torch.manual_seed(1)
        with torch.no_grad():
            for parameter in backbone.parameters():
                parameter += 0.02 * torch.randn_like(parameter)
        backbone(*example_inputs(backbone, SHAPE, 1, "cpu", torch.float32)).square().mean().backward()
        gradients.append([p.grad.clone() for p in backbone.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1])
    for one, two in zip(*gradients, strict=True):
        assert torch.allclose(one, two, rtol=1e-4, atol=1e-5 * max(one.abs().max().item(), 1e-3))


def test_more_clips_take_more(small_backbones):
    config = small_backbones["svd"]["config"]
    one, four = (footprint("svd", config, SHAPE, count, checkpointing=False) for count in (1, 4))
    assert one.parameters == four.parameters and one.weights == four.weights == 2 * one.parameters
    assert one.sampling < four.sampling and one.training < four.training
