"""params.yaml: exact keys, exact types, errors by path; a stage sees only what dvc.yaml declares."""

import copy
from pathlib import Path

import pytest

from pipeline import presets
from pipeline.engine.ledger import Ledger
from pipeline.errors import PipelineError
from pipeline.params.declared import Declared, declared_values
from pipeline.params.file import load_params, validate_params

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def demo():
    return presets.read(ROOT / "presets/demo.yaml")


def put(tree, path: str, value):
    tree = copy.deepcopy(tree)
    *parents, last = path.split(".")
    node = tree
    for part in parents:
        node = node[part]
    if value is None:
        del node[last]
    else:
        node[last] = value
    return tree


@pytest.mark.parametrize(("path", "value", "says"), [
    ("moments.clips", None, "moments.clips: this key is missing"),
    ("moments.klips", 5, "moments.klips: unknown key"),
    ("moments.clips", "many", "moments.clips: Input should be a valid integer, found 'many'"),
    ("moments.clips", 2.5, "moments.clips: Input should be a valid integer, found 2.5"),
    ("moments.clips", 0, "moments.clips: Input should be greater than 0"),
    ("backbones.svd.process.sigma_max", "big", "backbones.svd.process.sigma_max: Input should be a valid number"),
    ("backbones.svd.sampling.kind", "ddim", "backbones.svd.sampling"),
    ("backbones.svd.family", "sora", "backbones.svd.family"),
    ("trainings.svd-timenoise.backbone", "sora", "trainings.svd-timenoise.backbone: 'sora' is not a key of backbones"),
    (
        "trainings.svd-timenoise.condition_noise",
        {"kind": "timenoise", "beta_max": 1.0},
        "condition_noise.exponent: this key is missing",
    ),
    ("runs.svd-finetune-standard.start.ucf101", 900.0, "runs.svd-finetune-standard.start.ucf101: 900.0 lies above"),
    ("runs.svd-finetune-standard.training", "svd-fine", "runs.svd-finetune-standard.training: 'svd-fine'"),
    ("sheets.svd.runs", ["svd-finetune-standard"] * 3 + ["x"], "sheets.svd.runs: 'x' is not a key of runs"),
    ("sheets.svd.runs", ["svd-finetune-standard"] * 3, "sheets.svd.runs: List should have at least 4 items"),
])  # fmt: skip
def test_wrong_key_is_named_by_its_path(demo, path, value, says):
    with pytest.raises(PipelineError) as error:
        validate_params(put(demo, path, value), "params.yaml")
    assert says in str(error.value)


@pytest.mark.parametrize("name", [path.stem for path in (ROOT / "presets").glob("*.yaml")])
def test_presets_are_valid(name):
    validate_params(presets.preset(ROOT / "presets", name), name)


def test_committed_parameters_are_the_demo():
    assert (ROOT / "params.yaml").read_text() == (ROOT / "presets/demo.yaml").read_text()


