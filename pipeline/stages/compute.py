"""What the other reports cost: device hours, longest job and peak memory by stage and backbone, from MLflow.

Host memory, not the device's; a job's time is that of all its attempts. Different from run to run, as time is.
"""

from pathlib import Path

from pipeline.engine.ledger import Ledger
from pipeline.reporting.compute import SHARED, compute_csv, compute_lines
from pipeline.reporting.rows import BACKBONES
from pipeline.tracking import job_costs
from pipeline.training.nodes import Layout


def add_arguments(parser):
    pass


def run(stage):
    ledger = Ledger()
    jobs = {
        (entry.name, entry.key or ""): next((name for name in BACKBONES if (entry.key or "").startswith(name)), SHARED)
        for entry in ledger.entries.values()
    }
    processes = Layout.read(Path(stage.runtime.accelerate_config)).processes
    processes = {entry.name: processes for entry in ledger.entries.values() if entry.meta["gpu"] > 1}
    stage.outputs[0].write_text(compute_csv(compute_lines(job_costs(ledger.root), jobs, processes)))
