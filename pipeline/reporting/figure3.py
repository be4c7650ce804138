"""Table 3 as a picture: how far from real clips, and how much motion, each run with its spread and the two controls."""

from collections.abc import Mapping
from pathlib import Path

from pipeline.evaluation.metric_file import Measurement
from pipeline.reporting.methods import METHOD_OF
from pipeline.reporting.page import is_demo
from pipeline.reporting.pyplot import pyplot
from pipeline.reporting.rows import BACKBONES, ROWS, Run, run_of_cell

PANELS = (
    ("fvd", "FVD{demo} (lower: nearer to real clips)"),
    ("motion_px", "Motion{demo} (pixels a frame)"),
    ("image_alignment", "Image alignment{demo}, dB (higher: nearer to the condition)"),
    ("temporal_consistency", "Temporal consistency{demo}, dB (higher: smoother)"),
)
STYLES = {
    ("standard", "finetune"): ("#9aa5b1", ""),
    ("analytic", "finetune"): ("#9aa5b1", "//"),
    ("standard", "timenoise"): ("#2f6db3", ""),
    ("analytic", "timenoise"): ("#2f6db3", "//"),
}


def draw_figure(
    path: Path, runs: Mapping[str, Run], measured: Mapping[str, Measurement], controls: Mapping[str, Measurement]
) -> None:
    """Write a PNG, the same bytes for the same numbers; a run with too few clips leaves a gap marked so."""
    plot = pyplot()

    demo = is_demo(controls["real"].provenance)
    figure, axes = plot.subplots(2, len(PANELS) // 2, figsize=(11, 8), layout="constrained")
    for axis, (metric, title) in zip(axes.flat, PANELS, strict=True):
        for group, backbone in enumerate(BACKBONES):
            for place, row in enumerate(ROWS):
                _bar(axis, group + 0.2 * (place - 1.5), metric, row, run_of_cell(runs, *row, backbone), measured)
        _control_lines(axis, metric, controls)
        axis.set_xticks(range(len(BACKBONES)), BACKBONES.values())
        axis.set_title(title.format(demo=", demo" if demo else ""), fontsize=11)
        axis.set_xlim(-0.5, len(BACKBONES) - 0.5)
        axis.set_ylim(bottom=0)
        axis.spines[["top", "right"]].set_visible(False)
    handles, labels = _legend_entries(axes.flat)
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plot.close(figure)


def _bar(axis, position: float, metric: str, row, run: Run | None, measured: Mapping[str, Measurement]) -> None:
    colour, hatch = STYLES[row]
    label = METHOD_OF[row[1], row[0]]
    found = measured[run.name].values.get(metric) if run else None
    if found is None:
        axis.text(position, 0, "too few" if run else "no run", rotation=90, ha="center", va="bottom", fontsize=8)
        return
    axis.bar(
        position,
        found.value,
        0.18,
        yerr=found.spread,
        color=colour,
        hatch=hatch,
        edgecolor="white",
        capsize=2,
        label=label,
    )


def _control_lines(axis, metric: str, controls: Mapping[str, Measurement]) -> None:
    for name, style, label in (("real", "-", "real clips"), ("repeated", ":", "condition image repeated")):
        if metric in controls[name].values:
            axis.axhline(
                controls[name].values[metric].value, color="#333333", linestyle=style, linewidth=1.2, label=label
            )


def _legend_entries(axes):
    entries = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    return list(entries.values()), list(entries)
