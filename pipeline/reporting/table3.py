"""Table 3 of the paper from metric files: the csv in its exact shape, and a page that says how far to trust it."""

import csv
import io
from collections.abc import Mapping
from itertools import product

from pipeline.errors import PipelineError
from pipeline.evaluation.metric_file import Measurement
from pipeline.reporting.numbers import indistinct, plain, with_spread
from pipeline.reporting.rows import BACKBONES, ROWS, Run, run_of_cell

COLUMNS = ("fvd", "is", "rating")
METRIC_TITLES = {
    "fvd": "FVD ↓",
    "fd_pca": "Fréchet, PCA ↓",
    "is": "IS ↑",
    "motion_score": "motion score",
    "motion_px": "px a frame",
}
ROLE_TITLES = {"fvd": "FVD", "is": "IS", "pca": "Fréchet, PCA", "motion": "motion"}


def csv_text(runs: Mapping[str, Run], measured: Mapping[str, Measurement], ratings: Mapping[str, float]) -> str:
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
            cells.append(plain(ratings[run.name], 3) if run and run.name in ratings else "")
        writer.writerow([init, train, *cells])
    return out.getvalue()


def markdown_text(
    runs: Mapping[str, Run],
    measured: Mapping[str, Measurement],
    controls: Mapping[str, Measurement],
    ratings: Mapping[str, float],
    published: list[dict[str, str]],
) -> str:
    """The page: table 3 with spreads, every run, the controls, the detectors, and apart from them the published values.

    Raises PipelineError where the numbers come from different detectors and so do not compare.
    """
    provenance = _common_provenance({**measured, **{f"control {name}": entry for name, entry in controls.items()}})
    demo = any(entry["name"].startswith("demo-") for entry in provenance)
    mark = " (demo)" if demo else ""
    sections = [
        f"# Table 3{mark}: inference and training strategies",
        _preamble(demo, measured),
        f"## FVD, IS and rating{mark}",
        _main_table(runs, measured, ratings, mark),
        _legend(runs, measured, ratings),
        f"## Every run, with motion{mark}",
        _run_table(runs, measured, mark),
        f"## Controls{mark}",
        "What the same detectors say where the answer is known. A run is good where it comes near the first row, and "
        "no better than a still picture where it comes near the second.",
        _control_table(controls, mark),
        "## How these numbers were made",
        _provenance_list(provenance, measured),
        "## Published values: another scale",
        "From the paper (arXiv 2406.15735): models fine-tuned on WebVid-2M, UCF101 clips at 320 x 512, FVD by I3D, IS "
        "by C3D, ratings by people. **No number below compares with a number above.**",
        _published_table(published),
    ]
    return "\n\n".join(sections) + "\n"


def _preamble(demo: bool, measured: Mapping[str, Measurement]) -> str:
    counts = sorted({entry.count for entry in measured.values()})
    clips = " or ".join(str(count) for count in counts)
    text = f"{clips} sampled clips a run against real clips, one condition image each."
    if demo:
        text = (
            "**Demo numbers**: small models and small detectors, trained from nothing on this project's own video "
            "world. They compare with each other and with nothing published. " + text
        )
    return text


def _main_table(runs, measured, ratings, mark: str) -> str:
    header = ["inference", "train"]
    header += [
        f"{title} {column}" for title in BACKBONES.values() for column in (f"FVD{mark} ↓", f"IS{mark} ↑", "rating ↓")
    ]
    lines = []
    for init, train in ROWS:
        cells = [init, train]
        for backbone in BACKBONES:
            run = run_of_cell(runs, init, train, backbone)
            baseline = run_of_cell(runs, *ROWS[0], backbone)
            cells += [_cell(metric, run, baseline, measured) for metric in ("fvd", "is")]
            cells.append(plain(ratings[run.name], 2) if run and run.name in ratings else "")
        lines.append(cells)
    return _table(header, lines)


def _cell(metric: str, run: Run | None, baseline: Run | None, measured: Mapping[str, Measurement]) -> str:
    if run is None:
        return "no run"
    found = measured[run.name]
    if metric not in found.values:
        return f"too few (n = {_smallest(found)})"
    text = with_spread(found.values[metric])
    first = measured[baseline.name].values.get(metric) if baseline and baseline != run else None
    return f"{text} ≈" if first and indistinct(found.values[metric], first) else text


