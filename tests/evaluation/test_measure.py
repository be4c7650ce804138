"""Numbers from features: every metric moves with the clips, small sets give none, spreads are what they claim."""

import json
from dataclasses import replace

import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.evaluation.extract import MotionProtocol, extract_features, repeat_first_frame
from pipeline.evaluation.feature_store import MEASURES, FeatureSet, read_features, write_features
from pipeline.evaluation.flow.dis import DisFlow
from pipeline.evaluation.frechet import frechet_distance
from pipeline.evaluation.measure import MeasureSettings, measure
from pipeline.evaluation.metric_file import METRICS, Value, read_metrics, write_metrics

SETTINGS = MeasureSettings(seed=0, minimum=8, allow_few=False, subsets=4, is_splits=2)
PROVENANCE = [{"role": "fvd", "name": "demo-conv3d", "hash": "a", "protocol": "p"}]


def invented(count, seed=0, shift=0.0, replicates=1, provenance=PROVENANCE):
    rng = np.random.default_rng(seed)
    rows = count * replicates
    return FeatureSet(
        ids=[f"clip-{row}" for row in range(rows)],
        seeds=[row // count for row in range(rows)],
        arrays={
            "fvd": rng.standard_normal((rows, 5)) + shift,
            "is": 2 * rng.standard_normal((rows, 4)),
            "pca": rng.standard_normal((rows, 3)) + shift,
            "motion_score": rng.uniform(5, 6, rows),
            **{name: rng.uniform(0.2, 0.3, rows) for name in MEASURES[1:]},
        },
        provenance=provenance,
        details={"fps": [3.0]},
    )


@pytest.fixture(scope="module")
def looked_at(detectors, make_blobs):
    """Features of sets that differ: real, still, faster, noisy, one kind only, and a real reference."""
    clips, labels, _ = make_blobs(96, seed=20)
    real, reference = clips[:48], clips[48:]
    noise = np.random.default_rng(0).normal(0, 40, real.shape)
    one_kind = real[[index for index in range(48) if labels[index] == "red"]]
    sets = {
        "reference": reference,
        "real": real,
        "still": repeat_first_frame(real),
        "faster": make_blobs(48, seed=21, speed=2.0)[0],
        "noisy": np.clip(real + noise, 0, 255).astype(np.uint8),
        "one kind": one_kind,
    }
    return {
        name: extract_features(
            lambda indices, frames=frames: frames[indices],
            [f"{index}" for index in range(len(frames))],
            [0] * len(frames),
            detectors,
            MotionProtocol(64, 64, DisFlow()),
            details={"fps": [3.0]},
        )
        for name, frames in sets.items()
    }


def test_no_metric_is_constant(looked_at):
    reference = looked_at["reference"]
    found = {
        name: measure(features, reference, SETTINGS).values
        for name, features in looked_at.items()
        if name != "reference"
    }
    for metric in set(METRICS) - {"first_frame", "motion_error"}:  # real clips begin with their own
        values = [found[name][metric].value for name in found]
        assert len({round(value, 6) for value in values}) == len(values), f"{metric} gives the same number: {values}"
        spreads = [found[name][metric].spread for name in found]
        assert len(set(spreads)) > 1, f"{metric} gives the same spread: {spreads}"


def test_metrics_move_the_way_that_they_should(looked_at):
    reference = looked_at["reference"]
    found = {
        name: measure(features, reference, SETTINGS).values
        for name, features in looked_at.items()
        if name != "reference"
    }
    assert found["real"]["fvd"].value < min(found[name]["fvd"].value for name in ("still", "faster", "noisy"))
    assert found["real"]["fd_pca"].value < min(found[name]["fd_pca"].value for name in ("still", "faster"))
    assert (
        found["still"]["motion_px"].value < 0.01 < found["real"]["motion_px"].value < found["faster"]["motion_px"].value
    )
    assert found["one kind"]["is"].value < found["real"]["is"].value
    assert all(1 <= values["is"].value <= 3 for values in found.values())


def test_the_distance_is_the_whole_sets_and_the_spread_the_subsets():
    samples, reference = invented(40, seed=1, shift=1.0), invented(60, seed=2)
    found = measure(samples, reference, SETTINGS)
    assert found.values["fvd"].value == pytest.approx(frechet_distance(samples.arrays["fvd"], reference.arrays["fvd"]))
    assert (found.spread_over, found.spread_count, found.count, found.seeds) == ("subsets", 10, 40, 1)
    assert found.values["motion_px"].value == pytest.approx(samples.arrays["motion_px"].mean())
    assert 0 < found.values["motion_px"].spread < 0.05


def test_the_inception_score_of_small_subsets_still_spreads():
    found = measure(invented(16, seed=1), invented(16, seed=2), MeasureSettings(0, 8, False, subsets=4, is_splits=4))
    assert found.values["is"].spread > 0.01


def test_with_several_seeds_the_spread_is_over_the_seeds():
    samples, reference = invented(20, seed=1, replicates=3), invented(60, seed=2)
    found = measure(samples, reference, SETTINGS)
    means = samples.arrays["motion_score"].reshape(3, 20).mean(axis=1)
    assert (found.spread_over, found.spread_count, found.count, found.seeds) == ("seeds", 20, 20, 3)
    assert found.values["motion_score"].value == pytest.approx(means.mean())
    assert found.values["motion_score"].spread == pytest.approx(means.std(ddof=1))


def test_the_order_of_the_clips_does_not_matter():
    samples, reference = invented(40, seed=1), invented(60, seed=2)
    turned = samples.rows(np.arange(40)[::-1])
    first, second = measure(samples, reference, SETTINGS), measure(turned, reference, SETTINGS)
    for metric in first.values:
        assert first.values[metric].value == pytest.approx(second.values[metric].value, rel=1e-9)
        assert first.values[metric].spread == pytest.approx(second.values[metric].spread, rel=1e-6)


@pytest.mark.parametrize("samples, reference", [(7, 60), (60, 7)])
def test_too_few_clips_give_no_number_unless_allowed(samples, reference):
    samples, reference = invented(samples, seed=1), invented(reference, seed=2)
    refused = measure(samples, reference, SETTINGS)
    assert refused.values == {} and refused.count == len(samples)
    allowed = measure(samples, reference, MeasureSettings(0, 8, True, 4, 2))
    assert set(allowed.values) == set(METRICS) - {"motion_error"}


def test_very_few_clips_have_a_number_without_spread_and_one_clip_none():
    allow = MeasureSettings(0, 8, True, 4, 2)
    assert measure(invented(3), invented(60), allow).values["fvd"].spread is None
    assert measure(invented(1), invented(60), allow).values == {}


def test_the_motion_score_error_is_the_mean_distance_from_what_was_asked():
    samples, reference = invented(40, seed=1), invented(60, seed=2)
    samples.arrays["motion_score"][:] = [3.0] * 20 + [7.0] * 20
    assert "motion_error" not in measure(samples, reference, SETTINGS).values, "nothing was asked"
    for asked, error in ((5.0, 2.0), (3.0, 2.0), (0.5, 4.5), (10.0, 5.0)):
        told = replace(samples, details={"motion_bucket": asked})
        assert measure(told, reference, SETTINGS).values["motion_error"].value == pytest.approx(error)


def test_features_of_different_detectors_are_refused():
    other = [{**PROVENANCE[0], "hash": "b"}]
    with pytest.raises(PipelineError, match="different detectors"):
        measure(invented(10), invented(20, provenance=other), SETTINGS)


def test_features_survive_the_disk_and_damage_is_noticed(tmp_path, looked_at):
    features = looked_at["real"]
    write_features(tmp_path, "samples", features)
    loaded = read_features(tmp_path, "samples")
    assert (loaded.ids, loaded.seeds, loaded.provenance) == (features.ids, features.seeds, features.provenance)
    assert all(np.array_equal(loaded.arrays[name], features.arrays[name]) for name in features.arrays)
    path = tmp_path / "samples.safetensors"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(PipelineError, match="no whole feature set"):
        read_features(tmp_path, "samples")


def test_features_of_unequal_length_are_refused():
    features = invented(5)
    with pytest.raises(PipelineError, match="differ in length"):
        FeatureSet(features.ids[:4], features.seeds, features.arrays, PROVENANCE)


def test_features_do_not_depend_on_the_batch_size(detectors, make_blobs):
    clips, _, _ = make_blobs(7, seed=22)
    ids = [str(index) for index in range(7)]
    one, many = (
        extract_features(
            lambda i: clips[i], ids, [0] * 7, detectors, MotionProtocol(64, 64, DisFlow()), {}, batch_size=size
        )
        for size in (1, 5)
    )
    for name, array in one.arrays.items():
        assert np.allclose(array, many.arrays[name], atol=1e-4)


def test_metric_files_hold_flat_numbers_for_dvc_and_come_back_whole(tmp_path):
    found = measure(invented(40, seed=1), invented(60, seed=2), SETTINGS)
    write_metrics(tmp_path / "run.json", {"": found})
    document = json.loads((tmp_path / "run.json").read_text())
    assert all(isinstance(value, int | float | list) for value in document.values())
    back = read_metrics(tmp_path / "run.json")[""]
    assert {name: value.value for name, value in back.values.items()} == pytest.approx(
        {name: value.value for name, value in found.values.items()}, rel=1e-9
    )
    assert replace(back, values={}) == replace(found, values={})
    write_metrics(tmp_path / "controls.json", {"real": back, "repeated": back})
    assert read_metrics(tmp_path / "controls.json") == {"real": back, "repeated": back}


def test_last_digits_of_linear_algebra_do_not_change_a_metric_file(tmp_path):
    found = measure(invented(40, seed=1), invented(60, seed=2), SETTINGS)
    nudged = {name: Value(v.value * (1 + 3e-14), v.spread * (1 - 3e-14)) for name, v in found.values.items()}
    write_metrics(tmp_path / "run.json", {"": found})
    write_metrics(tmp_path / "again.json", {"": replace(found, values=nudged)})
    assert (tmp_path / "run.json").read_bytes() == (tmp_path / "again.json").read_bytes()


def test_a_damaged_metric_file_names_itself(tmp_path):
    (tmp_path / "run.json").write_text('{"count": 3}')
    with pytest.raises(PipelineError, match=r"run\.json is no metric file"):
        read_metrics(tmp_path / "run.json")
