"""From a video file to clips: which frames, resized and cropped, encoded again."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.data.frames import DECODER, NotAVideo, Undecodable, Video
from pipeline.data.storage import File
from pipeline.errors import one_line
from pipeline.seeding import numpy_generator

TRANSFORM = "short side INTER_AREA or INTER_CUBIC, centre crop, 1"
NEAR_TRANSFORM = "short side INTER_LINEAR, centre crop, 1"
NEAR = 0.9  # from here to 1 INTER_LINEAR differs by less than JPEG does, and takes a fifth of INTER_AREA's time


class Reject(Exception):
    """This source gives no clip: ``reason`` is a short code, the message says more."""

    def __init__(self, reason: str, detail: str):
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True)
class ClipRule:
    """How clips are taken from a source; plain values, they travel to worker processes."""

    seed: int
    frames: int
    height: int
    width: int
    windows: int
    kind: str  # uniform_stride or fixed_fps
    stride_min: int
    stride_max: int
    fps: float
    check: str  # whole: every frame of the source must decode; window: those of the clip
    codec: str
    quality: int


def choose_windows(rule: ClipRule, id: str, total: int, native_fps: float) -> list[dict[str, int]]:
    """Start and stride of each window of ``total`` frames; distinct, and the first does not depend on how many.

    Raises Reject for a source with fewer frames than a clip.
    """
    if total < rule.frames:
        raise Reject("too_short", f"{total} frames, a clip has {rule.frames}")
    largest = (total - 1) // max(rule.frames - 1, 1)
    chosen: list[dict[str, int]] = []
    for window in range(rule.windows):
        generator = numpy_generator(rule.seed, "window", id, window)
        for _ in range(20):
            if rule.kind == "uniform_stride":
                requested = int(generator.integers(rule.stride_min, rule.stride_max + 1))
            else:
                requested = max(1, round(native_fps / rule.fps))
            stride = min(requested, largest)
            last = total - 1 - (rule.frames - 1) * stride
            place = {"start": int(generator.integers(0, last + 1)), "stride": stride}
            if not any(place["start"] == other["start"] and stride == other["stride"] for other in chosen):
                chosen.append({**place, "requested": requested, "window": window})
                break
    return chosen


def resize_and_crop(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 (F, H, W, 3) -> (F, height, width, 3): scaled to cover, then cut from the centre."""
    return np.stack([_fitted(frame, height, width) for frame in frames])


def _scale(frame: np.ndarray, height: int, width: int) -> float:
    """By which a frame covers a clip."""
    return max(height / frame.shape[0], width / frame.shape[1])


def _fitted(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    """One frame of ``resize_and_crop``; a view."""
    scale = _scale(frame, height, width)
    size = (max(width, round(frame.shape[1] * scale)), max(height, round(frame.shape[0] * scale)))
    if (size[1], size[0]) != frame.shape[:2]:
        down = cv2.INTER_AREA if scale < NEAR else cv2.INTER_LINEAR
        frame = cv2.resize(frame, size, interpolation=down if scale < 1 else cv2.INTER_CUBIC)
    top, left = (size[1] - height) // 2, (size[0] - width) // 2
    return frame[top : top + height, left : left + width]


@contextmanager
def opened(source: Path | File) -> Iterator[Path]:
    """A source as a local file with something in it. Raises Reject where it is missing, empty or cannot be fetched.

    Raises PipelineError where its whole folder is gone: before, and after whatever went wrong with the file.
    """
    try:
        with source.local() if isinstance(source, File) else nullcontext(source) as path:
            if not path.is_file():
                raise Reject("missing", "there is no such file")
            if path.stat().st_size == 0:
                raise Reject("empty", "the file has no bytes")
            path.open("rb").close()  # may it be read? the decoder would call it no video
            yield path
    except (Reject, OSError) as problem:
        if isinstance(source, File):
            source.folder.require()
        if isinstance(problem, Reject):
            raise
        raise Reject("unreadable", one_line(problem)) from None


def decode_video(source: Path | File, id: str, rule: ClipRule) -> list[dict[str, Any]]:
    """The clips of one video as rows of the schema, without listing fields. Raises as ``opened`` does."""
    with opened(source) as path:
        return _clips_of(path, id, rule)


def _clips_of(path: Path, id: str, rule: ClipRule) -> list[dict[str, Any]]:
    whole = rule.check == "whole"
    try:
        with Video(path) as video:
            native_fps = float(video.rate or 0)
            if not 0 < native_fps < 1000:
                raise Reject("not_a_video", f"its frame rate is {native_fps}")
            try:
                places = choose_windows(rule, id, video.total, native_fps)
            except Reject:
                if whole:  # a short file may be one that was cut off: that is the reason then
                    video.read((), whole)
                raise
            numbers = [[place["start"] + place["stride"] * k for k in range(rule.frames)] for place in places]
            frames = video.read((number for window in numbers for number in window), whole)
    except NotAVideo as error:
        raise Reject("not_a_video", one_line(error)) from None
    except Undecodable as error:
        raise Reject("undecodable", one_line(error)) from None
    sizes = {frame.shape for frame in frames.values()}
    if len(sizes) > 1:
        raise Reject("undecodable", f"its pictures have several sizes: {sorted(size[:2] for size in sizes)}")
    return [
        _row([frames[number] for number in window], rule, place, native_fps, DECODER)
        for window, place in zip(numbers, places, strict=True)
    ]


def read_picture(source: Path | File) -> np.ndarray:
    """uint8 RGB (H, W, 3). Raises as ``opened`` does."""
    with opened(source) as path:
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise Reject("not_a_picture", "OpenCV cannot read it")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def decode_picture(source: Path | File, id: str, rule: ClipRule) -> list[dict[str, Any]]:
    """A picture as a clip of one frame. Raises Reject."""
    frames = [read_picture(source)]
    place = {"start": 0, "stride": 1, "requested": 1, "window": 0}
    return [{**_row(frames, rule, place, 0.0, f"opencv {cv2.__version__}"), "fps": rule.fps}]


def _row(frames: list[np.ndarray], rule: ClipRule, place: dict, native_fps: float, decoder: str) -> dict[str, Any]:
    from pipeline.data.schema import encode_frames

    # one by one: a clip at full size is copied nowhere
    fitted = (_fitted(frame, rule.height, rule.width) for frame in frames)
    near = NEAR <= _scale(frames[0], rule.height, rule.width) < 1
    return {
        "native_fps": native_fps,
        "fps": native_fps / place["stride"],
        "stride": place["stride"],
        "requested_stride": place["requested"],
        "start_frame": place["start"],
        "window": place["window"],
        "source_height": frames[0].shape[0],
        "source_width": frames[0].shape[1],
        "frames": encode_frames(fitted, rule.codec, rule.quality),
        "decoder": decoder,
        "transform": NEAR_TRANSFORM if near else TRANSFORM,
    }
