"""What the pages of all tables share: cells with spreads, controls, and how the numbers were made."""

from collections.abc import Mapping, Sequence

from pipeline.errors import PipelineError
from pipeline.evaluation.metric_file import Measurement
from pipeline.reporting.numbers import indistinct, with_spread
from pipeline.reporting.rows import Run

METRIC_TITLES = {
    "fvd": "FVD ↓",
    "fd_pca": "Fréchet, PCA ↓",
    "is": "IS ↑",
    "motion_score": "motion score",
    "motion_px": "px a frame",
    "temporal_consistency": "consistency, dB ↑",
    "image_alignment": "alignment, dB ↑",
    "first_frame": "first frame, dB ↑",
}
ROLE_TITLES = {"fvd": "FVD", "is": "IS", "pca": "Fréchet, PCA", "motion": "motion"}
CONTROLS_INTRO = (
    "What the same detectors say where the answer is known. A run is good where it comes near the first row, and no "
    "better than a still picture where it comes near the second."
)


def is_demo(provenance: list[dict]) -> bool:
    """Whether FVD's detector is the demo's own; the second embedding always is of this project's clips."""
    return any(entry["role"] == "fvd" and entry["name"].startswith("demo-") for entry in provenance)


def common_provenance(measured: Mapping[str, Measurement]) -> list[dict]:
    """The detectors of all; raises PipelineError where they differ and the numbers so do not compare."""
    known: list[dict] | None = None
    for name, entry in measured.items():
        if known is not None and entry.provenance != known:
            raise PipelineError(
                f"the metrics of {name} come from other detectors than the rest; run features and metrics again"
            )
        known = entry.provenance
    if known is None:
        raise PipelineError("params.yaml lists no runs, so there is nothing to put into the table; add rows under runs")
    return known


def preamble(demo: bool, measured: Mapping[str, Measurement]) -> str:
    counts = sorted({entry.count for entry in measured.values()})
    clips = " or ".join(str(count) for count in counts)
    text = f"{clips} sampled clips a run against real clips, one condition image each."
    if demo:
        text = (
            "**Demo numbers**: small models and small detectors, trained from nothing on this project's own video "
            "world. They compare with each other and with nothing published. " + text
        )
    return text


def cell(metric: str, run: Run | None, baseline: Run | None, measured: Mapping[str, Measurement]) -> str:
    """A value with its spread, marked where it does not differ from the baseline's."""
    if run is None:
        return "no run"
    found = measured[run.name]
    if metric not in found.values:
        return f"too few (n = {smallest(found)})"
    text = with_spread(found.values[metric])
    first = measured[baseline.name].values.get(metric) if baseline and baseline != run else None
    return f"{text} ≈" if first and indistinct(found.values[metric], first) else text


def smallest(found: Measurement) -> int:
    return min(found.count, found.reference_count)


def legend(baseline: str, measured: Mapping[str, Measurement]) -> list[str]:
    """Lines that say what marks and spreads mean; ``baseline``: what ≈ compares with, in words, or "" for nothing."""
    lines = []
    if baseline:
        lines.append(f"- ≈ differs from {baseline} by less than the larger of the two spreads: no difference shown.")
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
    small = sorted({smallest(entry) for entry in measured.values() if entry.values and smallest(entry) < entry.minimum})
    lines += [
        f"- Some numbers rest on {count} clips only, allowed by `evaluation.allow_few`: read nothing into them."
        for count in small
    ]
    return lines


def control_table(controls: Mapping[str, Measurement]) -> str:
    titles = {"real": "real clips against other real clips", "repeated": "the condition image repeated"}
    header = ["control", "n", *METRIC_TITLES.values()]
    return table(header, [[titles[name], str(entry.count), *_values(entry)] for name, entry in controls.items()])


def _values(found: Measurement) -> list[str]:
    return [with_spread(found.values[metric]) if metric in found.values else "too few" for metric in METRIC_TITLES]


def provenance_list(provenance: list[dict], measured: Mapping[str, Measurement]) -> str:
    lines = [
        f"- {ROLE_TITLES[entry['role']]}: {entry['name']} `{entry['hash'][:12]}`, {entry['protocol']}."
        for entry in provenance
    ]
    references = sorted({entry.reference_count for entry in measured.values()})
    lines.append(f"- Real reference clips: {' or '.join(map(str, references))}.")
    rates = sorted({rate for entry in measured.values() for part in entry.details for rate in part.get("fps", [])})
    lines.append(f"- Frames a second of the clips, as told to the models: {', '.join(f'{rate:g}' for rate in rates)}.")
    lines.append("- start: fraction of T (VideoCrafter1, DynamiCrafter) or sigma (SVD) that sampling begins at.")
    lines.append(
        "- consistency: each frame against the next, warped back by the flow. alignment: patches of every frame and of "
        "the condition image, each against its nearest of the other. first frame: against the condition image. As "
        "PSNR; 60 dB is no difference at all."
    )
    return "\n".join(lines)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
