"""The demo detectors: deterministic, named by their weights, sensitive to motion and to kind, safe to store."""

import json

import numpy as np
import pytest
import torch

from pipeline.errors import PipelineError
from pipeline.evaluation.detectors.pca import DemoPca
from pipeline.evaluation.detectors.registry import load_detectors, save_detectors
from pipeline.evaluation.detectors.training import TrainingSettings, corrupt, train_conv3d
from pipeline.evaluation.extract import repeat_first_frame
from pipeline.evaluation.frechet import frechet_distance
from pipeline.evaluation.video import to_video

QUICK = TrainingSettings(seed=0, steps=3, batch_size=4, learning_rate=1e-3, width=4, features=8)


def train_quickly(clips, labels, settings=QUICK):
    return train_conv3d(lambda indices: clips[indices], labels, np.zeros((len(clips), 3)), settings)


def test_a_still_picture_is_ten_times_farther_from_real_clips_than_real_clips_are(detectors, make_blobs):
    clips, _, _ = make_blobs(160, seed=2)
    features = detectors["fvd"].features(to_video(clips)).numpy()
    repeated = detectors["fvd"].features(to_video(repeat_first_frame(clips[:80]))).numpy()
    assert frechet_distance(repeated, features[80:]) > 10 * frechet_distance(features[:80], features[80:])


def test_kinds_are_told_apart_on_unseen_clips(detectors, make_blobs):
    clips, labels, _ = make_blobs(60, seed=3)
    found = detectors["is"].logits(to_video(clips)).argmax(dim=1).numpy()
    assert np.mean(found == np.array([sorted(set(labels)).index(label) for label in labels])) > 0.8


def test_motion_is_read_from_the_features(detectors, make_blobs):
    clips, _, velocity = make_blobs(60, seed=4)
    estimate = detectors["fvd"].motion(to_video(clips)).numpy()
    for axis in (0, 1):
        assert np.corrcoef(estimate[:, axis], velocity[:, axis])[0, 1] > 0.7


def test_the_same_seed_gives_the_same_hash_and_another_another(make_blobs):
    clips, labels, _ = make_blobs(8, seed=5)
    first, second = train_quickly(clips, labels), train_quickly(clips, labels)
    assert first.identity == second.identity and len(first.identity.hash) == 64
    other = train_quickly(clips, labels, TrainingSettings(1, 3, 4, 1e-3, 4, 8))
    assert other.identity.hash != first.identity.hash


def test_stored_detectors_come_back_the_same(detectors, make_blobs, tmp_path):
    clips, _, _ = make_blobs(4, seed=6)
    save_detectors(tmp_path, detectors)
    loaded = load_detectors(tmp_path)
    assert loaded["fvd"] is loaded["is"]
    for role, detector in detectors.items():
        assert loaded[role].identity == detector.identity
        assert torch.equal(loaded[role].features(to_video(clips)), detector.features(to_video(clips)))


def test_every_name_says_demo(detectors):
    assert all(detector.identity.name.startswith("demo-") for detector in detectors.values())


def test_clips_of_another_size_are_resized(detectors, make_blobs):
    clips, _, _ = make_blobs(2, seed=7, size=64, frames=12)
    assert detectors["fvd"].features(to_video(clips)).shape == (2, 24)
    assert detectors["pca"].features(to_video(clips)).shape == (2, 16)


def test_features_do_not_depend_on_the_batch(detectors, make_blobs):
    clips, _, _ = make_blobs(6, seed=8)
    together = detectors["fvd"].features(to_video(clips))
    alone = torch.cat([detectors["fvd"].features(to_video(clips[i : i + 1])) for i in range(6)])
    assert torch.allclose(together, alone, atol=1e-5)


def test_missing_or_unknown_detectors_say_what_to_do(tmp_path, detectors):
    with pytest.raises(PipelineError, match="run the stage detectors"):
        load_detectors(tmp_path)
    (tmp_path / "detectors.json").write_text(json.dumps({"fvd": "pickled", "is": "pickled", "pca": "pickled"}))
    with pytest.raises(PipelineError, match="'pickled' is unknown"):
        load_detectors(tmp_path)
    save_detectors(tmp_path, detectors)
    (tmp_path / "demo-conv3d" / "model.safetensors").unlink()
    with pytest.raises(PipelineError, match="demo-conv3d"):
        load_detectors(tmp_path)


def test_training_needs_clips_and_finite_losses(make_blobs):
    with pytest.raises(PipelineError, match="no clips"):
        train_conv3d(lambda indices: None, [], np.zeros((0, 3)), QUICK)
    clips, labels, _ = make_blobs(8, seed=9)
    with pytest.raises(PipelineError, match="not finite"):
        train_conv3d(lambda indices: clips[indices], labels, np.full((8, 3), np.nan), QUICK)


def test_some_clips_are_frozen_and_only_their_motion_is_zeroed():
    video, motion = torch.linspace(-1, 1, 16).view(1, 1, 16, 1, 1).expand(64, 3, 16, 8, 8), torch.ones(64, 3)
    changed, targets = corrupt(video, motion, np.random.default_rng(0))
    frozen = targets.sum(dim=1) == 0
    assert 2 <= frozen.sum() <= 20
    rise = changed[:, :, -4:].mean(dim=(1, 2, 3, 4)) - changed[:, :, :4].mean(dim=(1, 2, 3, 4))
    assert (rise[frozen].abs() < 0.4).all() and (rise[~frozen] > 0.6).all()
    assert changed.abs().max() <= 1


def test_principal_components_catch_the_directions_of_largest_variance():
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.standard_normal((50, 2)))[0].T
    samples = torch.from_numpy(rng.standard_normal((200, 2)) * [5, 3] @ directions + 7)
    pca = DemoPca.fit(samples, 2)
    assert np.abs(pca._components.double().numpy() @ directions.T) == pytest.approx(np.eye(2), abs=0.1)
    with pytest.raises(PipelineError, match="no classes"):
        pca.logits(torch.zeros(1, 3, 8, 16, 16))
