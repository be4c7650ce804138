"""A samples folder: lossless clips for metrics, H.264 videos for people, a manifest of every conditioning input."""

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np

from pipeline.data.schema import ClipWriter, decode_frames, encode_frames

ROWS_PER_SHARD = 256


class SampleWriter:
    """``study``: the group of params.yaml where people will watch, else None."""

    def __init__(self, folder: Path, study):
        self._clips = ClipWriter(folder, ROWS_PER_SHARD)
        self._folder, self._study = folder, study
        self._manifest = (folder / "manifest.jsonl").open("w")
        self.videos: list[Path] = []
        if study:
            for name in ("videos", "conditions"):
                (folder / name).mkdir()

    def add(self, clips, items, videos: np.ndarray, told: list[dict]) -> None:
        """Write sampled clips, uint8 (B, F, H, W, 3); ``clips``: the conditions'; ``told``: for the manifest."""
        for item, video, extra in zip(items, videos, told, strict=True):
            place = item.position
            self._clips.add({
                "id": item.id, "source": clips.sources[place],
                "caption": clips.captions[place], "label": clips.labels[place],
                "native_fps": clips.fps[place], "fps": clips.fps[place], "stride": 1, "requested_stride": 1,
                "start_frame": 0, "window": 0, "source_height": video.shape[1], "source_width": video.shape[2],
                "frames": encode_frames(video), "decoder": "sampled", "transform": "",
            })  # fmt: skip
            entry = {
                "id": item.id,
                "prompt": clips.captions[place],
                "seed": item.seed,
                "condition_id": item.condition,
                **extra,
            }
            if self._study:
                entry |= self._show(item, video, clips)
            self._manifest.write(json.dumps(entry) + "\n")

    def _show(self, item, video: np.ndarray, clips) -> dict[str, str]:
        from pipeline.data.video_file import enlarge, write_video

        name = hashlib.sha256(item.id.encode()).hexdigest()[:16]  # an id may hold what a file name may not
        shown = enlarge(video, self._study.height)
        write_video(self._folder / "videos" / f"{name}.mp4", shown, self._study.fps)
        self.videos.append(self._folder / "videos" / f"{name}.mp4")
        picture = enlarge(decode_frames(clips.encoded(item.position)[:1]), self._study.height)[0]
        cv2.imwrite(str(self._folder / "conditions" / f"{name}.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        return {"video": f"videos/{name}.mp4", "condition": f"conditions/{name}.png"}

    def close(self) -> None:
        """Finish the files."""
        self._clips.close()
        self._manifest.close()
