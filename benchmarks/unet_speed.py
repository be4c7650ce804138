"""Speed of the UNets against the same networks run as the released code runs them: python benchmarks/unet_speed.py

The released way: one clip a call, two calls for guidance, float32, attention written out with its matrix of scores,
temporal convolutions as three-dimensional ones. Ours: all clips and both branches of guidance in one call, fused
attention; in float32, and in bfloat16 (`precision: bf16`: bfloat16 weights in sampling, autocast in training). Same
weights, same numbers in float32 (checked), same threads, all in this run, taken in turns; times are medians.
"""

import argparse
import copy
import statistics
import time
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from unittest import mock

import torch
from project import ROOT  # noqa: F401  (puts the project on the path)
from torch import nn
from torch.nn import functional

from pipeline.backbones import lvdm_blocks
from pipeline.backbones.interface import Conditions
from pipeline.backbones.registry import FAMILIES, build
from pipeline.footprint import example_inputs

CLIPS, GUIDANCE = 2, 7.5
LVDM = {
    "num_res_blocks": 1, "num_head_channels": 32, "context_dim": 64, "out_channels": 4, "temporal_length": 16,
    "temporal_conv": True, "temporal_attention": True, "addition_attention": True, "text_length": 77,
    "tokens_per_frame": 16,
}  # fmt: skip
SIZES = {  # channels a level, latent height and width, steps of a sample
    "small": ((64, 128), (16, 16), 50),
    "middle": ((96, 192), (16, 24), 25),
}


