"""A change of params.yaml or of code reruns exactly what it affects: one line a key group, both engines."""

import pytest

DC = "dynamicrafter"
DC_RUNS = [f"{DC}-{train}-{init}" for train in ("finetune", "timenoise") for init in ("standard", "analytic")]
TABLE3 = [*DC_RUNS, "videocrafter1-finetune-standard", "svd-timenoise-analytic"]
ORIGINAL, EARLY, TOLD = f"{DC}-initial-standard", f"{DC}-initial-analytic-90", f"{DC}-cdm-standard"
ASKED = "svd-timenoise-analytic-mid"
RUNS = [*TABLE3, ORIGINAL, EARLY, TOLD, ASKED]
OF_DC = [*DC_RUNS, ORIGINAL, EARLY, TOLD]
TABLES = {"table3", "ucf101", "start_grid", "timenoise", "motion_error", "compute", "report"}
STUDIED = {f"pairs@{DC}", "ratings", "table3", "compute", "report"}
JUDGED = {"claims", "compute", "report"}
CLAIMED = {"claims_seed@10", "claims_seed@11"} | JUDGED
PROBES = [f"{DC}-initial", f"{DC}-timenoise", "svd-initial"]


def each(stage: str, keys) -> set[str]:
    return {f"{stage}@{key}" for key in keys}


def ucf101(runs) -> set[str]:
    """What follows from sampling UCF101 anew."""
    tables = set()
    for run in runs:
        own = {ORIGINAL: {"ucf101", "start_grid", "compute", "report"}, EARLY: {"start_grid", "compute", "report"}}
        own[TOLD] = {"timenoise", "compute", "report"}
        own[ASKED] = {"motion_error", "compute", "report"}
        tables |= own.get(run, TABLES)
    return each("sample_ucf101", runs) | each("features", runs) | each("metrics", runs) | tables


def sampled(runs) -> set[str]:
    """What follows from other weights."""
    sheets = STUDIED if any(run in DC_RUNS for run in runs) else set()
    return ucf101(runs) | each("sample_imagebench", runs) | sheets


def probed(weights) -> set[str]:
    """What follows from probing anew."""
    return each("probe", weights) | {"leakage", "compute", "report"}


def after_features_real() -> set[str]:
    return {"features_real", "metrics_controls"} | TABLES | each("metrics", RUNS) | CLAIMED


FAMILIES = ("videocrafter1", DC, "svd")
CLIP_SETS = ("webvid_strided", "webvid_fixed", "ucf101_train", "ucf101", "imagebench")
VC_RUN, SVD_RUN = ["videocrafter1-finetune-standard"], ["svd-timenoise-analytic", ASKED]
STRIDED = each("latents", ["webvid_strided"]) | each("moments", ["videocrafter1", DC])

CHANGES = {
    # key: (new value, jobs)
    f"runs.{DC}-finetune-analytic.start.ucf101": (0.9, ucf101([f"{DC}-finetune-analytic"])),
    f"runs.{DC}-finetune-analytic.start.imagebench": (
        0.9,
        {f"sample_imagebench@{DC}-finetune-analytic"} | STUDIED | TABLES,
    ),
    f"backbones.{DC}.sampling.steps": (5, sampled(OF_DC) | {"timenoise"} | CLAIMED),
    "backbones.svd.finetune.learning_rate": (1e-4, {"finetune@svd-timenoise", "timenoise"} | sampled(SVD_RUN)),
    "backbones.svd.initialise.optimisation.steps": (
        7,
        {"initialise@svd", "finetune@svd-timenoise"} | sampled(SVD_RUN) | probed(["svd-initial"]),
    ),
    "backbones.videocrafter1.process.beta_end": (
        0.013,
        {"initialise@videocrafter1", "finetune@videocrafter1-finetune", "perfect_denoiser@videocrafter1", "leakage"}
        | sampled(VC_RUN),
    ),
    f"trainings.{DC}-timenoise.condition_noise.beta_max": (
        2.0,
        {f"finetune@{DC}-timenoise"}
        | sampled([f"{DC}-timenoise-standard", f"{DC}-timenoise-analytic"])
        | probed([f"{DC}-timenoise"]),
    ),
    f"runs.{ASKED}.motion_bucket": (9.0, sampled([ASKED]) | TABLES),
    "moments.clips": (30, each("moments", ["videocrafter1", DC, "svd"]) | sampled(RUNS) | CLAIMED),
    "latents.webvid_strided.batch_size": (
        4,
        STRIDED
        | each("initialise", ["videocrafter1", DC])
        | each("finetune", ["videocrafter1-finetune", f"{DC}-finetune", f"{DC}-timenoise", f"{DC}-cdm"])
        | sampled([*OF_DC, *VC_RUN])
        | probed([f"{DC}-initial", f"{DC}-timenoise"])
        | CLAIMED,
    ),
    "clip_sets.imagebench.limit": (
        3,
        each("preprocess", ["imagebench"]) | each("sample_imagebench", RUNS) | STUDIED,
    ),
    "detectors.steps": (21, {"detectors"} | each("features", RUNS) | after_features_real()),
    "motion.height": (
        32,
        each("features", RUNS) | after_features_real() | probed(PROBES) | each("perfect_denoiser", FAMILIES),
    ),
    "probe.seed": (1, probed(PROBES) | each("perfect_denoiser", FAMILIES) | JUDGED),
    f"probes.{DC}-initial.weights": (f"{DC}-cdm", probed([f"{DC}-initial"])),
    "evaluation.subsets": (2, {"metrics_controls"} | TABLES | each("metrics", RUNS) | CLAIMED),
    "evaluation.conditions": (9, after_features_real() | ucf101(RUNS) | probed(PROBES)),
    "claims.seeds": ([10, 12], {"claims_seed@12"} | JUDGED),
    "claims.design.starts.early": (0.5, CLAIMED),
    "study.fps": (9, each("sample_imagebench", RUNS) | STUDIED),
    "survey.participants": (5, STUDIED),
    "runtime.workers": (1, set()),
    "runtime.log_level": ("DEBUG", set()),
    "runtime.device": ("cpu", set()),
    "runtime.clips_per_device": (2, set()),
}


