"""What the pipeline cost: device hours and memory by stage and backbone, from the tracked runs."""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.tracking import Cost

SHARED = "all"  # in place of a backbone


@dataclass(frozen=True)
class Line:
    """Jobs of one stage and backbone."""

    stage: str
    backbone: str
    jobs: int  # of dvc.yaml
    recorded: int  # those with a record: not what came from DVC's cache or ran with records off
    device_hours: float
    longest_s: float
    peak_memory_mb: float
    devices: str


def compute_lines(
    costs: Sequence[Cost], jobs: Mapping[tuple[str, str], str], processes: Mapping[str, int]
) -> list[Line]:
    """``jobs``: the backbone of each (stage, item) of dvc.yaml, in its order; records of other jobs are left out, and
    so are stages of which no job has a record.

    ``processes``: devices that a job of a stage uses, one where it is not named.
    """
    groups: dict[tuple[str, str], list[Cost]] = {}
    known = {(cost.stage, cost.item): cost for cost in costs}
    counts = Counter((stage, backbone) for (stage, _), backbone in jobs.items())
    for job, backbone in jobs.items():
        if job in known:
            groups.setdefault((job[0], backbone), []).append(known[job])
    return [
        Line(
            stage=stage,
            backbone=backbone,
            jobs=counts[stage, backbone],
            recorded=len(own),
            device_hours=sum(cost.wall_s for cost in own) * processes.get(stage, 1) / 3600,
            longest_s=max(cost.wall_s for cost in own),
            peak_memory_mb=max(cost.peak_memory_mb for cost in own),
            devices=" ".join(sorted({cost.device for cost in own})),
        )
        for (stage, backbone), own in groups.items()
    ]


def compute_csv(lines: Sequence[Line]) -> str:
    """A line a stage and backbone, and their sum."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["stage", "backbone", "jobs", "recorded", "device_hours", "longest_s", "peak_memory_mb", "device"])
    for line in lines:
        numbers = [f"{line.device_hours:.4f}", f"{line.longest_s:.1f}", f"{line.peak_memory_mb:.0f}", line.devices]
        writer.writerow([line.stage, line.backbone, line.jobs, line.recorded, *numbers])
    if lines:
        total, peak = sum(line.device_hours for line in lines), max(line.peak_memory_mb for line in lines)
        longest = max(line.longest_s for line in lines)
        jobs, recorded = sum(line.jobs for line in lines), sum(line.recorded for line in lines)
        writer.writerow(["total", SHARED, jobs, recorded, f"{total:.4f}", f"{longest:.1f}", f"{peak:.0f}", ""])
    return out.getvalue()
