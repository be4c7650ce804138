"""A samples folder: lossless clips for metrics, H.264 videos for people, a manifest of every conditioning input.

It is made of parts, one a batch, each a small samples folder of its own.
"""

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np

from pipeline.data.schema import ClipWriter, decode_frames, encode_frames, part_file
from pipeline.engine.parts import link

CLIPS_FILE, MANIFEST = "clips.parquet", "manifest.jsonl"  # pipeline/evaluation/samples.py reads the manifest
SHOWN = ("videos", "conditions")


def write_part(folder: Path, clips, items, videos: np.ndarray, told: list[dict], study) -> None:
    """Write sampled clips, uint8 (B, F, H, W, 3), into the empty ``folder``.

    ``clips``: the conditions'; ``told``: for the manifest; ``study``: the group of params.yaml where people will
    watch, else None.
    """
    if study:
        for name in SHOWN:
            (folder / name).mkdir()
    lines = []
    with ClipWriter(folder / CLIPS_FILE) as writer:
        for item, video, extra in zip(items, videos, told, strict=True):
            place = item.position
            writer.add({
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
            if study:
                entry |= _show(folder, item, video, clips, study)
            lines.append(json.dumps(entry) + "\n")
    (folder / MANIFEST).write_text("".join(lines))


def _show(folder: Path, item, video: np.ndarray, clips, study) -> dict[str, str]:
    """Write what people watch of one sample; returns the files' names for the manifest."""
    from pipeline.data.video_file import enlarge, write_video

    name = hashlib.sha256(item.id.encode()).hexdigest()[:16]  # an id may hold what a file name may not
    write_video(folder / "videos" / f"{name}.mp4", enlarge(video, study.height), study.fps)
    picture = enlarge(decode_frames(clips.encoded(item.position)[:1]), study.height)[0]
    cv2.imwrite(str(folder / "conditions" / f"{name}.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return {"video": f"videos/{name}.mp4", "condition": f"conditions/{name}.png"}


def merge_parts(parts: list[Path], folder: Path) -> tuple[int, list[Path]]:
    """Put finished parts into one samples folder; returns the number of clips and the videos, in order."""
    folder.mkdir(parents=True)
    lines = []
    for number, part in enumerate(parts):
        link(part / CLIPS_FILE, folder / part_file(number))
        lines += (part / MANIFEST).read_text().splitlines(keepends=True)
        for name in SHOWN:
            if (part / name).is_dir():
                (folder / name).mkdir(exist_ok=True)
                for path in sorted((part / name).iterdir()):
                    link(path, folder / name / path.name)
    (folder / MANIFEST).write_text("".join(lines))
    shown = [json.loads(line).get("video") for line in lines]
    return len(lines), [folder / name for name in shown if name]
