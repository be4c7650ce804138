"""What the other reports cost: device hours, longest job and peak memory by stage and backbone, from MLflow.

Host memory, not the device's; a job's time is that of all its attempts. Different from run to run, as time is.
"""

from pathlib import Path

from pipeline.engine.ledger import Ledger
from pipeline.reporting.compute import SHARED, compute_csv, compute_lines
from pipeline.reporting.rows import BACKBONES
from pipeline.tracking import job_costs


def add_arguments(parser):
    pass


def run(stage):
    from ruamel.yaml import YAML

    ledger = Ledger()
    jobs = {
        (entry.name, entry.key or ""): next((name for name in BACKBONES if (entry.key or "").startswith(name)), SHARED)
        for entry in ledger.entries.values()
    }
    accelerate = YAML(typ="safe").load(Path(stage.runtime.accelerate_config).read_text())
    processes = dict.fromkeys(("initialise", "finetune", "claims_seed"), int(accelerate.get("num_processes", 1)))
    stage.outputs[0].write_text(compute_csv(compute_lines(job_costs(ledger.root), jobs, processes)))
