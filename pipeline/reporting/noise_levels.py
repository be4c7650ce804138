"""Figure and table of the noise on the condition: equation (6) over each backbone's own training times."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from pipeline.diffusion.level_profile import BINS, LevelProfile, level_profile
from pipeline.diffusion.schedules import make_schedule
from pipeline.diffusion.source import TRAINING, resolve
from pipeline.diffusion.timenoise import density, make_condition_noise
from pipeline.reporting.methods import MAPS, describe_noise
from pipeline.reporting.page import table
from pipeline.reporting.pyplot import pyplot
from pipeline.reporting.rows import BACKBONES

LEVELS = 160


def mu_max_of(training, family: str) -> float:
    """Where mu ends: 1 in the paper; the released VideoCrafter1 has 4."""
    return resolve(TRAINING, family, training, "trainings").mu_max


def profiles_of(backbone: str, family: str, process, trainings: Mapping[str, object]) -> dict[str, LevelProfile]:
    """The level profile of each training of a backbone by its description; for VE, TimeNoise under each map, too."""
    profiles = {}
    for training in trainings.values():
        if training.backbone != backbone or training.condition_noise.kind == "none":
            continue
        own = training.process.applied_to(process)
        noise = make_condition_noise(training.condition_noise, mu_max_of(training, family))
        if process.kind == "ve" and not training.process.model_dump(exclude_none=True):
            for name, words in MAPS.items():
                mapped = make_schedule(process.model_copy(update={"fraction_map": name}))
                used = " (used here)" if name == process.fraction_map else ""
                profiles[f"{describe_noise(training)}, {words}{used}"] = level_profile(mapped, noise)
        else:
            profiles[describe_noise(training)] = level_profile(make_schedule(own), noise)
    return profiles


def _curves(profiles: Mapping[str, LevelProfile]) -> dict[str, LevelProfile]:
    """The profiles that differ, by the names of all that do not."""
    same: list[tuple[list[str], LevelProfile]] = []
    for name, profile in profiles.items():
        names = next((names for names, other in same if np.array_equal(other.median, profile.median)), None)
        if names is None:
            same.append(([name], profile))
        else:
            names.append(name)
    return {"\nand ".join(names): profile for names, profile in same}


def rise_table(profiles: Mapping[str, Mapping[str, LevelProfile]]) -> str:
    """Markdown: median levels at both ends of the training times."""
    lines = [
        [
            BACKBONES[backbone],
            name,
            f"{profile.lowest:.3g}",
            f"{profile.highest:.3g}",
            f"{profile.rise:.2f}",
        ]
        for backbone, own in profiles.items()
        for name, profile in own.items()
    ]
    header = ["backbone", "noise on the condition", "median level, lowest tenth of t", "highest tenth", "rise (times)"]
    return table(header, lines)


def draw_noise_levels(path: Path, backbones, trainings, profiles: Mapping[str, Mapping[str, LevelProfile]]) -> None:
    """Write a PNG: above, the density of each backbone's TimeNoise; below, median levels of all its trainings."""
    plot = pyplot()
    from matplotlib.ticker import LogLocator, NullLocator

    figure, axes = plot.subplots(
        2, len(profiles), figsize=(4.6 * len(profiles), 8), layout="constrained", squeeze=False
    )
    for place, (backbone, own) in enumerate(profiles.items()):
        _density(axes[0, place], backbone, backbones[backbone], trainings)
        for name, profile in _curves(own).items():
            axes[1, place].plot((np.arange(BINS) + 0.5) / BINS, profile.median, label=name, linewidth=1.3)
        axes[1, place].set_xlabel("share of training draws with a smaller t")
        axes[1, place].set_yscale("log")
        axes[1, place].yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 4, 6)))
        axes[1, place].yaxis.set_minor_locator(NullLocator())
        axes[1, place].yaxis.set_major_formatter("{x:g}")
        axes[1, place].legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.17), frameon=False)
    axes[1, 0].set_ylabel("median level")
    axes[0, 0].set_ylabel("level beta_s")
    figure.savefig(path, dpi=100, metadata={"Software": None})
    plot.close(figure)


def _density(axis, backbone: str, settings, trainings) -> None:
    """Equation (6) of the backbone's first TimeNoise training, over the quantiles of its training times."""
    training = next(
        (t for t in trainings.values() if t.backbone == backbone and t.condition_noise.kind == "timenoise"), None
    )
    axis.set_title(BACKBONES[backbone], fontsize=11)
    if training is None:
        axis.text(0.5, 0.5, "no TimeNoise training", ha="center", transform=axis.transAxes)
        return
    schedule, noise = make_schedule(training.process.applied_to(settings.process)), training.condition_noise
    draws = schedule.sample_time(20_000, torch.Generator().manual_seed(0)).sort().values
    t = draws[torch.linspace(0, len(draws) - 1, LEVELS).long()]
    level = torch.linspace(0, noise.beta_max, LEVELS + 2)[1:-1]
    mu_max = mu_max_of(training, settings.family)
    values = density(level[:, None], schedule.fraction(t)[None, :], noise.beta_max, noise.exponent, mu_max)
    extent = (0, 1, 0, noise.beta_max)
    axis.imshow(values, origin="lower", aspect="auto", extent=extent, cmap="viridis", vmax=float(values.quantile(0.99)))
    ticks = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
    names = [f"{schedule.fraction(t)[int(q * (LEVELS - 1))]:.2f}" for q in ticks]
    axis.set_xticks(ticks, names)
    axis.set_xlabel("TimeNoise's t, each quantile of the training draws")
