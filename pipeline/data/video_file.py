"""Videos for people: H.264 in 4:2:0, which browsers play."""

from pathlib import Path

import cv2
import numpy as np


def enlarge(frames: np.ndarray, height: int) -> np.ndarray:
    """uint8 (F, H, W, 3), to at least ``height`` pixels by whole factors, with even sides."""
    factor = max(1, -(-height // frames.shape[1]))
    size = (frames.shape[2] * factor // 2 * 2, frames.shape[1] * factor // 2 * 2)
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_NEAREST) for frame in frames])


# x264's macroblock tree is not repeatable on small pictures, and lets later frames change how the first is encoded.
REPEATABLE = {"threads": "1", "x264-params": "no-mbtree=1:cpu-independent=1"}


def write_video(path: Path, frames: np.ndarray, fps: int, options: dict[str, str] | None = None) -> None:
    """uint8 RGB (F, H, W, 3) with even sides; one thread, so that the bytes are always the same."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "16", **REPEATABLE, **(options or {})})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
