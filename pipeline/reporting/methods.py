"""Which runs are the lines of which table."""

from collections.abc import Mapping

from pipeline.evaluation.metric_file import Measurement
from pipeline.reporting.numbers import with_spread
from pipeline.reporting.rows import BACKBONES, Run, run_of_cell
from pipeline.reporting.sweep import Row

METHODS = {  # training and initial distribution of each line of the UCF101 table
    "original": ("initial", "standard"),
    "original + Analytic-Init": ("initial", "analytic"),
    "fine-tuned": ("finetune", "standard"),
    "fine-tuned + Analytic-Init": ("finetune", "analytic"),
    "TimeNoise": ("timenoise", "standard"),
    "CIL: TimeNoise + Analytic-Init": ("timenoise", "analytic"),
}


METHOD_OF = {training_and_start: method for method, training_and_start in METHODS.items()}


def training_of(weights: str) -> str:
    """``svd-finetune`` without its backbone."""
    for backbone in BACKBONES:
        weights = weights.removeprefix(f"{backbone}-")
    return weights


def weights_name(weights: str) -> str:
    """Weights in the words of the tables: what they are sampled with from the standard start."""
    return METHOD_OF.get((training_of(weights), "standard"), training_of(weights))


OF_STARTS = ("table3", "ucf101", "start_grid")  # groups whose runs differ in their start, at the backbone's own motion


def ucf101_rows(runs: Mapping[str, Run]) -> list[Row]:
    """Each backbone's methods that params.yaml has, of the groups ucf101 and table3; compared with the naive tuning."""
    known = {name: run for name, run in runs.items() if run.group in ("ucf101", "table3")}
    rows = []
    for backbone in BACKBONES:
        baseline = run_of_cell(known, "standard", "finetune", backbone)
        for method, (train, init) in METHODS.items():
            run = run_of_cell(known, init, train, backbone)
            if run:
                rows.append(Row(run, {"method": method}, baseline))
    return rows


def start_rows(runs: Mapping[str, Run]) -> list[Row]:
    """Every start of the weights that the group start_grid sweeps, those of other tables included.

    Ordered by backbone, initial distribution and falling start; compared with the standard start at the largest.
    """
    swept = {(run.backbone, run.training) for run in runs.values() if run.group == "start_grid"}
    own = [run for run in runs.values() if (run.backbone, run.training) in swept and run.group in OF_STARTS]
    order = list(BACKBONES)
    own.sort(key=lambda run: (order.index(run.backbone), run.training, run.init != "standard", -run.start))
    rows = []
    for run in own:
        same = [other for other in own if (other.backbone, other.training) == (run.backbone, run.training)]
        standard = [other for other in same if other.init == "standard"]
        largest = max(standard, key=lambda other: other.start) if standard else None
        rows.append(Row(run, {"weights": run.training, "initial distribution": run.init}, largest))
    return rows


def motion_error_rows(runs: Mapping[str, Run], measured: Mapping[str, Measurement]) -> list[Row]:
    """The runs that ask for a motion, and those of the same weights and start at the backbone's own.

    Ordered by weights, initial distribution and what is asked; no baseline.
    """
    asking = {(run.training, run.init, run.start) for run in runs.values() if run.group == "motion_error"}
    own = [run for run in runs.values() if (run.training, run.init, run.start) in asking]
    asked = {run.name: measured[run.name].details[0]["motion_bucket"] for run in own}
    own.sort(key=lambda run: (run.training, run.init != "standard", asked[run.name]))
    return [
        Row(
            run,
            {
                "weights": run.training,
                "asked": f"{asked[run.name]:g}",
                "motion score error ↓": with_spread(measured[run.name].values["motion_error"])
                if "motion_error" in measured[run.name].values
                else "too few",
            },
        )
        for run in own
    ]


def condition_noise_rows(runs: Mapping[str, Run], trainings: Mapping[str, object]) -> list[Row]:
    """Every kind of noise on the condition at the standard start, of the backbones that the group timenoise varies."""
    varied = {run.backbone for run in runs.values() if run.group == "timenoise"}
    own = [run for run in runs.values() if run.backbone in varied and run.init == "standard"]
    own = [run for run in own if run.group in ("timenoise", "table3") and run.training in trainings]
    rows = []
    for backbone in BACKBONES:
        baseline = run_of_cell(runs, "standard", "finetune", backbone)
        for run in own:
            if run.backbone == backbone:
                rows.append(Row(run, {"noise on the condition": describe_noise(trainings[run.training])}, baseline))
    return rows


def describe_noise(training) -> str:
    """A training's noise on the condition in words."""
    noise = training.condition_noise
    values = noise.model_dump(exclude={"kind", "tokens"})
    words = {
        "none": "none (naive)",
        "timenoise": "TimeNoise",
        "linear_mix": "linear mix",
        "constant": "constant",
        "same_as_x": "as in X_t",
        "cdm": "CDM, level told",
    }[noise.kind]
    parts = [words, *(f"{NAMES[name]} {value:g}" for name, value in values.items())]
    if not getattr(noise, "tokens", True):
        parts.append("CLIP tokens clean")
    for name, value in training.process.model_dump(exclude_none=True).items():
        parts.append(MAPS[value] if name == "fraction_map" else f"{name} {value}")
    return ", ".join(parts)


MAPS = {  # from sigma to TimeNoise's t
    "sigma_over_max": "t = sigma / sigma_max (the literal reading)",
    "equal_snr": "t: VP step of equal signal-to-noise ratio",
    "training_quantile": "t: share of training draws below sigma",
}
NAMES = {"beta_max": "beta_m", "exponent": "a", "level": "beta", "level_max": "up to"}
