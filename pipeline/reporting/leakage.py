"""The leakage probe as a table, curves and strips of frames: each model beside the perfect denoiser."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.probing.probe_file import Probe
from pipeline.probing.ratio import motion_ratio
from pipeline.reporting.pyplot import pyplot
from pipeline.reporting.rows import BACKBONES

HARDLY_TRAINED = 0.001  # share of training draws near a time, below which a poor prediction is no leakage
COLOURS = {"perfect": "#222222", "initial": "#8a8f98", "finetune": "#b3541e", "timenoise": "#2f6db3"}
ABLATION = "#b9a6d3"
LABELS = {"perfect": "perfect denoiser", "initial": "original", "finetune": "fine-tuned", "timenoise": "TimeNoise"}


def main_weights(probe: Probe) -> bool:
    """Whether these are a backbone's own start, its naive fine-tune or its TimeNoise, not an ablation."""
    return probe.weights.removeprefix(f"{probe.backbone}-") in COLOURS


COLUMNS = (
    "backbone", "weights", "t", "clips", "motion_px", "motion_px_spread", "truth_px", "ratio", "ratio_error",
    "followed", "followed_error", "perfect_ratio", "perfect_ratio_error", "perfect_followed", "perfect_followed_error",
    "gap", "gap_error", "training_share", "reading",
)  # fmt: skip


