"""Table 3 of the paper from metric files: the csv in its exact shape, and a page that says how far to trust it."""

import csv
import io
from collections.abc import Mapping
from itertools import product

from pipeline.evaluation.metric_file import Measurement
from pipeline.reporting import page
from pipeline.reporting.methods import METHOD_OF
from pipeline.reporting.numbers import plain
from pipeline.reporting.ratings import Rating
from pipeline.reporting.rows import BACKBONES, ROWS, Run, run_of_cell

COLUMNS = ("fvd", "is", "rating")
SHOWN = ("FVD ↓", "IS ↑", "rating ↓")


def csv_text(runs: Mapping[str, Run], measured: Mapping[str, Measurement], ratings: Mapping[str, Rating]) -> str:
    """Four rows, eleven columns; a cell without a run, with too few samples or without answers is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["inference", "train", *(f"{backbone}_{column}" for backbone, column in product(BACKBONES, COLUMNS))]
    )
    for init, train in ROWS:
        cells = []
        for backbone in BACKBONES:
            run = run_of_cell(runs, init, train, backbone)
            values = measured[run.name].values if run else {}
            cells += [plain(values[column].value) if column in values else "" for column in ("fvd", "is")]
            cells.append(plain(ratings[run.name].value, 3) if run and run.name in ratings else "")
        writer.writerow([init, train, *cells])
    return out.getvalue()


def markdown_text(
    runs: Mapping[str, Run],
    measured: Mapping[str, Measurement],
    controls: Mapping[str, Measurement],
    ratings: Mapping[str, Rating],
    published: list[dict[str, str]],
) -> str:
    """The page: table 3 with spreads, every run, the controls, the detectors, and apart from them the published values.

    Raises PipelineError where the numbers come from different detectors and so do not compare.
    """
    provenance = page.common_provenance({**measured, **{f"control {name}": entry for name, entry in controls.items()}})
    demo = page.is_demo(provenance)
    mark = " (demo)" if demo else ""
    sections = [
        f"# Table 3{mark}: inference and training strategies",
        page.preamble(demo, measured),
        f"## FVD, IS and rating{mark}",
        _main_table(runs, measured, ratings),
        _legend(runs, measured, ratings),
        f"## Every run, with motion{mark}",
        _run_table(runs, measured),
        f"## Controls{mark}",
        page.CONTROLS_INTRO,
        page.control_table(controls),
        "## How these numbers were made",
        page.provenance_list(provenance, measured),
        "## Published values: another scale",
        "From the paper (arXiv 2406.15735): models fine-tuned on WebVid-2M, UCF101 clips at 320 x 512, FVD by I3D, IS "
        "by C3D, ratings by people. **No number below compares with a number above.**",
        _published_table(published),
    ]
    return "\n\n".join(sections) + "\n"


def _main_table(runs, measured, ratings) -> str:
    header = ["method", *(f"{title} {column}" for title in BACKBONES.values() for column in SHOWN)]
    lines = []
    for init, train in ROWS:
        cells = [METHOD_OF[train, init]]
        for backbone in BACKBONES:
            run = run_of_cell(runs, init, train, backbone)
            baseline = run_of_cell(runs, *ROWS[0], backbone)
            cells += [page.cell(metric, run, baseline, measured) for metric in ("fvd", "is")]
            cells.append(str(ratings[run.name]) if run and run.name in ratings else "")
        lines.append(cells)
    return page.table(header, lines)


def _legend(runs, measured: Mapping[str, Measurement], ratings) -> str:
    lines = page.legend("the same backbone's first row", measured)
    lines += _rating_legend(runs, ratings)
    if any(run_of_cell(runs, *row, backbone) is None for row in ROWS for backbone in BACKBONES):
        lines.append("- no run: params.yaml lists no run for this cell.")
    return "\n".join(lines)


def _rating_legend(runs, ratings: Mapping[str, Rating]) -> list[str]:
    rated = {run.backbone for run in runs.values() if run.name in ratings}
    if not rated:
        return ["- rating: no answers of a user study yet."]
    lines = [
        "- rating: mean rank on the study's overall question, 1 best to 4 worst (95 % bootstrap interval), of n "
        "participants."
    ]
    without = [title for backbone, title in BACKBONES.items() if backbone not in rated]
    return lines + ([f"- rating: no answers yet for {', '.join(without)}."] if without else [])


def _run_table(runs, measured) -> str:
    header = ["run", "weights", "start", "n", *page.METRIC_TITLES.values()]
    lines = []
    for run in runs.values():
        baseline = run_of_cell(runs, *ROWS[0], run.backbone)
        cells = [page.cell(metric, run, baseline, measured) for metric in page.METRIC_TITLES]
        lines.append([run.name, run.training, f"{run.init}, {run.start:g}", str(measured[run.name].count), *cells])
    return page.table(header, lines)


def _published_table(published: list[dict[str, str]]) -> str:
    header = ["method", *(f"{title} {column}" for title in BACKBONES.values() for column in SHOWN)]
    cells = {(row["init"], row["train"], row["backbone"]): row for row in published if row["table"] == "table3"}
    return page.table(
        header,
        [
            [
                METHOD_OF[train, init],
                *(cells[init, train, backbone][column] for backbone, column in product(BACKBONES, COLUMNS)),
            ]
            for init, train in ROWS
        ],
    )
