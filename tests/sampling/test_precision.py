"""bfloat16 weights and torch.compile: the same network, nearly the same numbers, float32 where it matters."""

import copy
import shutil

import pytest
import torch

from pipeline.backbones.registry import FAMILIES
from pipeline.footprint import example_inputs
from pipeline.sampling.generate import prepare_network

SHAPE = (4, 4, 8, 8)


@pytest.fixture
def prepared(make_backbone, make_generator):
    """A generator with a copy of the network, prepared as ``changed`` says."""

    def make(family: str, **changed):
        generator = make_generator(family, **changed)
        generator.backbone = prepare_network(copy.deepcopy(make_backbone(family)), generator.sampling, "cpu")
        return generator

    return make


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_bf16_samples_are_near_those_in_float32(prepared, make_generator, generate, family, guidance):
    """Two digits: bfloat16 has eight bits. The state stays float32, and what is recorded says so."""
    scale = {"guidance_min": guidance, "guidance_max": guidance} if family == "svd" else {"guidance": guidance}
    exact, fast = make_generator(family, **scale), prepared(family, precision="bf16", **scale)
    wanted, found = generate(exact), generate(fast)
    assert found.dtype == torch.float32
    assert {parameter.dtype for parameter in fast.backbone.parameters()} == {torch.bfloat16}
    error = ((found - wanted).square().mean() / wanted.square().mean()).sqrt()
    assert 1e-5 < error < 0.05, f"{error:.3f}"
    assert (exact.describe()["precision"], fast.describe()["precision"]) == ("no", "bf16")


@pytest.mark.parametrize("family", FAMILIES)
def test_sampler_state_and_times_are_float32_whatever_the_network_is(prepared, generate, monkeypatch, family):
    generator, seen = prepared(family, precision="bf16"), []
    kept = generator.schedule.x0_from_output
    monkeypatch.setattr(
        generator.schedule, "x0_from_output",
        lambda output, x_t, t: seen.append((output.dtype, x_t.dtype)) or kept(output, x_t, t),
    )  # fmt: skip
    generate(generator)
    assert set(seen) == {(torch.float32, torch.float32)}


@pytest.mark.parametrize("channels", [32, 512])
def test_norm_statistics_of_bf16_are_float32(channels):
    """A mean of 300 with a spread of 1 is lost if statistics are added up in eight bits."""
    torch.manual_seed(0)
    x = (300 + 8 * torch.randn(2, channels, 64, 64)).to(torch.bfloat16)
    norm = torch.nn.GroupNorm(32, channels)
    exact = norm(x.float())
    found = copy.deepcopy(norm).to(torch.bfloat16)(x).float()
    assert (found - exact).abs().max() < 0.04  # of values up to 4, rounded to eight bits once
    layer = torch.nn.LayerNorm(64)
    assert (copy.deepcopy(layer).to(torch.bfloat16)(x).float() - layer(x.float())).abs().max() < 0.04


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_compiled_without_a_break_in_the_graph(make_backbone, family):
    """Captured whole: what torch.compile cannot see would silently run uncompiled."""
    backbone = copy.deepcopy(make_backbone(family))
    x, time, conditions = example_inputs(backbone, SHAPE, 2, "cpu", torch.float32)
    wanted = backbone(x, time, conditions)
    torch._dynamo.reset()
    backbone.unet.compile(fullgraph=True, backend="eager")
    assert torch.allclose(backbone(x, time, conditions), wanted, atol=1e-5)


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("c++")), reason="torch.compile needs a C++ compiler here")
@pytest.mark.parametrize("family", ["dynamicrafter"])
def test_compiled_samples_are_the_same(prepared, make_generator, generate, family):
    torch._dynamo.reset()
    wanted, found = generate(make_generator(family)), generate(prepared(family, compile=True))
    assert torch.allclose(found, wanted, atol=1e-3 * wanted.abs().max().item())
