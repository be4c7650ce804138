"""A samples folder: clips without loss, videos that play, a manifest, and memory that does not grow with the clips."""

import json
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pipeline.data.schema import ClipSet
from pipeline.errors import PipelineError
from pipeline.evaluation.conditions import Item
from pipeline.evaluation.samples import read_manifest, sampling_seeds
from pipeline.sampling.moments_file import read_moments
from pipeline.sampling.writer import merge_parts, write_part

STUDY = SimpleNamespace(height=64, fps=8)


def items_of(clips, places) -> list[Item]:
    return [Item(f"{clips.ids[place]}@{place}", clips.ids[place], place, 3) for place in places]


def videos_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 4, 32, 32, 3), dtype=np.uint8)


def write(folder, clips, places, study=None, videos=None, told=None):
    """Samples of these places, in parts of two; returns their frames and the files that people watch."""
    videos = videos_of(len(places)) if videos is None else videos
    parts = []
    for begin in range(0, len(places), 2):
        items = items_of(clips, places[begin : begin + 2])
        parts.append(folder.with_name(f"{folder.name}-part{begin}"))
        parts[-1].mkdir()
        write_part(parts[-1], clips, items, videos[begin : begin + 2], [told or {"fps": 3.0}] * len(items), study)
    count, shown = merge_parts(parts, folder)
    assert count == len(places)
    return videos, shown


def test_samples_come_back_to_the_bit(clips, tmp_path):
    videos, _ = write(tmp_path / "samples", clips, [5, 0, 3])
    back = ClipSet(tmp_path / "samples")
    assert np.array_equal(back.frames(range(3)), videos)
    assert back.ids == [f"clip/{place}@{place}" for place in (5, 0, 3)]
    assert back.captions == [clips.captions[place] for place in (5, 0, 3)]
    assert back.labels == ["ball"] * 3 and back.fps == [8.0, 3.0, 6.0]


def test_manifest_has_a_line_for_every_clip(clips, tmp_path):
    write(tmp_path / "samples", clips, [5, 0, 3])
    assert read_manifest(tmp_path / "samples") == [
        {"id": f"clip/{place}@{place}", "prompt": clips.captions[place], "seed": 3, "condition_id": f"clip/{place}",
         "fps": 3.0} for place in (5, 0, 3)
    ]  # fmt: skip
    assert sampling_seeds(tmp_path / "samples", ["clip/0@0", "clip/5@5"]) == [3, 3]
    assert not (tmp_path / "samples" / "videos").exists(), "nobody watches these"


def test_videos_for_people_are_h264_in_420_and_show_the_clip(clips, tmp_path):
    smooth = np.linspace(0, 255, 32, dtype=np.uint8)[None, None, :, None, None].repeat(4, 1).repeat(32, 3).repeat(3, 4)
    _, shown_files = write(tmp_path / "samples", clips, [2], STUDY, smooth)
    entry = read_manifest(tmp_path / "samples")[0]
    with av.open(str(tmp_path / "samples" / entry["video"])) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.average_rate, stream.codec_context.height, stream.codec_context.width) == (8, 64, 64)
        shown = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
    assert shown.shape == (4, 64, 64, 3)
    assert np.abs(shown[:, ::2, ::2].astype(int) - smooth[0].astype(int)).mean() < 6
    picture = cv2.imread(str(tmp_path / "samples" / entry["condition"]))[::2, ::2, ::-1]
    assert np.array_equal(picture, clips.frames([2])[0, 0]), "the picture that conditioned it"
    assert [path.name for path in shown_files] == [entry["video"].removeprefix("videos/")]


def test_ids_with_any_character_give_names_of_their_own(clips, tmp_path):
    write(tmp_path / "samples", clips, list(range(8)), STUDY)
    entries = read_manifest(tmp_path / "samples")
    for name in ("video", "condition"):
        assert len({entry[name] for entry in entries}) == 8
        assert all((tmp_path / "samples" / entry[name]).is_file() for entry in entries)


def test_a_clip_without_its_conditions_is_an_error(clips, tmp_path):
    with pytest.raises(ValueError, match="shorter"):
        write_part(tmp_path, clips, items_of(clips, [0, 1]), videos_of(2), [{}], None)


def test_parts_are_linked_and_not_copied(clips, tmp_path):
    """However many clips there are, joining their parts reads none of them."""
    write(tmp_path / "samples", clips, [0, 1, 2], STUDY)
    for name in ("part-00000.parquet", "part-00001.parquet"):
        assert (tmp_path / "samples" / name).stat().st_nlink == 2
    assert all(path.stat().st_nlink == 2 for path in (tmp_path / "samples/videos").iterdir())


def test_moments_are_read_and_those_of_another_vae_or_damaged_are_refused(tmp_path):
    path, mean = tmp_path / "moments.safetensors", torch.arange(8.0, dtype=torch.float64).reshape(2, 4)
    save_file(
        {"mean": mean, "variance": torch.tensor(0.25, dtype=torch.float64)},
        path,
        {"moments": json.dumps({"vae_hash": "a" * 64})},
    )
    found, variance = read_moments(path, "a" * 64)
    assert torch.equal(found, mean.float()) and variance == 0.25
    with pytest.raises(PipelineError, match=r"moments of the latents of VAE a{12}, but the backbone uses VAE b{12}"):
        read_moments(path, "b" * 64)
    save_file({"mean": mean}, path, {"moments": json.dumps({"vae_hash": "a" * 64})})
    with pytest.raises(PipelineError, match=r"holds no moments .*variance"):
        read_moments(path, "a" * 64)
    path.write_bytes(b"12")
    with pytest.raises(PipelineError, match=r"holds no moments .*; run the stage moments again"):
        read_moments(path, "a" * 64)
    with pytest.raises(PipelineError, match="holds no moments"):
        read_moments(tmp_path / "none", "a" * 64)


def test_manifest_is_plain_json_lines(clips, tmp_path):
    clips.captions[0] = 'two\nlines and "quotes" ü'
    write(tmp_path / "samples", clips, [0, 1])
    lines = (tmp_path / "samples" / "manifest.jsonl").read_text().splitlines()
    assert len(lines) == 2 and json.loads(lines[0])["prompt"] == clips.captions[0]
