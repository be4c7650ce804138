"""The training loop, on accelerate: the same for training from nothing and for fine-tuning.

What it writes are the EMA weights. A step is over ``optimisation.batch_size`` clips, whatever the number of processes
and of clips that pass the network at once. Killed and started again it goes on from its last state and, on the CPU,
ends with the same bits as if it had never been killed.
"""

import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from datetime import timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from torch import Tensor, nn
from tqdm import tqdm

from pipeline.backbones.checkpoint import load_backbone, save_backbone
from pipeline.backbones.registry import build
from pipeline.data.latents import LatentSet
from pipeline.diffusion.schedules import make_schedule
from pipeline.diffusion.source import TRAINING, resolve
from pipeline.diffusion.timenoise import make_condition_noise
from pipeline.errors import PipelineError
from pipeline.params.backbones import ConditionDropout, Optimisation
from pipeline.seeding import seed_for
from pipeline.training.ahead import ahead
from pipeline.training.batches import Batch, assemble
from pipeline.training.ema import Ema
from pipeline.training.job import Job
from pipeline.training.loss import TrainingStep
from pipeline.training.meeting import meet
from pipeline.training.order import clip_order, passes, share
from pipeline.training.state import STATE_FILE, load_state, losses_until, save_state

CLIPS_AHEAD, THREADS = 32, 4  # read and drawn in advance, by so many threads of each process
PATIENCE = timedelta(hours=2)  # of the other processes, while the first writes its state


def train(job: Job) -> None:
    """Run a job to its end and write the checkpoint. Raises PipelineError on a loss that is not finite."""
    settings = Optimisation(**{**job.optimisation, "dropout": ConditionDropout(**job.optimisation["dropout"])})
    accelerator = _accelerator(settings.precision, job.processes)
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
    ema = Ema(backbone, settings.ema)
    state = {"model": backbone, "optimizer": optimizer, "ema": ema}
    state |= {"scaler": accelerator.scaler} if accelerator.scaler is not None else {}
    state_file, main = Path(job.state) / STATE_FILE, accelerator.is_main_process
    first = _resume(accelerator, state_file, state)
    losses = losses_until(Path(job.losses), first) if main else None
    cut = passes(share(settings.batch_size, accelerator.process_index, accelerator.num_processes), job.clips_per_device)
    read = partial(_read, backbone, schedule, latents, settings, pin=accelerator.device.type == "cuda")
    progress = tqdm(range(first, settings.steps), initial=first, total=settings.steps, disable=None if main else True)
    with closing(batches_of(read, settings, first, cut, len(latents))) as batches:
        for step in progress:
            rate = learning_rate(settings, step)
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss = add_gradients(accelerator, model, batches, len(cut), settings, step)
            norm = accelerator.clip_grad_norm_(model.parameters(), settings.gradient_clip)
            if accelerator.scaler is None and not math.isfinite(norm):  # a scaler leaves such a step out
                raise PipelineError(f"training: the gradient is not finite at step {step}; lower the learning rate")
            optimizer.step()
            optimizer.zero_grad()
            ema.update()
            mean = (accelerator.reduce(loss, "sum") / settings.batch_size).item()
            if main:
                line = {"step": step, "loss": mean, "learning_rate": rate, "gradient_norm": float(norm)}
                losses.write(json.dumps(line) + "\n")
                losses.flush()
                if (step + 1) % settings.checkpoint_every == 0 and step + 1 < settings.steps:
                    os.fsync(losses.fileno())  # never behind the state
                    save_state(state_file, step + 1, state)
    if main:
        losses.close()
        ema.into_module()
        save_backbone(Path(job.output), backbone, latents.vae_hash, job.settings)


