"""E[X0] and its scalar variance. Reads latents; writes the moments that Analytic-Init starts from.

Latents are samples of the VAE's posterior: the mean is that of the posterior means, the variance adds the posterior's
own. One pass in float64; the clips are the first moments.clips of the set in its (listing) order, none mirrored.
A part: CLIPS_PER_PART of these; parts are merged in their order.
"""

import json

import torch
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from pipeline.data.latents import MIRRORED, LatentSet
from pipeline.diffusion.moments import MomentsAccumulator

CLIPS_PER_PART = 256
BATCH = 32
STATE_FILE = "state.safetensors"


def add_arguments(parser):
    parser.add_argument("--backbone", required=True, help="a key of backbones in params.yaml")


def make_parts(stage) -> int:
    latents = LatentSet(stage.inputs[0])
    upright = [row for row, name in enumerate(latents.ids) if not name.endswith(MIRRORED)]
    chosen = upright[: stage.params.moments.clips]
    total = -(-len(chosen) // CLIPS_PER_PART)
    for number in tqdm(stage.parts.missing(total), unit="part", disable=None):
        moments, first = MomentsAccumulator(), number * CLIPS_PER_PART
        own = chosen[first : first + CLIPS_PER_PART]
        for start in range(0, len(own), BATCH):
            rows = latents.batch(own[start : start + BATCH], ("mean", "logvar"))
            scale = latents.scaling_factor
            moments.update(rows["mean"].double() * scale, rows["logvar"].double().exp() * scale**2)
        with stage.parts.writing(number) as folder:
            save_file(moments.state(), folder / STATE_FILE)
    return total


def merge(stage, total: int) -> None:
    latents, moments = LatentSet(stage.inputs[0]), MomentsAccumulator()
    for path in stage.parts.finished(total):
        moments.merge(MomentsAccumulator.from_state(load_file(path / STATE_FILE)))
    # One entry: safetensors writes several in a random order, and the same moments must be the same bytes.
    about = {"count": moments.count, "vae_hash": latents.vae_hash, "scaling_factor": latents.scaling_factor}
    metadata = {"moments": json.dumps(about)}
    variance = torch.tensor(moments.variance, dtype=torch.float64)
    save_file({"mean": moments.mean.contiguous(), "variance": variance}, stage.outputs[0], metadata)
    rms = moments.mean.square().mean().sqrt().item()
    stage.log.info("%d clips: rms of the mean %.3f, variance %.3f", moments.count, rms, moments.variance)
    stage.record.metrics({"clips": moments.count, "mean_rms": rms, "variance": moments.variance})
