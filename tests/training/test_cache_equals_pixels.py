"""Training from cached latents is training from pixels: the same loss curve, the same randomness.

The reference opens the clips anew in every step, runs the frozen VAE, CLIP and text tower on them, samples the VAE's
posterior and draws the rest, as a trainer without a cache would.
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.backbones.checkpoint import load_backbone, save_backbone
from pipeline.backbones.registry import FAMILIES, build
from pipeline.data.latents import MIRRORED, LatentSet
from pipeline.data.schema import ClipSet, encode_frames
from pipeline.diffusion.schedules import make_schedule
from pipeline.diffusion.timenoise import make_condition_noise
from pipeline.encoders.frozen import Encoders, to_pixels
from pipeline.seeding import seed_for, torch_generator
from pipeline.stages import latents as stage_module
from pipeline.training.batches import Batch, assemble
from pipeline.training.loss import TrainingStep
from pipeline.training.order import clip_order
from pipeline.training.trainer import train
from tests.helpers.parted import run_parted, write_clips
from tests.training.launching import logged
from tests.training.test_trainer import TIMENOISE, settings_of

CLIPS, STEPS, BATCH, RATE = 6, 8, 3, 1e-3
ALLOWED = 1e-5  # relative difference of the losses; tokens stored as float16 differ by 1e-4 after such a few steps


@pytest.fixture(scope="module")
def world(tmp_path_factory, demo):
    """Clips of sliding windows over smooth noise, and untrained encoders with the sizes of the demo's."""
    root = tmp_path_factory.mktemp("pixels")
    texts = dict.fromkeys(("source", "label", "decoder", "transform"), "")
    names = ("stride", "requested_stride", "start_frame", "window", "source_height", "source_width")
    rows = []
    for number in range(CLIPS):
        coarse = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        large = coarse.repeat(8, 0).repeat(8, 1)
        frames = np.stack([large[k : k + 32, 2 * k : 2 * k + 32] for k in range(16)])
        rows.append({
            "id": f"clip{number}", "caption": f"a thing of number {number}", **texts, **dict.fromkeys(names, 1),
            "native_fps": 30.0, "fps": 3.0 + number, "frames": encode_frames(frames),
        })  # fmt: skip
    write_clips(root / "clips", rows, 4)
    spec = demo["encoders"]["tiny"]
    torch.manual_seed(0)
    encoders = Encoders.build(spec["vae"], spec["image_tower"], spec["text_tower"], [row["caption"] for row in rows])
    encoders.save(root / "encoders")
    return root


@pytest.fixture(scope="module")
def cache(world):
    """Latents of a family's kind: all frames or the first may condition, mirrored or not."""
    made = {}

    def make(family: str) -> Path:
        kind = {"dynamicrafter": ("all", False), "svd": ("first", True)}.get(family, ("first", False))
        if kind not in made:
            out = world / f"latents-{kind[0]}-{kind[1]}"
            spec = SimpleNamespace(batch_size=4, picture_frames=kind[0], flip=kind[1], tokens="float32")
            run_parted(stage_module, SimpleNamespace(
                args=SimpleNamespace(name="own"), params=SimpleNamespace(latents={"own": spec}), device="cpu",
                inputs=[world / "clips", world / "encoders"], outputs=[out], record=SimpleNamespace(metrics=dict),
            ))  # fmt: skip
            made[kind] = out
        return made[kind]

    return make


@pytest.fixture
def job_of(make_job, cache, tmp_path):
    """A fine-tuning whose start uses every condition: no branch of the network is at zero."""

    def make(family: str):
        job = make_job(family, steps=STEPS, latents=str(cache(family)), condition_noise=TIMENOISE)
        job.optimisation.update(batch_size=BATCH, learning_rate=RATE, warmup=0, schedule="constant")
        torch.manual_seed(1)
        backbone = build(family, job.model)
        for value in backbone.parameters():
            if value.dim() > 1:
                torch.nn.init.normal_(value, std=1.2 / value[0].numel() ** 0.5)
        save_backbone(tmp_path / "start", backbone, LatentSet(Path(job.latents)).vae_hash, {})
        job.model, job.source = None, str(tmp_path / "start")
        return job

    return make