def batches_of(
    read: Callable[[int, list[int]], Batch],
    settings,
    first: int,
    cut: list[range],
    count: int,
    early: int = CLIPS_AHEAD,
) -> Iterator[Batch]:
    """This process' batches from step ``first`` on, one a pass; threads read about ``early`` clips in advance.

    ``cut``: places in the batch of each pass of a step; ``count``: clips of the set.
    """
    tasks = (
        partial(read, step, [order[place] for place in places])
        for step in range(first, settings.steps)
        for order in [clip_order(settings.seed, step, settings.batch_size, count)]
        for places in cut
    )
    return ahead(tasks, math.ceil(early / len(cut[0])), THREADS)


def _read(backbone, schedule, latents, settings, step: int, positions: list[int], pin: bool) -> Batch:
    batch = assemble(backbone, schedule, latents, settings, step, positions)
    # A value that is one for the whole batch is expanded, and cannot be pinned as it lies.
    return batch.map(lambda value: value.contiguous().pin_memory()) if pin else batch


def add_gradients(accelerator, model: nn.Module, batches: Iterator[Batch], count: int, settings, step: int) -> Tensor:
    """Add the gradient of the mean loss over the clips of all processes, from the next ``count`` of this one's batches.

    Returns the sum of this process' losses. Processes exchange gradients once, in the last pass.
    """
    total = torch.zeros((), device=accelerator.device)
    # Gradients of processes are averaged: this makes their mean that of the whole batch, however unequal the shares.
    divisor = settings.batch_size / accelerator.num_processes
    for number, batch in enumerate(islice(batches, count)):
        batch = batch.to(accelerator.device)
        with nullcontext() if number == count - 1 else accelerator.no_sync(model):
            with accelerator.autocast():
                losses = model(batch)
            _require_finite(losses, step, batch)
            accelerator.backward(losses.sum() / divisor)
        total = total + losses.detach().sum()
    return total


def learning_rate(settings: Optimisation, step: int) -> float:
    """Linear warm-up, then constant or a cosine to zero."""
    warm = min(1.0, (step + 1) / settings.warmup) if settings.warmup else 1.0
    fall = 0.5 * (1 + math.cos(math.pi * step / settings.steps)) if settings.schedule == "cosine" else 1.0
    return settings.learning_rate * warm * fall


def _accelerator(precision: str, processes: int | None) -> Accelerator:
    """Raises PipelineError where others than ``processes`` run: they would train one by one, each on its own."""
    meet(PATIENCE)
    accelerator = Accelerator(
        mixed_precision=precision,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
    )
    if processes not in (None, accelerator.num_processes):
        raise PipelineError(
            f"runtime.accelerate_config asks for {processes} processes, but {accelerator.num_processes} train "
            "together; compare it with those in envs/accelerate"
        )
    return accelerator


def _start(job: Job, settings: Optimisation, latents: LatentSet):
    if job.model is None:
        backbone = load_backbone(Path(job.source), family=job.family, vae_hash=latents.vae_hash)
    else:
        torch.manual_seed(seed_for(settings.seed, "weights", job.family))
        backbone = build(job.family, job.model)
    return backbone.train()


def _require_finite(losses: Tensor, step: int, batch: Batch) -> None:
    finite = torch.isfinite(losses)
    if not finite.all():
        bad = [name for name, good in zip(batch.ids, finite.tolist(), strict=True) if not good]
        raise PipelineError(
            f"training: the loss is not finite at step {step} for clips {bad}; look at those clips, "
            "or lower the learning rate"
        )


def _resume(accelerator, path: Path, state: dict) -> int:
    """Load the last state, if there is one; returns the step to go on with.

    Raises PipelineError where the processes do not find the same one.
    """
    found = load_state(path, mapped=accelerator.device.type != "cpu")
    if found is not None:
        for name, part in state.items():
            part.load_state_dict(found[name])
    first = found["step"] if found is not None else 0
    steps = accelerator.gather(torch.tensor([first], device=accelerator.device)).tolist()
    if len(set(steps)) > 1:
        raise PipelineError(
            f"the processes of this training found states of different steps {steps}; the folder .state must be shared "
            "by all nodes"
        )
    return first
