"""Tables with one line a run: a csv with every metric and its spread, and the page that says how far to trust it."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.evaluation.metric_file import METRICS, Measurement
from pipeline.reporting import page
from pipeline.reporting.numbers import plain
from pipeline.reporting.rows import BACKBONES, Run


@dataclass(frozen=True)
class Row:
    """One line. ``labels``: what the table says about the run; ``baseline``: what it is compared with."""

    run: Run
    labels: Mapping[str, str]
    baseline: Run | None = field(default=None)


def sweep_csv(rows: Sequence[Row], measured: Mapping[str, Measurement]) -> str:
    """Labels, where the run starts, its clips, and of each metric value and spread; too few clips leave cells empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    numbers = [column for metric in METRICS for column in (metric, f"{metric}_spread")]
    writer.writerow(["backbone", *rows[0].labels, "run", "training", "init", "start", "n", "seeds", *numbers])
    for row in rows:
        run, found = row.run, measured[row.run.name]
        cells = []
        for metric in METRICS:
            value = found.values.get(metric)
            cells += ["", ""] if value is None else [plain(value.value), _spread(value)]
        place = [run.name, run.training, run.init, f"{run.start:g}", found.count, found.seeds]
        writer.writerow([run.backbone, *row.labels.values(), *place, *cells])
    return out.getvalue()


def _spread(value) -> str:
    return "" if value.spread is None else plain(value.spread, 3)


def sweep_page(
    title: str,
    intro: str,
    baseline: str,
    rows: Sequence[Row],
    measured: Mapping[str, Measurement],
    controls: Mapping[str, Measurement],
    published: Sequence[dict[str, str]],
) -> str:
    """The page of a sweep; ``baseline`` in words: what ≈ compares with; ``published``: rows shown apart as printed."""
    shown = {row.run.name: measured[row.run.name] for row in rows}
    provenance = page.common_provenance({**shown, **{f"control {name}": entry for name, entry in controls.items()}})
    demo = page.is_demo(provenance)
    mark = " (demo)" if demo else ""
    sections = [f"# {title}{mark}", page.preamble(demo, shown), intro]
    for backbone, name in BACKBONES.items():
        own = [row for row in rows if row.run.backbone == backbone]
        if own:
            sections += [f"## {name}{mark}", _table(own, measured)]
    sections += ["\n".join(page.legend(baseline, shown)), f"## Controls{mark}", page.CONTROLS_INTRO]
    sections += [page.control_table(controls), "## How these numbers were made"]
    sections.append(page.provenance_list(provenance, shown))
    if published:
        sections += ["## Published values: another scale", PUBLISHED, _published(published)]
    return "\n\n".join(sections) + "\n"


PUBLISHED = (
    "From the paper (arXiv 2406.15735): UCF101 clips at 320 x 512, FVD by I3D, IS by C3D. **No number below compares "
    "with a number above.**"
)


def _table(rows: Sequence[Row], measured: Mapping[str, Measurement]) -> str:
    header = [*rows[0].labels, "start", "n", *page.METRIC_TITLES.values()]
    return page.table(
        header,
        [
            [
                *row.labels.values(),
                f"{row.run.init}, {row.run.start:g}",
                str(measured[row.run.name].count),
                *(page.cell(metric, row.run, row.baseline, measured) for metric in page.METRIC_TITLES),
            ]
            for row in rows
        ],
    )


def _published(rows: Sequence[dict[str, str]]) -> str:
    columns = ("table", "backbone", "train", "init", "start", "fvd", "is")
    return page.table(columns, [[row[column] for column in columns] for row in rows])