class Pixels:
    """A step's batch, from the encoded pictures of its clips."""

    def __init__(self, world: Path, names: list[str]):
        self.clips, self.encoders, self.names = ClipSet(world / "clips"), Encoders.load(world / "encoders"), names
        self.rows = {name: row for row, name in enumerate(self.clips.fields(range(CLIPS), ("id",))["id"])}

    @torch.no_grad()
    def batch(self, backbone, schedule, settings, step: int) -> Batch:
        order = clip_order(settings.seed, step, settings.batch_size, len(self.names))
        names = [self.names[place] for place in order]
        one = [self._clip(backbone, schedule, torch_generator(settings.seed, "step", step, name), name)
               for name in names]  # fmt: skip
        x0, noise, t, tokens, latent, coin, text, fps = (torch.stack(parts) for parts in zip(*one, strict=True))
        drop = settings.dropout
        both = coin < drop.both + drop.text
        return Batch(
            ids=names, x0=x0, noise=noise, t=t, image_tokens=tokens,
            conditions=backbone.conditions(text=text, image_latent=latent, fps=fps),
            drop_text=both, drop_image=(coin >= drop.text) & (coin < drop.text + drop.both + drop.image),
            generators=[torch_generator(settings.seed, "condition", step, name) for name in names],
            dropout_seeds=[seed_for(settings.seed, "dropout", step, name) for name in names],
            replace_tokens=torch.zeros(len(names), dtype=torch.bool),
        )  # fmt: skip

    def _clip(self, backbone, schedule, generator, name: str):
        row = self.rows[name.removesuffix(MIRRORED)]
        told = self.clips.fields(range(row, row + 1), ("caption", "fps"))
        frames = to_pixels(self.clips.frames([row]))[0]
        frames = frames.flip(-1) if name.endswith(MIRRORED) else frames
        posterior = self.encoders.vae.encode(frames).latent_dist
        mean, std = posterior.mean.transpose(0, 1), posterior.std.transpose(0, 1)
        scale = self.encoders.scaling_factor
        x0 = (mean + std * torch.randn(mean.shape, generator=generator)) * scale
        noise = torch.randn(mean.shape, generator=generator)
        t = schedule.sample_time(1, generator)[0]
        random = backbone.conditional_frame == "random"
        frame = int(torch.randint(0, len(frames), (), generator=generator)) if random else 0
        coin = torch.rand((), generator=generator)
        tokens, embedding = self.encoders.image(frames[frame : frame + 1])
        picture = {"image_tokens": tokens, "image_embedding": embedding}[backbone.image_input][0]
        latent = x0[:, frame] * backbone.image_latent_factor(scale)
        return x0, noise, t, picture, latent, coin, self.encoders.text(told["caption"])[0], torch.tensor(told["fps"][0])


def losses_from_pixels(world: Path, job, switches) -> list[float]:
    """The trainer's loop on pixels."""
    settings, schedule, latents = settings_of(job), make_schedule(job.process), LatentSet(Path(job.latents))
    backbone = load_backbone(Path(job.source)).train()
    pixels = Pixels(world, latents.ids)
    with torch.no_grad():
        null = pixels.encoders.null(32, 32)
    noise = make_condition_noise(job.condition_noise)
    step_of = TrainingStep(backbone, schedule, noise, switches(backbone.family), null)
    optimizer = torch.optim.AdamW(
        backbone.parameters(), lr=RATE, betas=tuple(settings.betas), weight_decay=settings.weight_decay
    )
    losses = []
    for step in range(STEPS):
        loss = step_of(pixels.batch(backbone, schedule, settings, step)).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(backbone.parameters(), settings.gradient_clip)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def worst(one: list[float], two: list[float]) -> float:
    return max(abs(a - b) / a for a, b in zip(one, two, strict=True))


def without(folder: Path, field: str, out: Path) -> Path:
    """The same latents with zeros in ``field``."""
    out.mkdir()
    for path in folder.iterdir():
        if path.name.startswith("part-"):
            tensors = load_file(path)
            save_file({**tensors, field: torch.zeros_like(tensors[field])}, out / path.name)
        else:
            (out / path.name).write_bytes(path.read_bytes())
    return out


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_curve_from_latents_is_that_from_pixels(world, job_of, switches, family, tmp_path):
    job = job_of(family)
    train(job)
    cached, reference = logged(job), losses_from_pixels(world, job, switches)
    assert worst(reference, cached) < ALLOWED
    # What is compared matters: each input left out shows.
    fields = {"svd": ("image_embedding",)}.get(family, ("image_tokens", "text"))
    for field in ("logvar", *fields):
        job.latents = str(without(Path(job.latents), field, tmp_path / field))
        job.losses, job.state = str(tmp_path / f"{field}.jsonl"), str(tmp_path / f"state-{field}")
        train(job)
        assert worst(reference, logged(job)) > 10 * ALLOWED, field


@pytest.mark.parametrize("family", FAMILIES)
def test_two_visits_of_a_clip_are_two_samples_of_its_posterior(job_of, family):
    """The VAE's moments are kept, not one sample of them."""
    job = job_of(family)
    backbone, schedule, latents = (
        load_backbone(Path(job.source)),
        make_schedule(job.process),
        LatentSet(Path(job.latents)),
    )
    visits = [assemble(backbone, schedule, latents, settings_of(job), step, [2]).x0[0] for step in range(200)]
    assert not torch.equal(visits[0], visits[1])
    row = latents.row(2)
    mean, std = row["mean"] * latents.scaling_factor, (0.5 * row["logvar"]).exp() * latents.scaling_factor
    standard = torch.stack([(visit - mean) / std for visit in visits])
    assert standard.mean().abs() < 0.01 and standard.std() == pytest.approx(1, abs=0.01)
    assert standard.mean(0).std() == pytest.approx(200**-0.5, rel=0.1), "each visit is drawn anew"
    again = assemble(backbone, schedule, latents, settings_of(job), 7, [2]).x0[0]
    assert torch.equal(again, visits[7]), "and the same by (seed, step, clip)"