def leakage_csv(probes: Sequence[Probe], perfect: Mapping[str, Probe]) -> str:
    """A line a weights and time: motion, its spread over clips, its ratio to the truth's, how much of the clips' own
    motion is followed, the perfect denoiser's, and the gap of the ratio to perfect."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for probe in probes:
        best = perfect.get(probe.backbone)
        of_best = _by_time(best) if best and best.times else {}
        for place, (time, own) in enumerate(_by_time(probe).items()):
            motion, share = np.array(probe.motion[place]), probe.training_share[place]
            numbers = {
                "clips": len(motion),
                "motion_px": motion.mean(),
                "motion_px_spread": motion.std(ddof=1) if len(motion) > 1 else np.nan,
                "truth_px": np.mean(probe.truth),
                **own,
            }
            gap = gap_error = None
            if time in of_best:
                reference = of_best[time]
                gap = reference["ratio"] - own["ratio"]
                gap_error = float(np.hypot(reference["ratio_error"], own["ratio_error"]))
                numbers |= {f"perfect_{name}": value for name, value in reference.items()}
                numbers |= {"gap": gap, "gap_error": gap_error}
            words = {"backbone": probe.backbone, "weights": probe.weights, "t": f"{time:g}"}
            words |= {"training_share": f"{share:.3g}", "reading": reading(gap, gap_error, share)}
            writer.writerow({**words, **{name: _number(value) for name, value in numbers.items()}})
    return out.getvalue()


def _by_time(probe: Probe) -> dict[float, dict[str, float]]:
    """Ratio and share followed at each time, with their errors over clips."""
    ratio = motion_ratio(probe.motion, probe.truth)
    followed = motion_ratio(probe.along, probe.truth_square)
    names = ("ratio", "ratio_error", "followed", "followed_error")
    return {
        time: dict(zip(names, values, strict=True))
        for time, values in zip(probe.times, zip(*ratio, *followed, strict=True), strict=True)
    }


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


PANELS = {
    "ratio": "motion of the one-step prediction,\nshare of the clip's own",
    "followed": "own motion followed, share",
}


def draw_leakage(path: Path, probes: Sequence[Probe], perfect: Mapping[str, Probe]) -> None:
    """Write a PNG: for each backbone motion over t, with bands of 95 % over clips and untrained times in grey."""
    plot = pyplot()
    names = [name for name in BACKBONES if any(probe.backbone == name for probe in probes)]
    size = (4.6 * len(names), 3.4 * len(PANELS) + 0.8)
    figure, axes = plot.subplots(len(PANELS), len(names), figsize=size, layout="constrained", squeeze=False)
    for column, backbone in enumerate(names):
        own, best = [probe for probe in probes if probe.backbone == backbone], perfect.get(backbone)
        for axis, field in zip(axes[:, column], PANELS, strict=True):
            for probe in ([best] if best and best.times else []) + own:
                _curve(axis, probe, field)
            _untrained(axis, own[0])
            axis.axhline(1, color="#999999", linewidth=0.8, linestyle=":")
            axis.set_ylim(bottom=0)
            if own[0].process == "ve":
                axis.set_xscale("log")
            axis.spines[["top", "right"]].set_visible(False)
        axes[0, column].set_title(BACKBONES[backbone], fontsize=11)
        axes[-1, column].set_xlabel("t / T" if own[0].process == "vp" else "sigma")
    for axis, title in zip(axes[:, 0], PANELS.values(), strict=True):
        axis.set_ylabel(title)
    handles = {
        label: handle for axis in axes.flat for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plot.close(figure)


def _curve(axis, probe: Probe, field: str) -> None:
    found = _by_time(probe).values()
    value, error = (np.array([each[name] for each in found]) for name in (field, f"{field}_error"))
    if not main_weights(probe):  # an ablation: one thin line among many
        axis.plot(probe.times, value, color=ABLATION, linewidth=0.8, label="ablations of the training")
        return
    kind = probe.weights.removeprefix(f"{probe.backbone}-")
    style = "--" if kind == "perfect" else "-"
    axis.plot(probe.times, value, style, marker="o", markersize=3, color=COLOURS[kind], label=LABELS[kind])
    low, high = value - 1.96 * error, value + 1.96 * error
    axis.fill_between(probe.times, low, high, color=COLOURS[kind], alpha=0.15, linewidth=0)


def _untrained(axis, probe: Probe) -> None:
    """Grey around each time that training hardly drew, halfway to its neighbours."""
    edges = np.sqrt(np.multiply(probe.times[:-1], probe.times[1:]))
    low, high = [probe.times[0], *edges], [*edges, probe.times[-1]]
    for begin, end, share in zip(low, high, probe.training_share, strict=True):
        if share < HARDLY_TRAINED:
            axis.axvspan(begin, end, color="#dddddd", alpha=0.6, linewidth=0, label="hardly trained there")


def draw_strips(path: Path, strips: Sequence[tuple[Probe, np.ndarray]], frames: int = 8) -> None:
    """Write a PNG: a row of blocks a backbone; in a block the first clip, below it the predictions from each t."""
    plot = pyplot()
    blocks = {name: [(p, s) for p, s in strips if p.backbone == name and s.size] for name in BACKBONES}
    blocks = {name: own for name, own in blocks.items() if own}
    columns = max(len(own) for own in blocks.values())
    lines = [max(len(strip) for _, strip in own) for own in blocks.values()]
    figure, axes = plot.subplots(
        len(blocks), columns, figsize=(2.7 * columns, 0.33 * sum(lines) + 0.6 * len(blocks)), layout="constrained",
        squeeze=False, gridspec_kw={"height_ratios": lines},
    )  # fmt: skip
    for axis in axes.flat:
        axis.set_axis_off()
    for row, own in zip(axes, blocks.values(), strict=True):
        for axis, (probe, strip) in zip(row, own):  # noqa: B905, a backbone may have fewer
            _block(axis, probe, strip[:, np.linspace(0, strip.shape[1] - 1, frames).round().astype(int)])
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=130)
    plot.close(figure)
    Image.open(drawn).convert("RGB").quantize(256).save(path, optimize=True)  # a quarter of the bytes


def _block(axis, probe: Probe, shown: np.ndarray) -> None:
    lines, frames, height, width, _ = shown.shape
    axis.set_axis_on()
    axis.imshow(shown.transpose(0, 2, 1, 3, 4).reshape(lines * height, frames * width, 3))
    axis.set_yticks([(i + 0.5) * height for i in range(lines)], ["clip", *(f"{t:g}" for t in probe.times)])
    axis.set_xticks([])
    axis.tick_params(length=0, labelsize=7)
    name = probe.weights.removeprefix(f"{probe.backbone}-")
    axis.set_title(f"{BACKBONES[probe.backbone]}, {LABELS.get(name, name)}", fontsize=8)
    axis.spines[:].set_visible(False)