def _smallest(found: Measurement) -> int:
    return min(found.count, found.reference_count)


def _legend(runs, measured: Mapping[str, Measurement], ratings) -> str:
    lines = [
        "- ≈ differs from the same backbone's standard start and naive fine-tune by less than the larger of the two "
        "spreads: no difference shown."
    ]
    spreads = sorted(
        {(entry.spread_over, entry.spread_count, entry.seeds) for entry in measured.values() if entry.values}
    )
    for over, count, seeds in spreads:
        if over == "seeds":
            lines.append(f"- ± standard deviation over {seeds} sampling seeds of {count} clips each.")
        elif count:
            lines.append(
                f"- ± standard deviation over disjoint subsets of {count} clips each (one sampling seed). Subsets are "
                "smaller than the set, so this is usually wider than the spread of the value itself."
            )
    few = sorted({entry.minimum for entry in measured.values() if not entry.values})
    lines += [
        f"- too few: fewer than {minimum} clips (`evaluation.minimum`), so no number is given." for minimum in few
    ]
    small = sorted(
        {_smallest(entry) for entry in measured.values() if entry.values and _smallest(entry) < entry.minimum}
    )
    lines += [
        f"- Some numbers rest on {count} clips only, allowed by `evaluation.allow_few`: read nothing into them."
        for count in small
    ]
    if not ratings:
        lines.append("- rating: no answers of a user study yet.")
    if any(run_of_cell(runs, *row, backbone) is None for row in ROWS for backbone in BACKBONES):
        lines.append("- no run: params.yaml lists no run for this cell.")
    return "\n".join(lines)


def _run_table(runs, measured, mark: str) -> str:
    header = ["run", "weights", "start", "n", *(f"{title}{mark}" for title in METRIC_TITLES.values())]
    lines = []
    for run in runs.values():
        baseline = run_of_cell(runs, *ROWS[0], run.backbone)
        cells = [_cell(metric, run, baseline, measured) for metric in METRIC_TITLES]
        lines.append([run.name, run.training, f"{run.init}, {run.start:g}", str(measured[run.name].count), *cells])
    return _table(header, lines)


def _control_table(controls, mark: str) -> str:
    titles = {"real": "real clips against other real clips", "repeated": "the condition image repeated"}
    header = ["control", "n", *(f"{title}{mark}" for title in METRIC_TITLES.values())]
    return _table(header, [[titles[name], str(entry.count), *_values(entry)] for name, entry in controls.items()])


def _values(found: Measurement) -> list[str]:
    return [with_spread(found.values[metric]) if metric in found.values else "too few" for metric in METRIC_TITLES]


def _provenance_list(provenance: list[dict], measured) -> str:
    lines = [
        f"- {ROLE_TITLES[entry['role']]}: {entry['name']} `{entry['hash'][:12]}`, {entry['protocol']}."
        for entry in provenance
    ]
    references = sorted({entry.reference_count for entry in measured.values()})
    lines.append(f"- Real reference clips: {' or '.join(map(str, references))}.")
    rates = sorted({rate for entry in measured.values() for part in entry.details for rate in part.get("fps", [])})
    lines.append(f"- Frames a second of the clips, as told to the models: {', '.join(f'{rate:g}' for rate in rates)}.")
    lines.append("- start: fraction of T (VideoCrafter1, DynamiCrafter) or sigma (SVD) that sampling begins at.")
    return "\n".join(lines)


def _common_provenance(measured: Mapping[str, Measurement]) -> list[dict]:
    known: list[dict] | None = None
    for name, entry in measured.items():
        if known is not None and entry.provenance != known:
            raise PipelineError(
                f"the metrics of {name} come from other detectors than the rest; run features and metrics again"
            )
        known = entry.provenance
    if known is None:
        raise PipelineError("params.yaml lists no runs, so there is nothing to put into table 3; add rows under runs")
    return known


def _published_table(published: list[dict[str, str]]) -> str:
    header = [
        "inference",
        "train",
        *(f"{title} {column}" for title in BACKBONES.values() for column in ("FVD", "IS", "rating")),
    ]
    cells = {(row["init"], row["train"], row["backbone"]): row for row in published if row["table"] == "table3"}
    return _table(
        header,
        [
            [init, train, *(cells[init, train, backbone][column] for backbone, column in product(BACKBONES, COLUMNS))]
            for init, train in ROWS
        ],
    )


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
