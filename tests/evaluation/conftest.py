"""A small world of moving blobs: its class is the blob's colour, its motion is known."""

import importlib
import logging
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.data.schema import encode_frames
from pipeline.params.evaluation import DisFlow, Evaluation, Motion, TrainedDetectors
from tests.helpers.parted import run_parted, write_clips

PARAMS = {
    "detectors": TrainedDetectors(
        kind="trained", seed=0, steps=60, batch_size=12, learning_rate=3e-3, width=8, features=24
    ),
    "motion": Motion(height=64, width=64, flow=DisFlow(kind="dis")),
    "evaluation": Evaluation(
        seed=0, conditions=90, reference=100, minimum=90, allow_few=False, subsets=4, is_splits=2, seeds=[0]
    ),
}


def blobs(count: int, seed: int, speed: float = 1.0, size: int = 32, frames: int = 16):
    """uint8 (count, frames, size, size, 3), labels, velocity (count, 2) in pixels a frame."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size].astype(np.float32)
    clips = np.zeros((count, frames, size, size, 3), dtype=np.uint8)
    labels, velocity = [], np.zeros((count, 2))
    for index in range(count):
        kind = index % 3
        labels.append(("red", "green", "blue")[kind])
        colour = np.full(3, 60.0)
        colour[kind] = 220.0
        angle, centre = rng.uniform(0, 2 * np.pi), size / 2 + rng.uniform(-3, 3, 2)
        velocity[index] = speed * rng.uniform(0.6, 1.0) * np.array([np.cos(angle), np.sin(angle)])
        wave = 120 + 25 * np.sin(rng.normal(0, 0.4) * columns + rng.normal(0, 0.4) * rows)[..., None]
        for frame in range(frames):
            x, y = centre + velocity[index] * frame
            mask = 1 / (1 + np.exp(2 * (np.hypot(columns - x, rows - y) - 6)))[..., None]
            texture = colour + 30 * np.sin(0.9 * (columns - x) + 0.5 * (rows - y))[..., None]
            clips[index, frame] = np.clip(wave * (1 - mask) + texture * mask, 0, 255)
    return clips, labels, velocity


@pytest.fixture(scope="session")
def make_blobs():
    return blobs


@pytest.fixture(scope="session")
def detectors():
    """Detectors by role, trained on blobs for some seconds."""
    from pipeline.evaluation.detectors.pca import DemoPca
    from pipeline.evaluation.detectors.training import TrainingSettings, coarse_clips, motion_targets, train_conv3d

    clips, labels, _ = blobs(96, seed=1)

    def read(indices):
        return clips[indices]

    settings = TrainingSettings(seed=0, steps=60, batch_size=12, learning_rate=3e-3, width=8, features=24)
    net = train_conv3d(read, labels, motion_targets(read, len(clips)), settings)
    return {"fvd": net, "is": net, "pca": DemoPca.fit(coarse_clips(read, len(clips)), 16)}


@pytest.fixture(scope="session")
def write_blob_clips():
    """Writes a clip set of moving blobs."""

    def write(folder, count: int, seed: int) -> None:
        clips, labels, _ = blobs(count, seed)
        rows = []
        numbers = dict.fromkeys(("start_frame", "window", "source_height", "source_width"), 0)
        for index, (frames, label) in enumerate(zip(clips, labels, strict=True)):
            texts = {"source": "", "caption": label, "label": label, "decoder": "", "transform": ""}
            rates = {"native_fps": 9.0, "fps": 3.0, "stride": 3, "requested_stride": 3}
            rows.append({"id": f"clip-{index}", **texts, **numbers, **rates, "frames": encode_frames(frames)})
        write_clips(folder, rows, 64)

    return write


class Record:
    """Takes what a stage records, and checks that metrics are numbers."""

    def __init__(self):
        self.taken = {}

    def metrics(self, values, step=None):
        assert all(isinstance(value, float) for value in values.values())

    def params(self, values):
        self.taken |= values


@pytest.fixture(scope="session")
def stage_params() -> dict:
    return PARAMS


@pytest.fixture(scope="session")
def run_stage():
    """Runs a stage of the evaluation; ``few`` = (conditions, reference) for small sets. Returns recorded params."""

    def run(name, inputs, output, of=None, few=None, shards=1, order=None, **changed) -> dict:
        record = Record()
        if few:
            sizes = {"conditions": few[0], "reference": few[1], "minimum": 2, "subsets": 2}
            changed["evaluation"] = PARAMS["evaluation"].model_copy(update=sizes)
        module = importlib.import_module(f"pipeline.stages.{name}")
        stage = SimpleNamespace(
            args=SimpleNamespace(of=of),
            params=SimpleNamespace(**{**PARAMS, **changed}),
            device="cpu",
            inputs=inputs,
            outputs=[output],
            record=record,
            log=logging.getLogger("test"),
        )
        if hasattr(module, "make_parts"):
            run_parted(module, stage, shards, order)
        else:
            module.run(stage)
        return record.taken

    return run