def test_missing_and_broken_files_are_named(tmp_path):
    with pytest.raises(PipelineError, match=r"params\.yaml is missing"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("a: [")
    with pytest.raises(PipelineError, match="not valid YAML"):
        load_params(tmp_path / "params.yaml")


def test_declared_view_gives_what_is_declared_and_raises_on_the_rest(demo):
    params = validate_params(demo, "demo")
    view = Declared(params, ("moments", "runs.svd-finetune-standard.start.ucf101"), "sample@x")
    assert view.moments.clips == params.moments.clips
    assert view.runs["svd-finetune-standard"].start.ucf101 == 200.0
    for read in (
        lambda: view.world,
        lambda: view.runs["svd-finetune-standard"].init,
        lambda: view.runs["svd-finetune-standard"].start.imagebench,
        lambda: view.runs["svd-finetune-analytic"],
    ):
        with pytest.raises(
            PipelineError, match=r"stage sample@x read the parameter .* which dvc\.yaml does not declare"
        ):
            read()


def test_every_declared_key_exists_and_no_stage_declares_runtime():
    params = load_params(ROOT / "params.yaml")
    for entry in Ledger(ROOT).entries.values():
        assert bool(declared_values(params, entry.params)) == bool(entry.params), entry.address
        assert not any(key.split(".")[0] == "runtime" for key in entry.params), entry.address


def test_every_parameter_is_declared_by_some_stage():
    params = load_params(ROOT / "params.yaml")
    declared = {key for entry in Ledger(ROOT).entries.values() for key in entry.params}
    leaves = []

    def walk(node, path):
        if hasattr(type(node), "model_fields") and not isinstance(node, dict):
            node = {name: getattr(node, name) for name in type(node).model_fields}
        if isinstance(node, dict):
            for key, value in node.items():
                walk(value, f"{path}.{key}" if path else key)
        else:
            leaves.append(path)

    walk(params, "")
    covered = [leaf for leaf in leaves if any(leaf == key or leaf.startswith(key + ".") for key in declared)]
    # Names of other stages' outputs: dvc.yaml turns them into dependencies.
    names = {"encoders", "latents"}
    rest = {leaf for leaf in leaves if leaf not in covered and not leaf.startswith("runtime.")}
    assert {leaf for leaf in rest if not (leaf.startswith("backbones.") and leaf.split(".")[-1] in names)} == set()


def test_use_data_keeps_the_rest_and_points_at_the_folders(demo):
    tree = copy.deepcopy(demo)
    presets.use_webvid(tree, "a.csv", "videos", {"id": "n", "caption": "text", "folder": None}, windows=3)
    presets.use_evaluation(tree, "ucf101", "split.txt", "clips", windows=8)
    params = validate_params(tree, "own")
    assert params.clip_sets["own_strided"].listing == "a.csv"
    assert params.clip_sets["own_fixed"].frame_rule.kind == "fixed_fps"
    assert params.clip_sets["own_strided"].windows == 3
    assert params.trainings["svd-finetune"].latents == "own_fixed"
    assert params.backbones["dynamicrafter"].latents == "own_strided"
    assert params.backbones["dynamicrafter"].initialise.latents == "webvid_strided"
    assert params.clip_sets["ucf101"].listing == "split.txt"


def test_preset_writing_leaves_the_file_alone_when_invalid(tmp_path, demo):
    path = tmp_path / "params.yaml"
    path.write_text("before")
    with pytest.raises(PipelineError):
        presets.write(put(demo, "moments.clips", -1), path)
    assert path.read_text() == "before"


@pytest.mark.parametrize(
    "key, process, expected",
    [
        ("svd-timenoise", {"p_mean": 2.0}, None),
        ("dynamicrafter-timenoise", {"p_mean": 2.0}, "trainings.dynamicrafter-timenoise.process: a vp process has no"),
        ("svd-timenoise", {"fraction_map": "cubic"}, "trainings.svd-timenoise.process.fraction_map"),
    ],
)
def test_a_training_may_change_how_a_ve_process_is_trained(demo, key, process, expected):
    raw = copy.deepcopy(demo)
    raw["trainings"][key]["process"].update(process)
    if expected:
        with pytest.raises(PipelineError, match=expected):
            validate_params(raw, "params.yaml")
        return
    params = validate_params(raw, "params.yaml")
    changed = params.trainings[key].process.applied_to(params.backbones["svd"].process)
    assert (changed.p_mean, changed.p_std) == (2.0, 1.6)


def test_videocrafter1_without_noise_on_its_tokens_is_refused(demo):
    raw = copy.deepcopy(demo)
    raw["trainings"]["videocrafter1-timenoise"]["condition_noise"]["tokens"] = False
    with pytest.raises(PipelineError, match="tokens are the only condition of videocrafter1"):
        validate_params(raw, "params.yaml")
