"""The training loop, on accelerate: the same for training from nothing and for fine-tuning.

What it writes are the EMA weights. Killed and started again it goes on from its last state and, on the CPU, ends with
the same bits as if it had never been killed.
"""

import json
import math
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from pipeline.backbones.checkpoint import load_backbone, save_backbone
from pipeline.backbones.interface import Backbone, Conditions
from pipeline.backbones.registry import build
from pipeline.data.latents import LatentSet
from pipeline.diffusion.schedules import make_schedule
from pipeline.diffusion.source import TRAINING, resolve
from pipeline.diffusion.timenoise import make_condition_noise
from pipeline.errors import PipelineError
from pipeline.params.backbones import ConditionDropout, Optimisation
from pipeline.seeding import seed_for
from pipeline.training.batches import Batch, assemble, clip_order, noise_conditions
from pipeline.training.job import Job


def train(job: Job) -> None:
    """Run a job to its end and write the checkpoint. Raises PipelineError on a loss that is not finite."""
    settings = Optimisation(**{**job.optimisation, "dropout": ConditionDropout(**job.optimisation["dropout"])})
    accelerator = Accelerator(mixed_precision=settings.precision)
    if settings.batch_size % accelerator.num_processes:
        raise PipelineError(
            f"optimisation.batch_size {settings.batch_size} cannot be shared by {accelerator.num_processes} processes; "
            f"choose a multiple"
        )
    latents = LatentSet(Path(job.latents))
    backbone = _start(job, settings, latents)
    schedule = make_schedule(job.process)
    switches = resolve(TRAINING, backbone.family, SimpleNamespace(**job.departures), "trainings")
    noise = make_condition_noise(job.condition_noise, switches.mu_max)
    if noise.told and backbone.told_noise_level is None:
        torch.manual_seed(seed_for(settings.seed, "weights", "noise level"))
        backbone.tell_noise_level()
    step_of = TrainingStep(backbone, schedule, noise, switches, latents.null())
    optimizer = torch.optim.AdamW(
        backbone.parameters(),
        lr=settings.learning_rate,
        betas=tuple(settings.betas),
        weight_decay=settings.weight_decay,
    )
    model, optimizer = accelerator.prepare(step_of, optimizer)
    ema = {name: value.detach().clone() for name, value in backbone.state_dict().items()}
    state = Path(job.state) / "training.pt"
    first = _resume(state, backbone, ema, optimizer, accelerator.device)
    losses = _losses_until(Path(job.losses), first)
    rank, shares = accelerator.process_index, accelerator.num_processes
    progress = tqdm(range(first, settings.steps), initial=first, total=settings.steps, disable=None)
    for step in progress:
        positions = clip_order(settings.seed, step, settings.batch_size, len(latents))[rank::shares]
        batch = assemble(backbone, schedule, latents, settings, step, positions).to(accelerator.device)
        torch.manual_seed(seed_for(settings.seed, "dropout", step, rank))
        rate = learning_rate(settings, step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        with accelerator.autocast():
            loss = model(batch)
        _require_finite(loss, step, batch)
        accelerator.backward(loss.mean())
        norm = accelerator.clip_grad_norm_(model.parameters(), settings.gradient_clip)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            for name, value in backbone.state_dict().items():
                if value.is_floating_point():
                    ema[name].lerp_(value, 1 - settings.ema)
                else:
                    ema[name].copy_(value)
        mean = accelerator.reduce(loss.detach().mean(), "mean").item()
        if accelerator.is_main_process:
            losses.write(
                json.dumps({"step": step, "loss": mean, "learning_rate": rate, "gradient_norm": float(norm)}) + "\n"
            )
            losses.flush()
            if (step + 1) % settings.checkpoint_every == 0 and step + 1 < settings.steps:
                _save_state(state, step + 1, backbone, ema, optimizer)
    losses.close()
    if accelerator.is_main_process:
        backbone.load_state_dict(ema)
        save_backbone(Path(job.output), backbone, latents.vae_hash, job.settings)


class TrainingStep(nn.Module):
    """Losses (B,) of a batch. One module, so that several processes share the projector's gradients too."""

    def __init__(self, backbone: Backbone, schedule, condition_noise, switches, null: dict[str, Tensor]):
        super().__init__()
        self.backbone, self.schedule = backbone, schedule
        self.condition_noise, self.switches = condition_noise, switches
        for name, value in null.items():
            self.register_buffer(f"null_{name}", value, persistent=False)

    def forward(self, batch: Batch) -> Tensor:
        backbone, schedule, switches = self.backbone, self.schedule, self.switches
        conditions = batch.conditions_with(backbone.image_context(batch.image_tokens))
        null_image = getattr(self, f"null_{backbone.image_input}")
        empty = backbone.unconditional(conditions, self.null_text, backbone.image_context(null_image[None]))
        if switches.told_fps == "default":
            conditions = replace(conditions, fps=None)

        def drop(conditions: Conditions) -> Conditions:
            return backbone.drop(conditions, empty, batch.drop_text, batch.drop_image)

        if switches.dropped_tokens == "noised":
            conditions = drop(conditions)
        conditions = noise_conditions(backbone, conditions, self.condition_noise, batch, schedule, switches)
        if switches.dropped_tokens == "clean":
            conditions = drop(conditions)
        x_t = schedule.add_noise(batch.x0, batch.noise, batch.t)
        output = backbone(*schedule.model_input(x_t, batch.t), conditions)
        return schedule.training_loss(output, batch.x0, batch.noise, x_t, batch.t)


def learning_rate(settings: Optimisation, step: int) -> float:
    """Linear warm-up, then constant or a cosine to zero."""
    warm = min(1.0, (step + 1) / settings.warmup) if settings.warmup else 1.0
    fall = 0.5 * (1 + math.cos(math.pi * step / settings.steps)) if settings.schedule == "cosine" else 1.0
    return settings.learning_rate * warm * fall


def _start(job: Job, settings: Optimisation, latents: LatentSet):
    if job.model is None:
        backbone = load_backbone(Path(job.source), family=job.family, vae_hash=latents.vae_hash)
    else:
        torch.manual_seed(seed_for(settings.seed, "weights", job.family))
        backbone = build(job.family, job.model)
    return backbone.train()


def _require_finite(loss, step: int, batch: Batch) -> None:
    finite = torch.isfinite(loss)
    if not finite.all():
        bad = [name for name, good in zip(batch.ids, finite.tolist(), strict=True) if not good]
        raise PipelineError(
            f"training: the loss is not finite at step {step} for clips {bad}; look at those clips, "
            "or lower the learning rate"
        )


def _resume(path: Path, backbone, ema: dict, optimizer, device) -> int:
    """Load the last state, if there is one; returns the step to go on with."""
    if not path.exists():
        return 0
    state = torch.load(path, map_location=device, weights_only=True)
    backbone.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    for name, value in state["ema"].items():
        ema[name].copy_(value)
    return state["step"]


def _save_state(path: Path, step: int, backbone, ema: dict, optimizer) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save({"step": step, "model": backbone.state_dict(), "ema": ema, "optimizer": optimizer.state_dict()}, partial)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def _losses_until(path: Path, step: int):
    """The losses file cut back to the steps before ``step``, open for more."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = []
    if path.exists():
        kept = [
            line
            for line in path.read_text().splitlines(keepends=True)
            if line.endswith("\n") and json.loads(line)["step"] < step
        ]
    path.write_text("".join(kept))
    return path.open("a")
