"""What the stage moments costs beside the VAE that makes its latents.

    python benchmarks/moments.py [--clips 1] [--frames 16] [--many 128]     # about 2 minutes a clip and core

Stable Diffusion's autoencoder in full width, weights drawn, encodes clips of 320 x 512; the stage then runs on their
latents as they were stored, and once more on `many` clips (the same latents repeated), where what every run costs
once hardly counts. Baseline: the VAE's own time on these clips in the same run. Processor seconds, which other work on
the machine does not change as it changes the clock.
"""

import argparse
import logging
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from project import ROOT

from pipeline import presets
from pipeline.data.latents import FIELDS, part_file, write_index, write_null, write_part
from pipeline.encoders.frozen import Encoders, to_pixels
from pipeline.engine.parts import Parts
from pipeline.stages import moments

ROWS = 64


def build_vae() -> Encoders:
    """SVD's VAE is this one with another decoder; only the encoder runs."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    spec = dict(presets.preset(ROOT / "presets", "paper")["encoders"]["svd"]["vae"])
    up = ["UpDecoderBlock2D"] * len(spec["block_out_channels"])
    return Encoders(AutoencoderKL(up_block_types=up, **spec), None, None, None).eval()


def encode(encoders: Encoders, clips: list[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor], float]:
    """Means and log variances (C, F, h, w) of each clip (F, 3, H, W), and the VAE's processor seconds."""
    means, logvars, seconds = [], [], 0.0
    for clip in clips:
        start = time.process_time()
        with torch.inference_mode():
            parts = [encoders.encode(frame[None]) for frame in clip]
        seconds += time.process_time() - start
        means.append(torch.cat([mean for mean, _ in parts]).transpose(0, 1))
        logvars.append(torch.cat([logvar for _, logvar in parts]).transpose(0, 1))
    return means, logvars, seconds


def write(folder: Path, means: list[torch.Tensor], logvars: list[torch.Tensor], count: int) -> Path:
    """A latents folder of ``count`` clips, these repeated."""
    folder.mkdir()
    ids = []
    for number, first in enumerate(range(0, count, ROWS)):
        rows = [place % len(means) for place in range(first, min(first + ROWS, count))]
        fields = {name: torch.zeros(len(rows), 1) for name in FIELDS}
        fields |= {"mean": torch.stack([means[row] for row in rows])}
        fields |= {"logvar": torch.stack([logvars[row] for row in rows])}
        ids.append([f"{first + place:06d}" for place in range(len(rows))])
        write_part(folder / part_file(number), ids[-1], fields)
    write_null(folder, {"text": torch.zeros(1)})
    write_index(folder, ids, {"vae_hash": "none", "encoders_hash": "none", "scaling_factor": 0.18215})
    return folder


def run_stage(latents: Path, count: int) -> float:
    """Processor seconds of the stage."""
    stage = SimpleNamespace(
        inputs=[latents], outputs=[latents.with_suffix(".safetensors")], parts=Parts(latents.with_suffix(".parts")),
        params=SimpleNamespace(moments=SimpleNamespace(clips=count)), log=logging.getLogger("moments"),
        record=SimpleNamespace(metrics=lambda values: None),
    )  # fmt: skip
    start = time.process_time()
    moments.merge(stage, moments.make_parts(stage))
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=1)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--many", type=int, default=128)
    args = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    shape = (args.frames, 320, 512, 3)
    clips = [to_pixels(torch.randint(0, 256, shape, generator=generator).to(torch.uint8).numpy())
             for _ in range(args.clips)]  # fmt: skip
    means, logvars, vae = encode(build_vae(), clips)
    print(f"VAE:     {vae / args.clips:9.2f} s a clip of {args.frames} x 320 x 512 ({args.clips} clips)")
    with tempfile.TemporaryDirectory() as scratch:
        for name, count in (("same", args.clips), ("many", args.many)):
            seconds = run_stage(write(Path(scratch) / name, means, logvars, count), count)
            share = 100 * (seconds / count) / (vae / args.clips)
            print(f"moments: {seconds / count:9.4f} s a clip ({count} clips): {share:.4f} % of the VAE's time")
    print(f"It stays below 5 % on a device that takes more than {20 * seconds / count:.2f} s a clip.")


if __name__ == "__main__":
    main()
