"""Starts a training's processes and passes its losses on while they run."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from pipeline.engine.processes import die_with_parent
from pipeline.errors import PipelineError
from pipeline.training.job import FAILURE, Job
from pipeline.training.nodes import Layout, launch_environment, nodes_command
from pipeline.training.together import started

POLL_SECONDS = 1.0


def make_job(stage, *, family, model, source, latents, process, optimisation, condition_noise, departures) -> Job:
    """A stage's training as a job: its output is the stage's, its state lies in the stage's state folder."""
    return Job(
        family=family,
        model=model,
        source=str(source) if source else None,
        latents=str(latents),
        process=process.model_dump(),
        optimisation=optimisation.model_dump(),
        condition_noise=condition_noise,
        departures=departures,
        output=str(stage.outputs[0]),
        state=str(stage.state_dir),
        losses=str(stage.state_dir / "losses.jsonl"),
    )


def launch(job: Job, runtime, record, log) -> None:
    """Train ``job`` in worker processes; raises PipelineError with the worker's own words.

    ``runtime``: the group of params.yaml. It says how the work is shared out, which changes a result by rounding only.
    """
    config = Path(runtime.accelerate_config)
    job = replace(job, processes=Layout.read(config).processes, clips_per_device=runtime.clips_per_device)
    state = Path(job.state)
    state.mkdir(parents=True, exist_ok=True)
    file, failure = state / "job.json", state / FAILURE
    failure.unlink(missing_ok=True)
    file.write_text(json.dumps(asdict(job)))
    seen = 0
    with _started(config, ["pipeline.training.worker", str(file)], log) as processes:
        while True:
            running = next((process for process in processes if process.returncode is None), processes[0])
            with suppress(subprocess.TimeoutExpired):
                running.wait(POLL_SECONDS)
            codes = [process.poll() for process in processes]
            seen = _forward(Path(job.losses), seen, record)
            if None not in codes or any(codes):  # where one fails, the others would wait for it
                break
    code = next((code for code in codes if code), 0)
    if code:
        said = failure.read_text() if failure.exists() else ""
        raise PipelineError(said or f"training ended with exit code {code}; its log says more")
    log.info("trained: %s", _last(Path(job.losses)))


@contextmanager
def _started(config: Path, worker: list[str], log) -> Iterator[list[subprocess.Popen]]:
    layout, environment = Layout.read(config), launch_environment(config, os.environ)
    if layout.machines == 1:
        log.info("starting, %d processes: %s", layout.processes, " ".join(worker))
        with started(layout.processes, worker, environment) as processes:
            yield processes
        return
    command = nodes_command(config, worker, os.environ)
    log.info("starting: %s", " ".join(command))
    process = subprocess.Popen(command, env=environment, preexec_fn=partial(die_with_parent, os.getpid()))
    try:
        yield [process]
    finally:
        process.terminate()
        process.wait()


def _forward(path: Path, seen: int, record) -> int:
    """Send the losses after line ``seen``; returns how many lines were seen."""
    if not path.exists():
        return seen
    lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    for line in lines[seen:]:
        values = json.loads(line)
        record.metrics({key: value for key, value in values.items() if key != "step"}, step=values["step"])
    return len(lines)


def _last(path: Path) -> str:
    lines = path.read_text().splitlines()
    return lines[-1] if lines else "no step"
