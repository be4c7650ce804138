"""The start-time sweep as curves: distance, quality and motion over the start, with bands of one spread."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.evaluation.metric_file import Measurement
from pipeline.reporting import page
from pipeline.reporting.methods import weights_name
from pipeline.reporting.pyplot import pyplot
from pipeline.reporting.rows import BACKBONES
from pipeline.reporting.sweep import Row

PANELS = {
    "fvd": "FVD ↓",
    "is": "IS ↑",
    "motion_px": "motion, px a frame",
    "image_alignment": "image alignment, dB ↑",
    "temporal_consistency": "temporal consistency, dB ↑",
}
COLOURS = {"standard": "#b3541e", "analytic": "#2f6db3"}
LABELS = {"standard": "standard start", "analytic": "Analytic-Init"}


def draw_start_curves(
    path: Path, rows: Sequence[Row], measured: Mapping[str, Measurement], controls: Mapping[str, Measurement]
) -> None:
    """Write a PNG: a column a backbone and its weights, a line a metric; the same bytes for the same numbers."""
    plot = pyplot()

    columns = list(dict.fromkeys((row.run.backbone, row.run.training) for row in rows))
    size = (4.2 * len(columns), 2.5 * len(PANELS))
    figure, axes = plot.subplots(len(PANELS), len(columns), figsize=size, layout="constrained", squeeze=False)
    demo = page.is_demo(controls["real"].provenance)
    for place, (backbone, training) in enumerate(columns):
        own = [row.run for row in rows if (row.run.backbone, row.run.training) == (backbone, training)]
        for axis, (metric, title) in zip(axes[:, place], PANELS.items(), strict=True):
            for init in COLOURS:
                _curve(axis, metric, init, sorted((r for r in own if r.init == init), key=lambda r: r.start), measured)
            real = controls["real"].values.get(metric)
            if real and metric in ("motion_px", "image_alignment", "temporal_consistency"):
                axis.axhline(real.value, color="#333333", linewidth=1, linestyle=":", label="real clips")
            if place == 0:
                axis.set_ylabel(title)
            _scale(axis, backbone)
            axis.spines[["top", "right"]].set_visible(False)
        axes[0, place].set_title(
            f"{BACKBONES[backbone]}, {weights_name(training)}{' (demo)' if demo else ''}", fontsize=11
        )
    handles = {label: handle for axis in axes.flat for handle, label in zip(*axis.get_legend_handles_labels())}  # noqa: B905
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=100, metadata={"Software": None})
    plot.close(figure)


def _curve(axis, metric: str, init: str, runs, measured: Mapping[str, Measurement]) -> None:
    points = [(run.start, measured[run.name].values[metric]) for run in runs if metric in measured[run.name].values]
    if not points:
        return
    x = [start for start, _ in points]
    value = [found.value for _, found in points]
    low = [found.value - (found.spread or 0) for _, found in points]
    high = [found.value + (found.spread or 0) for _, found in points]
    axis.plot(x, value, "o-", color=COLOURS[init], markersize=4, label=LABELS[init])
    axis.fill_between(x, low, high, color=COLOURS[init], alpha=0.15, linewidth=0)


def _scale(axis, backbone: str) -> None:
    if backbone == "svd":
        axis.set_xscale("log")
        axis.set_xlabel("start, sigma")
    else:
        axis.set_xlabel("start, M / T")
