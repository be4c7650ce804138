"""The stages detectors, features and metrics in a row, on Parquet clips."""

import importlib
import json
import logging
from types import SimpleNamespace

import pytest

from pipeline.data.schema import ClipWriter, encode_frames
from pipeline.errors import PipelineError
from pipeline.evaluation.feature_store import read_features
from pipeline.evaluation.metric_file import read_metrics
from pipeline.evaluation.samples import sampling_seeds
from pipeline.params.evaluation import Detectors, Evaluation, Motion

PARAMS = {
    "detectors": Detectors(kind="trained", seed=0, steps=60, batch_size=12, learning_rate=3e-3, width=8, features=24),
    "motion": Motion(height=64, width=64),
    "evaluation": Evaluation(
        seed=0, conditions=90, reference=100, minimum=90, allow_few=False, subsets=4, is_splits=2, seeds=[0]
    ),
}


class Record:
    """Takes what a stage records, and checks that it is numbers."""

    def metrics(self, values, step=None):
        assert all(isinstance(value, float) for value in values.values())


def write_clips(folder, blobs):
    clips, labels, _ = blobs
    writer = ClipWriter(folder, rows_per_shard=64)
    numbers = dict.fromkeys(("start_frame", "window", "source_height", "source_width"), 0)
    for index, (frames, label) in enumerate(zip(clips, labels, strict=True)):
        texts = {"id": f"clip-{index}", "source": "", "caption": label, "label": label, "decoder": "", "transform": ""}
        rates = {"native_fps": 9.0, "fps": 3.0, "stride": 3, "requested_stride": 3}
        writer.add({**texts, **numbers, **rates, "frames": encode_frames(frames)})
    writer.close()


@pytest.fixture(scope="module")
def clips(tmp_path_factory, make_blobs):
    """A folder of clip sets: train, test, and the samples of a run, which lack their manifest."""
    root = tmp_path_factory.mktemp("clips")
    write_clips(root / "train", make_blobs(96, seed=1))
    write_clips(root / "test", make_blobs(200, seed=30))
    write_clips(root / "RUN", make_blobs(90, seed=31))
    return root


def run(name, inputs, output, of=None, **changed):
    importlib.import_module(f"pipeline.stages.{name}").run(
        SimpleNamespace(
            args=SimpleNamespace(of=of),
            params=SimpleNamespace(**{**PARAMS, **changed}),
            device="cpu",
            inputs=inputs,
            outputs=[output],
            record=Record(),
            log=logging.getLogger("test"),
        )
    )


def manifest(folder, ids):
    folder.mkdir(exist_ok=True)
    lines = (json.dumps({"id": name, "seed": 7, "prompt": ""}) + "\n" for name in ids)
    (folder / "manifest.jsonl").write_text("".join(lines))


def test_from_clips_to_metrics(clips, tmp_path):
    detectors, real, samples = tmp_path / "detectors", tmp_path / "real", tmp_path / "samples"
    run("detectors", [clips / "train"], detectors)
    run("features", [clips / "test", detectors], real, of="real")
    run("metrics", [real], tmp_path / "metrics" / "controls.json", of="controls")
    controls = read_metrics(tmp_path / "metrics" / "controls.json")
    assert controls["repeated"].values["fvd"].value > 10 * controls["real"].values["fvd"].value
    assert controls["repeated"].values["motion_px"].value < 0.01 < controls["real"].values["motion_px"].value
    assert (controls["real"].count, controls["real"].reference_count) == (90, 100)

    parts = {name: read_features(real, name) for name in ("reference", "conditions", "repeated")}
    assert set(parts["reference"].ids).isdisjoint(parts["conditions"].ids)
    assert parts["repeated"].ids == parts["conditions"].ids

    manifest(clips / "RUN", [f"clip-{index}" for index in range(90)])
    run("features", [clips / "RUN", detectors], samples, of="a-run")
    run("metrics", [samples, real], tmp_path / "metrics" / "a-run.json", of="a-run")
    found = read_metrics(tmp_path / "metrics" / "a-run.json")[""]
    assert found.details[0] == {"set": "samples", "fps": [3.0], "strides": [3]}
    assert found.count == 90 and read_features(samples, "samples").seeds == [7] * 90
    assert found.values["fvd"].value < 0.5 * controls["repeated"].values["fvd"].value  # RUN holds moving blobs too


def test_a_test_set_that_is_too_small_names_the_key(clips, tmp_path):
    run(
        "detectors",
        [clips / "train"],
        tmp_path / "detectors",
        detectors=PARAMS["detectors"].model_copy(update={"steps": 2}),
    )
    more = PARAMS["evaluation"].model_copy(update={"reference": 1000})
    with pytest.raises(PipelineError, match=r"evaluation\.reference"):
        run("features", [clips / "test", tmp_path / "detectors"], tmp_path / "real", of="real", evaluation=more)


def test_samples_that_the_manifest_does_not_name_are_an_error(clips, tmp_path):
    run(
        "detectors",
        [clips / "train"],
        tmp_path / "detectors",
        detectors=PARAMS["detectors"].model_copy(update={"steps": 2}),
    )
    manifest(clips / "RUN", ["clip-0"])
    with pytest.raises(PipelineError, match="does not name the clips"):
        run("features", [clips / "RUN", tmp_path / "detectors"], tmp_path / "samples", of="a-run")


def test_a_clip_named_twice_in_the_manifest_is_an_error(tmp_path):
    manifest(tmp_path / "RUN", ["clip-0", "clip-0"])
    with pytest.raises(PipelineError, match="names a clip twice"):
        sampling_seeds(tmp_path / "RUN", ["clip-0"])
