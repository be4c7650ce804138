"""One training as plain values; it travels from the stage to its worker processes as JSON."""

import json
from dataclasses import dataclass
from pathlib import Path

FAILURE = "error.txt"  # beside the job file: what a failed worker tells the user


@dataclass
class Job:
    """``model`` builds from nothing, ``source`` starts from a checkpoint: one of them is None."""

    family: str | None  # None: the checkpoint's
    model: dict | None
    source: str | None
    latents: str
    process: dict
    optimisation: dict
    condition_noise: dict
    departures: dict  # source and switches: pipeline/diffusion/source.py
    output: str
    state: str
    losses: str  # JSON lines: step, loss, learning rate, gradient norm
    # How it is computed; set by the launch.
    processes: int | None = None  # that must train together; None: any number
    clips_per_device: int | None = None  # that pass the network at once; None: a process' whole share

    @classmethod
    def read(cls, path: Path) -> "Job":
        return cls(**json.loads(path.read_text()))

    @property
    def settings(self) -> dict:
        """What makes its result, without paths."""
        names = ("family", "model", "process", "optimisation", "condition_noise", "departures")
        return {name: getattr(self, name) for name in names}
