"""Videos made on the spot with PyAV, rules and listings; the project's shared data where it is there."""

import csv
import os
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from pipeline.data.decode import ClipRule
from pipeline.data.listings import read_listing
from pipeline.data.preprocess import make_parts, merge_parts
from pipeline.data.schema import ClipSet, read_rejects
from pipeline.engine.parts import Parts

ROOT = Path(__file__).resolve().parents[2]
WEBVID = SimpleNamespace(id="videoid", caption="name", folder="page_dir")


def moving_picture(count: int, height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """uint8 (count, height, width, 3): a window that slides over noise, so that no two frames are alike."""
    noise = np.random.default_rng(seed).integers(0, 256, (height + count, width + count, 3), dtype=np.uint8)
    return np.stack([noise[k : k + height, k : k + width] for k in range(count)])


def encode(
    path: Path, frames: int = 60, codec: str = "libx264", fps: int = 30, pixels: str = "yuv420p",
    options: dict | None = None, container: dict | None = None, seed: int = 0, size: tuple[int, int] = (48, 64),
) -> Path:  # fmt: skip
    """A real encoded file; the suffix names the container."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=container or {}) as file:
        stream = file.add_stream(codec, rate=fps, options=options or {})
        stream.height, stream.width, stream.pix_fmt = *size, pixels
        stream.codec_context.thread_count = 1
        for frame in moving_picture(frames, *size, seed=seed):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        file.mux(stream.encode())
    return path


def decode_all(path: Path) -> np.ndarray:
    """Every frame by decord, one after another: the reference that shares no code with the pipeline's decoder."""
    import decord  # not before OpenCV: it brings a zlib of its own, with which OpenCV cannot write PNG

    reader = decord.VideoReader(str(path), num_threads=1)
    return np.stack([reader.next().asnumpy() for _ in range(len(reader))])


def clip_rule(**changes) -> ClipRule:
    """The rule of most tests: 16 frames of 32 x 32, stride 1 to 3."""
    values = {
        "seed": 0, "frames": 16, "height": 32, "width": 32, "windows": 1, "kind": "uniform_stride", "stride_min": 1,
        "stride_max": 3, "fps": 3.0, "check": "whole", "codec": "png", "quality": 95,
    }  # fmt: skip
    return ClipRule(**{**values, **changes})


def write_csv(path: Path, header: list[str], rows: list[list[str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def take(
    layout: str,
    listing: Path,
    videos: Path,
    out: Path,
    columns=WEBVID,
    workers: int = 1,
    rows_per_part: int = 64,
    **rule,
):
    """Preprocess a listing; returns (rows, clips, rejects by row number)."""
    rows = read_listing(layout, listing, videos, columns, "clip_sets.own")
    parts = Parts(out.with_name(f".state-{out.name}"))
    made = make_parts(rows, videos, clip_rule(**rule), layout == "imagebench", parts, rows_per_part, workers)
    total, count, _ = merge_parts(parts.finished(made), out)
    clips = ClipSet(out) if count else None
    return total, clips, {item["row"]: item for item in read_rejects(out)}


@pytest.fixture(scope="session")
def make():
    """The helpers above, by name."""
    return SimpleNamespace(
        moving_picture=moving_picture, encode=encode, decode_all=decode_all, clip_rule=clip_rule, write_csv=write_csv,
        take=take, webvid=WEBVID,
    )  # fmt: skip


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The project's shared sample data; tests that need it are skipped on a machine without."""
    folder = Path(os.environ.get("PIPELINE_SHARED_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("no shared sample data; PIPELINE_SHARED_DATA names its folder")
    return folder


@pytest.fixture(scope="session")
def small_world():
    """Settings of a world that takes a second to make."""
    return SimpleNamespace(
        seed=0, size=32, frames=48, fps=9, webvid_clips=5, ucf101_train=4, ucf101_test=3, pictures=3
    )  # fmt: skip


@pytest.fixture
def impatient(monkeypatch):
    """What a server fails to answer is asked for again at once."""
    from pipeline.data import remote

    monkeypatch.setattr(remote, "PAUSES", (0.0, 0.0))