def config_of(family: str, channels: tuple[int, ...]) -> dict:
    """A model group of params.yaml at this width."""
    if family == "svd":
        levels = len(channels)
        down = ["CrossAttnDownBlockSpatioTemporal"] * (levels - 1) + ["DownBlockSpatioTemporal"]
        up = ["UpBlockSpatioTemporal"] + ["CrossAttnUpBlockSpatioTemporal"] * (levels - 1)
        unet = {
            "in_channels": 8, "out_channels": 4, "block_out_channels": list(channels), "down_block_types": down,
            "up_block_types": up, "addition_time_embed_dim": 64, "projection_class_embeddings_input_dim": 192,
            "layers_per_block": 1, "cross_attention_dim": 64, "transformer_layers_per_block": 1,
            "num_attention_heads": [width // 32 for width in channels], "num_frames": 16,
        }  # fmt: skip
        return {"unet": unet, "motion_bucket": 20, "noise_level": 0.0}
    dynamic = family == "dynamicrafter"
    own = {"in_channels": 8, "image_cross_attention": True, "fs_condition": True} if dynamic else {
        "in_channels": 4, "use_image_attention": True, "fps_cond": True}  # fmt: skip
    unet = {
        **LVDM, **own, "model_channels": channels[0], "channel_mult": [width // channels[0] for width in channels],
        "attention_resolutions": [2 ** level for level in range(len(channels))],
    }  # fmt: skip
    projector = {
        "dim": 64,
        "depth": 1,
        "dim_head": 32,
        "heads": 2,
        "num_queries": 16,
        "embedding_dim": 64,
        "output_dim": 64,
    }
    return {"unet": unet, "image_projector": projector | ({"video_length": 16} if dynamic else {})}


def _explicit_attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, **others):
    scores = torch.einsum("...id,...jd->...ij", query, key) * query.shape[-1] ** -0.5
    return torch.einsum("...ij,...jd->...id", scores.softmax(-1), value)


@contextmanager
def released_way():
    """Attention and temporal convolution as the released code writes them."""
    with (
        mock.patch.object(functional, "scaled_dot_product_attention", _explicit_attention),
        mock.patch.object(lvdm_blocks.TemporalConv, "forward", nn.Conv3d.forward),
    ):
        yield


def one(conditions: Conditions, place: int) -> Conditions:
    return conditions.map(lambda value: value[place : place + 1])


def released_calls(backbone, x, time_of, conditions, empty=None):
    """Output for every clip, one a call; with ``empty`` guided, two calls a clip."""
    outputs = []
    for place in range(len(x)):
        clip, t = x[place : place + 1], time_of[place : place + 1]
        output = backbone(clip, t, one(conditions, place))
        if empty is not None:
            unconditional = backbone(clip, t, one(empty, place))
            output = unconditional + GUIDANCE * (output - unconditional)
        outputs.append(output)
    return torch.cat(outputs)


def our_call(backbone, x, time_of, conditions, empty=None):
    """The same in one call."""
    if empty is None:
        return backbone(x, time_of, conditions)
    both = Conditions.cat([conditions, empty])
    conditional, unconditional = backbone(x.repeat(2, 1, 1, 1, 1), time_of.repeat(2), both).chunk(2)
    return unconditional + GUIDANCE * (conditional - unconditional)


def sample(call, backbone, x, time_of, conditions, empty, steps: int):
    """Steps of any sampler: the network's calls are the time. The state is float32."""
    with torch.inference_mode():
        for _ in range(steps):
            x = x - call(backbone, x.to(backbone.dtype), time_of, conditions, empty).float() / (10 * steps)
    return x


def train(call, backbone, x, time_of, conditions, precision: torch.dtype):
    """Gradients of a batch; those of clips taken one by one add up."""
    backbone.zero_grad(set_to_none=True)
    places = range(len(x)) if call is released_calls else [slice(None)]
    for place in places:
        part = slice(place, place + 1) if isinstance(place, int) else place
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            output = call(backbone, x[part], time_of[part], conditions.map(lambda value, part=part: value[part]))
        output.float().square().mean().backward()


def measure(family: str, size: str, repeats: int) -> None:
    """Print one line a measurement."""
    channels, latent, steps = SIZES[size]
    torch.manual_seed(0)
    backbone = build(family, config_of(family, channels)).eval()
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    x, time_of, conditions = example_inputs(backbone, (4, 16, *latent), CLIPS, "cpu", torch.float32)
    conditions = conditions.map(lambda value: value + 0.1 * torch.randn_like(value))
    conditions = replace(conditions, fps=torch.full((CLIPS,), 8.0))
    empty = backbone.unconditional(conditions, torch.zeros(conditions.text.shape[1:]) if conditions.text is not None
                                   else None, torch.zeros(1, *conditions.image_context.shape[1:]))  # fmt: skip

    low = copy.deepcopy(backbone).to(torch.bfloat16)
    exact, fast = torch.float32, torch.bfloat16

    def forward(call, network):
        with torch.inference_mode():
            return call(network, x.to(network.dtype), time_of, conditions)

    def guided(call, network):
        return sample(call, network, x, time_of, conditions, empty, steps)

    jobs = {
        "forward": (forward, repeats),
        "forward and backward": (
            lambda call, network: train(call, backbone, x, time_of, conditions, network.dtype), repeats
        ),
        f"guided sample, {steps} steps": (guided, 1),
    }  # fmt: skip
    with released_way():
        wanted = forward(released_calls, backbone)
    found = forward(our_call, backbone)
    assert (found - wanted).abs().max() < 1e-3 * wanted.abs().max(), "not the same network"
    ways = {"released": (released_calls, backbone), exact: (our_call, backbone), fast: (our_call, low)}
    for name, (job, times) in jobs.items():
        taken = {way: [] for way in ways}
        for _ in range(times):
            for way, (call, network) in ways.items():
                started = time.perf_counter()
                with released_way() if way == "released" else nullcontext():
                    job(call, network)
                taken[way].append(time.perf_counter() - started)
        theirs, ours, ours_low = (statistics.median(seconds) for seconds in taken.values())
        ratios = f"float32 {ours:7.2f} s, {theirs / ours:5.2f} times"
        ratios += f"  bfloat16 {ours_low:7.2f} s, {theirs / ours_low:5.2f} times"
        print(f"{family:<14} {size:<7} {name:<24} released {theirs:7.2f} s  {ratios}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=SIZES)
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=FAMILIES)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {CLIPS} clips of 16 frames", flush=True)
    for size in args.sizes:
        for family in args.families:
            measure(family, size, args.repeats)


if __name__ == "__main__":
    main()
