"""Full-size UNets on a GPU, random weights, 16 x 320 x 512, bfloat16: python benchmarks/gpu.py

Clips a second with guidance at batch 1, 4 and 8; training steps a second and peak memory, with and without gradient
checkpointing; and the share of the card's own matrix rate, measured in the same run; eager and compiled.
"""

import argparse
import json
import time
from functools import partial

import torch
from project import ROOT
from torch.utils.flop_counter import FlopCounterMode

from pipeline import presets
from pipeline.backbones.interface import Conditions
from pipeline.backbones.registry import FAMILIES, build_empty
from pipeline.footprint import example_inputs, with_checkpointing

SHAPE = (4, 16, 40, 64)
STEPS = {"videocrafter1": 50, "dynamicrafter": 50, "svd": 49}  # calls of the network a clip; Heun asks twice but once
GIB = 2**30


def matrix_rate(size: int = 8192, repeats: int = 30) -> float:
    """Operations a second of a bfloat16 matrix product."""
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / timed(lambda: a @ b, repeats)


def timed(job, repeats: int, warm: int = 3) -> float:
    """Seconds a call."""
    for _ in range(warm):
        job()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(repeats):
        job()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / repeats


def network(family: str, checkpointing: bool, dtype: torch.dtype):
    """Random weights, made on the card."""
    model = json.loads(json.dumps(presets.preset(ROOT / "presets", "paper")["backbones"][family]["model"]))
    backbone = build_empty(family, with_checkpointing(model, checkpointing)).to_empty(device="cuda").to(dtype)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.normal_(std=0.02)
    return backbone


def sampling(family: str, compiled: bool, batches: list[int], rate: float) -> None:
    backbone = network(family, False, torch.bfloat16).eval()
    if compiled:
        backbone.unet.compile()
    for batch in batches:
        x, t, conditions = example_inputs(backbone, SHAPE, batch, "cuda", torch.bfloat16)
        both = Conditions.cat([conditions, conditions])
        pair, times = x.repeat(2, 1, 1, 1, 1), t.repeat(2)
        torch.cuda.reset_peak_memory_stats()
        with torch.inference_mode():
            if not compiled:
                with FlopCounterMode(display=False) as counter:
                    backbone(pair, times, both)
                flops[family, batch] = counter.get_total_flops()
            seconds = timed(partial(backbone, pair, times, both), 5)
        peak = torch.cuda.max_memory_allocated() / GIB
        share = flops[family, batch] / seconds / rate
        print(f"{family:<14} sampling  {'compiled' if compiled else 'eager   '} batch {batch}: "
              f"{batch / seconds / STEPS[family]:.3f} clips/s, {peak:.1f} GiB, {100 * share:.0f} % of the matrix rate",
              flush=True)  # fmt: skip


def training(family: str, compiled: bool, checkpointing: bool, batch: int, rate: float) -> None:
    backbone = network(family, checkpointing, torch.float32).train()
    if compiled:
        backbone.unet.compile()
    optimizer = torch.optim.AdamW(backbone.parameters(), lr=1e-6)
    x, t, conditions = example_inputs(backbone, SHAPE, batch, "cuda", torch.float32)

    def step():
        with torch.autocast("cuda", torch.bfloat16):
            loss = backbone(x, t, conditions).float().square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    torch.cuda.reset_peak_memory_stats()
    seconds = timed(step, 3, warm=2)
    peak = torch.cuda.max_memory_allocated() / GIB
    share = 3 * flops[family, 1] / 2 * batch / seconds / rate  # forward once and backward twice, without guidance
    print(f"{family:<14} training  {'compiled' if compiled else 'eager   '} batch {batch}, "
          f"{'with' if checkpointing else 'without'} checkpointing: {1 / seconds:.2f} steps/s, {peak:.1f} GiB, "
          f"{100 * share:.0f} % of the matrix rate", flush=True)  # fmt: skip


flops: dict[tuple[str, int], int] = {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=FAMILIES)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4, 8])
    parser.add_argument("--no-compile", action="store_true")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU: this benchmark needs one")
    rate = matrix_rate()
    name, version = torch.cuda.get_device_name(), torch.__version__
    print(f"{name}: {rate / 1e12:.0f} TFLOP/s in bfloat16 products, torch {version}", flush=True)
    for family in args.families:
        for compiled in (False,) if args.no_compile else (False, True):
            sampling(family, compiled, [1, *(batch for batch in args.batches if batch != 1)], rate)
            for checkpointing in (False, True):
                training(family, compiled, checkpointing, 1, rate)
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
