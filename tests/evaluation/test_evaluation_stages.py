"""The stages detectors, features and metrics in a row, on Parquet clips."""

import json

import pytest

from pipeline.errors import PipelineError
from pipeline.evaluation.feature_store import read_features
from pipeline.evaluation.metric_file import read_metrics
from pipeline.evaluation.samples import sampling_seeds
from tests.helpers.parted import files_of


@pytest.fixture(scope="module")
def clips(tmp_path_factory, write_blob_clips):
    """A folder of clip sets: train, test, and the samples of a run, which lack their manifest."""
    root = tmp_path_factory.mktemp("clips")
    write_blob_clips(root / "train", 96, seed=1)
    write_blob_clips(root / "test", 200, seed=30)
    write_blob_clips(root / "RUN", 90, seed=31)
    return root


def manifest(folder, ids):
    folder.mkdir(exist_ok=True)
    lines = (json.dumps({"id": name, "seed": 7, "prompt": "", "condition_id": name}) + "\n" for name in ids)
    (folder / "manifest.jsonl").write_text("".join(lines))


def test_from_clips_to_metrics(clips, run_stage, tmp_path):
    detectors, real, samples = tmp_path / "detectors", tmp_path / "real", tmp_path / "samples"
    run_stage("detectors", [clips / "train"], detectors)
    run_stage("features", [clips / "test", detectors], real, of="real")
    sharded = tmp_path / "sharded"
    run_stage("features", [clips / "test", detectors], sharded, of="real", shards=3, order=[2, 0, 1])
    assert len(files_of(real)) == 6 and files_of(sharded) == files_of(real)
    run_stage("metrics", [real], tmp_path / "metrics" / "controls.json", of="controls")
    controls = read_metrics(tmp_path / "metrics" / "controls.json")
    assert controls["repeated"].values["fvd"].value > 10 * controls["real"].values["fvd"].value
    assert controls["repeated"].values["motion_px"].value < 0.01 < controls["real"].values["motion_px"].value
    assert (controls["real"].count, controls["real"].reference_count) == (90, 100)

    parts = {name: read_features(real, name) for name in ("reference", "conditions", "repeated")}
    assert set(parts["reference"].ids).isdisjoint(parts["conditions"].ids)
    assert parts["repeated"].ids == parts["conditions"].ids

    manifest(clips / "RUN", [f"clip-{index}" for index in range(90)])
    run_stage("features", [clips / "RUN", detectors, clips / "RUN"], samples, of="a-run")
    run_stage("metrics", [samples, real], tmp_path / "metrics" / "a-run.json", of="a-run")
    found = read_metrics(tmp_path / "metrics" / "a-run.json")[""]
    assert found.details[0] == {"set": "samples", "fps": [3.0], "strides": [3], "seeds": [7], "motion_bucket": None}
    assert found.count == 90 and read_features(samples, "samples").seeds == [7] * 90
    assert found.values["fvd"].value < 0.5 * controls["repeated"].values["fvd"].value  # RUN holds moving blobs too


def test_a_test_set_that_is_too_small_names_the_key(clips, run_stage, stage_params, tmp_path):
    run_stage(
        "detectors",
        [clips / "train"],
        tmp_path / "detectors",
        detectors=stage_params["detectors"].model_copy(update={"steps": 2}),
    )
    more = stage_params["evaluation"].model_copy(update={"reference": 1000})
    with pytest.raises(PipelineError, match=r"evaluation\.reference"):
        run_stage("features", [clips / "test", tmp_path / "detectors"], tmp_path / "real", of="real", evaluation=more)


def test_samples_that_the_manifest_does_not_name_are_an_error(clips, run_stage, stage_params, tmp_path):
    run_stage(
        "detectors",
        [clips / "train"],
        tmp_path / "detectors",
        detectors=stage_params["detectors"].model_copy(update={"steps": 2}),
    )
    manifest(clips / "RUN", ["clip-0"])
    with pytest.raises(PipelineError, match="does not name the clips"):
        run_stage("features", [clips / "RUN", tmp_path / "detectors", clips / "RUN"], tmp_path / "samples", of="a-run")


def test_a_clip_named_twice_in_the_manifest_is_an_error(tmp_path):
    manifest(tmp_path / "RUN", ["clip-0", "clip-0"])
    with pytest.raises(PipelineError, match="names a clip twice"):
        sampling_seeds(tmp_path / "RUN", ["clip-0"])
