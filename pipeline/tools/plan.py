"""Say what would run, why, how long it would take and how much disk it would need."""

import argparse
import logging
from pathlib import Path

from pipeline.engine.forecast import Planned, forecast
from pipeline.engine.ledger import Ledger
from pipeline.params.file import load_params
from pipeline.tools.project import sized
from pipeline.tracking import job_costs
from pipeline.training.nodes import Layout

SHOWN_REASONS = 2


def run(arguments: list[str]) -> int:
    """``python -m pipeline plan [TARGET …]``."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline plan",
        description="Say what would run, why, how long it would take and how much disk it would need. Hours and sizes "
        "are those of earlier runs of the same job (~: the mean of its stage's; ?: never run here).",
    )
    parser.add_argument("targets", nargs="*", help="paths, stages or STAGE@KEY; none: everything")
    parser.add_argument("--jobs", action="store_true", help="a line a job; else a line a stage")
    args = parser.parse_args(arguments)
    ledger = Ledger()
    logging.getLogger("pipeline.tracking").setLevel(logging.ERROR)
    runtime = load_params(ledger.root / "params.yaml").runtime
    processes = Layout.read(ledger.root / runtime.accelerate_config).processes
    planned = forecast(ledger, args.targets, _costs(ledger.root), processes)
    if not planned:
        print("nothing would run: everything asked for is there and up to date")
        return 0
    lines = [_job_line(job) for job in planned] if args.jobs else _stage_lines(planned)
    _print_table(["job" if args.jobs else "stage", "jobs", "shards", "device hours", "disk", "why"], lines)
    print(_sum(planned))
    return 0


def _costs(root: Path) -> list:
    if not (root / "mlruns.db.ready").exists():  # no run was ever tracked here, and asking would make a store
        return []
    return job_costs(root)


def _job_line(job: Planned) -> list[str]:
    reasons = "; ".join(job.reasons[:SHOWN_REASONS])
    more = len(job.reasons) - SHOWN_REASONS
    why = reasons + (f"; {more} more" if more > 0 else "")
    return [job.entry.address, "1", str(job.shards), _hours([job]), _disk([job]), why]


def _stage_lines(planned: list[Planned]) -> list[list[str]]:
    stages: dict[str, list[Planned]] = {}
    for job in planned:
        stages.setdefault(job.entry.name, []).append(job)
    lines = []
    for name, jobs in stages.items():
        reasons = list(dict.fromkeys(reason for job in jobs for reason in job.reasons))
        more = f" (reasons: {len(reasons)}; --jobs shows them)" if len(reasons) > 1 else ""
        shards = sum(job.shards for job in jobs)
        lines.append([name, str(len(jobs)), str(shards), _hours(jobs), _disk(jobs), reasons[0] + more])
    return lines


def _hours(jobs: list[Planned]) -> str:
    known = [job.hours * job.devices for job in jobs if job.hours is not None]
    if not known:
        return "?"
    return ("" if all(job.exact for job in jobs) else "~") + f"{sum(known):.2f}"


def _disk(jobs: list[Planned]) -> str:
    known = [job.disk for job in jobs if job.disk is not None]
    return sized(sum(known)) if known else "?"


def _sum(planned: list[Planned]) -> str:
    unknown = sum(job.hours is None for job in planned)
    text = f"{len(planned)} jobs, {_hours(planned)} device hours, {_disk(planned)} of outputs"
    return text + (f"; {unknown} jobs of stages that never ran here are not counted" if unknown else "")


def _print_table(header: list[str], lines: list[list[str]]) -> None:
    widths = [max(len(row[k]) for row in [header, *lines]) for k in range(len(header) - 1)]
    for row in [header, *lines]:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]))