@pytest.mark.parametrize("key", CHANGES)
def test_parameter_reruns_exactly(workspace, key):
    value, expected = CHANGES[key]
    workspace.set(key, value)
    assert workspace.planned() == expected
    if len(expected) <= 6:  # DVC shows what follows only by running it
        workspace.dvc("repro")
        assert set(workspace.executed()) == expected
        assert workspace.planned() == set()


def test_every_parameter_group_has_a_line():
    from pipeline.params.file import Params

    without_line = {"world", "clips", "encoders", "sheets"}  # these rerun nearly all, or the pair sheet alone: below
    assert {key.split(".")[0] for key in CHANGES} | without_line == set(Params.model_fields)


@pytest.mark.parametrize("key, value, first", [
    ("world.seed", 1, {"world"} | each("perfect_denoiser", FAMILIES)),  # it knows the scenes
    ("clips.seed", 1, {f"preprocess@{name}" for name in CLIP_SETS}),
    ("encoders.tiny.training.seed", 1, {"encoders@tiny"}),
])  # fmt: skip
def test_early_parameter_reruns_what_lies_below(workspace, key, value, first):
    from pipeline.engine.ledger import Ledger

    everything = set(Ledger(workspace.path).entries)
    workspace.set(key, value)
    assert workspace.planned_by_dvc() == first | {"report"}  # it shows every parameter
    above = {"world.seed": set(), "clips.seed": {"world"}, "encoders.tiny.training.seed": {
        "world", "preprocess@webvid_strided", "preprocess@webvid_fixed", "preprocess@ucf101_train", "preprocess@ucf101",
        "preprocess@imagebench", "detectors", "features_real", "metrics_controls",
    }}[key]  # fmt: skip
    assert workspace.planned() == everything - above


def test_another_sheet_reruns_the_study_alone(workspace):
    workspace.set(f"sheets.{DC}.runs", list(reversed(DC_RUNS)))
    assert workspace.planned() == STUDIED


def test_added_row_runs_that_row(workspace):
    from pipeline import presets

    tree = presets.read(workspace.path / "params.yaml")
    tree["runs"]["svd-initial-standard"] = {
        **tree["runs"]["svd-timenoise-analytic"],
        "training": "svd-initial",
        "init": "standard",
    }
    presets.write(tree, workspace.path / "params.yaml")
    expected = sampled(["svd-initial-standard"])
    assert workspace.planned() == expected
    workspace.snakemake()
    assert set(workspace.executed()) == expected
    assert workspace.planned_by_dvc() == set()


@pytest.mark.parametrize(("module", "expected"), [
    ("pipeline/diffusion/samplers.py", sampled(RUNS) | probed(PROBES) | CLAIMED),
    ("pipeline/claims/verdicts.py", JUDGED),
    ("pipeline/stages/pairs.py", STUDIED),
    ("pipeline/stages/table3.py", {"table3", "compute", "report"}),
    ("pipeline/evaluation/frechet.py", {"metrics_controls"} | TABLES | each("metrics", RUNS) | CLAIMED),
])  # fmt: skip
def test_code_reruns_its_stage_and_what_follows(workspace, module, expected):
    path = workspace.path / module
    path.write_text(path.read_text() + "\n# mended\n")
    assert workspace.planned() == expected
