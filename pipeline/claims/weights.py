"""The weights of one seed: its own start from nothing (where the backbone has one), then four fine-tunings of it."""

import json
import shutil
import statistics
from pathlib import Path

from pipeline.claims.few_clips import write_few
from pipeline.claims.plan import TUNINGS
from pipeline.data.latents import LatentSet
from pipeline.engine.parts import flush
from pipeline.training.job import Job
from pipeline.training.launch import launch
from pipeline.training.state import STATE_FILE

LAST_STEPS = 100  # the final training loss is the mean over so many


class SeedWeights:
    """Trains into ``folder`` what is not there yet; a killed training goes on where it was.

    ``spec``: the backbone's group of params.yaml; ``initial``: its starting point, which a backbone that was not
    trained from nothing keeps for every seed.
    """

    def __init__(self, folder: Path, seed: int, design, spec, latents: Path, initial: Path, runtime, record, log):
        self.folder, self.seed, self.design, self.spec = folder, seed, design, spec
        self.latents, self.initial, self.runtime, self.record, self.log = latents, initial, runtime, record, log

    def start(self) -> Path:
        """Where the seed's fine-tunings begin."""
        if self.spec.initialise.kind != "trained":
            return self.initial
        optimisation = self.spec.initialise.optimisation.model_copy(update={"seed": self.seed})
        return self._train("start", None, self.latents, optimisation, {"kind": "none"})

    def tune(self, name: str) -> Path:
        """One of ``TUNINGS``."""
        tuning, few = TUNINGS[name], self.design.few
        changes = {"steps": few.steps, "learning_rate": few.learning_rate} if tuning.few else {}
        optimisation = self.spec.finetune.model_copy(update={"seed": self.seed, **changes})
        noise = self.design.timenoise.model_dump() if tuning.noised else {"kind": "none"}
        return self._train(name, self.start(), self._few() if tuning.few else self.latents, optimisation, noise)

    def final_loss(self, name: str) -> float:
        """Mean training loss of the last steps of a tuning that has ended."""
        lines = (self.folder / name / "losses.jsonl").read_text().splitlines()[-LAST_STEPS:]
        return statistics.fmean(json.loads(line)["loss"] for line in lines)

    def _few(self) -> Path:
        folder, partial = self.folder / "few", self.folder / "few.partial"
        if not folder.exists():
            shutil.rmtree(partial, ignore_errors=True)
            write_few(LatentSet(self.latents), self.design.few.clips, self.seed, partial)
            flush(partial)
            partial.rename(folder)
        return folder

    def _train(self, name: str, source: Path | None, latents: Path, optimisation, noise: dict) -> Path:
        weights, partial = self.folder / name / "weights", self.folder / name / "weights.partial"
        if weights.exists():
            return weights
        self.log.info("training %s", name)
        shutil.rmtree(partial, ignore_errors=True)
        job = Job(
            family=self.spec.family if source is None else None,
            model=self.spec.model if source is None else None,
            source=None if source is None else str(source),
            latents=str(latents),
            process=self.spec.process.model_dump(),
            optimisation=optimisation.model_dump(),
            condition_noise=noise,
            departures={"source": "paper", "switches": {}},
            output=str(partial),
            state=str(self.folder / name),
            losses=str(self.folder / name / "losses.jsonl"),
        )
        launch(job, self.runtime, _Named(self.record, name), self.log)
        flush(partial)
        partial.rename(weights)
        (self.folder / name / STATE_FILE).unlink(missing_ok=True)  # as large as four checkpoints
        return weights


class _Named:
    """A record whose metrics carry a training's name: one stage run trains several."""

    def __init__(self, record, name: str):
        self._record, self._name = record, name

    def metrics(self, values: dict, step: int | None = None) -> None:
        self._record.metrics({f"{self._name}.{key}": value for key, value in values.items()}, step=step)
