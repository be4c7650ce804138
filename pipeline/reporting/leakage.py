"""The leakage probe as a table, curves and strips of frames: each model beside the perfect denoiser."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.probing.probe_file import Probe
from pipeline.reporting.rows import BACKBONES

HARDLY_TRAINED = 0.001  # share of training draws near a time, below which a poor prediction is no leakage
COLOURS = {"perfect": "#222222", "initial": "#8a8f98", "finetune": "#b3541e", "timenoise": "#2f6db3"}
LABELS = {"perfect": "perfect denoiser", "initial": "original", "finetune": "fine-tuned", "timenoise": "TimeNoise"}


def ratios(probe: Probe) -> tuple[np.ndarray, np.ndarray]:
    """Motion of the predictions over that of the clips, and its standard error over clips; each (times,).

    The ratio of means, by the delta method: single clips may hardly move. The error of one clip is NaN.
    """
    moved, truth = np.array(probe.motion), np.array(probe.truth)
    ratio = moved.mean(1) / truth.mean()
    residual = moved - ratio[:, None] * truth
    spread = residual.std(1, ddof=1) if len(truth) > 1 else np.full(len(ratio), np.nan)
    return ratio, spread / np.sqrt(len(truth)) / truth.mean()


def leakage_csv(probes: Sequence[Probe], perfect: Mapping[str, Probe]) -> str:
    """A line a weights and time: motion, its spread over clips, its ratio to the truth's, and the gap to perfect."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        [
            "backbone", "weights", "t", "clips", "motion_px", "motion_px_spread", "truth_px", "ratio", "ratio_error",
            "perfect_ratio", "perfect_ratio_error", "gap", "gap_error", "training_share", "reading",
        ]
    )  # fmt: skip
    for probe in probes:
        best = perfect.get(probe.backbone)
        of_best = dict(zip(best.times, zip(*ratios(best), strict=True), strict=True)) if best and best.times else {}
        for place, (time, ratio, error) in enumerate(zip(probe.times, *ratios(probe), strict=True)):
            row = np.array(probe.motion[place])
            spread = row.std(ddof=1) if len(row) > 1 else np.nan
            cells = [len(row), row.mean(), spread, np.mean(probe.truth), ratio, error]
            reference = of_best.get(time)
            share = probe.training_share[place]
            if reference:
                gap, gap_error = reference[0] - ratio, float(np.hypot(reference[1], error))
                cells += [*reference, gap, gap_error]
            else:
                gap = gap_error = None
                cells += ["", "", "", ""]
            writer.writerow(
                [probe.backbone, probe.weights, f"{time:g}", *(_number(cell) for cell in cells), f"{share:.3g}",
                 reading(gap, gap_error, share)]
            )  # fmt: skip
    return out.getvalue()


def _number(value) -> str:
    if isinstance(value, str | int):
        return str(value)
    return f"{value:.4g}" if np.isfinite(value) else ""


def reading(gap: float | None, error: float | None, share: float) -> str:
    """What a line shows, in words; 1.96 standard errors decide."""
    if share < HARDLY_TRAINED:
        return "hardly trained there"
    if gap is None:
        return "no reference"
    if not np.isfinite(error):
        return "too few clips"
    if gap > 1.96 * error:
        return "moves less than the perfect denoiser"
    return "moves more than the perfect denoiser" if gap < -1.96 * error else "as the perfect denoiser"


def draw_leakage(path: Path, probes: Sequence[Probe], perfect: Mapping[str, Probe]) -> None:
    """Write a PNG: for each backbone motion over t, with bands of 95 % over clips and untrained times in grey."""
    pyplot = _pyplot()
    names = [name for name in BACKBONES if any(probe.backbone == name for probe in probes)]
    figure, axes = pyplot.subplots(1, len(names), figsize=(4.6 * len(names), 4), layout="constrained", squeeze=False)
    for axis, backbone in zip(axes[0], names, strict=True):
        own = [probe for probe in probes if probe.backbone == backbone]
        best = perfect.get(backbone)
        for probe in ([best] if best and best.times else []) + own:
            _curve(axis, probe)
        _untrained(axis, own[0])
        axis.axhline(1, color="#999999", linewidth=0.8, linestyle=":")
        axis.set_title(BACKBONES[backbone], fontsize=11)
        axis.set_ylim(bottom=0)
        axis.set_xlabel("t / T" if own[0].process == "vp" else "sigma")
        if own[0].process == "ve":
            axis.set_xscale("log")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylabel("motion of the one-step prediction,\nshare of the clip's own")
    handles = {
        label: handle for axis in axes[0] for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def _curve(axis, probe: Probe) -> None:
    kind = probe.weights.removeprefix(f"{probe.backbone}-")
    colour, label = COLOURS.get(kind), LABELS.get(kind, kind)
    ratio, error = ratios(probe)
    style = "--" if kind == "perfect" else "-"
    line = axis.plot(probe.times, ratio, style, marker="o", markersize=3, color=colour, label=label)[0]
    low, high = ratio - 1.96 * error, ratio + 1.96 * error
    axis.fill_between(probe.times, low, high, color=line.get_color(), alpha=0.15, linewidth=0)


def _untrained(axis, probe: Probe) -> None:
    bare = [time for time, share in zip(probe.times, probe.training_share, strict=True) if share < HARDLY_TRAINED]
    if bare:
        axis.axvspan(min(bare), max(probe.times), color="#dddddd", alpha=0.6, linewidth=0, label="hardly trained there")


def draw_strips(path: Path, strips: Sequence[tuple[Probe, np.ndarray]], frames: int = 8) -> None:
    """Write a PNG: the first clip above, below it the predictions from each t; a block of columns a weights."""
    pyplot = _pyplot()
    strips = [(probe, strip) for probe, strip in strips if strip.size]
    rows = max(len(strip) for _, strip in strips)
    size = (2.4 * len(strips) + 0.6, 0.34 * rows + 0.8)
    figure, axes = pyplot.subplots(1, len(strips), figsize=size, layout="constrained", squeeze=False)
    for axis, (probe, strip) in zip(axes[0], strips, strict=True):
        shown = strip[:, np.linspace(0, strip.shape[1] - 1, frames).round().astype(int)]
        height, width = shown.shape[2:4]
        axis.imshow(shown.transpose(0, 2, 1, 3, 4).reshape(len(shown) * height, frames * width, 3))
        axis.set_yticks([(i + 0.5) * height for i in range(len(shown))], ["clip", *(f"{t:g}" for t in probe.times)])
        axis.set_xticks([])
        axis.tick_params(length=0, labelsize=7)
        title = "perfect denoiser" if probe.weights == "perfect" else probe.weights.removeprefix(f"{probe.backbone}-")
        axis.set_title(f"{BACKBONES[probe.backbone]}\n{LABELS.get(title, title)}", fontsize=8)
        axis.spines[:].set_visible(False)
    figure.savefig(path, dpi=150, metadata={"Software": None})
    pyplot.close(figure)


def _pyplot():
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    return pyplot
