"""Reading latents at scale: many parts, few open files, many threads, files that are not whole."""

import json
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pipeline.data import latents as module
from pipeline.data.latents import LatentSet
from pipeline.errors import PipelineError

FRAMES = 3


def write_parts(folder: Path, sizes: list[int]) -> Path:
    """Clip k has the value k everywhere; its pictures' values tell frame by frame: k + frame / 10."""
    folder.mkdir(parents=True)
    first = 0
    for number, size in enumerate(sizes):
        values = torch.arange(first, first + size, dtype=torch.float32)
        tokens = values[:, None] + torch.arange(FRAMES) / 10
        part = {
            "mean": values[:, None, None].repeat(1, 2, 2),
            "logvar": values[:, None, None].repeat(1, 2, 2).double(),
            "image_tokens": tokens[:, :, None, None].repeat(1, 1, 2, 2).half(),
            "text": values[:, None].repeat(1, 3).bfloat16(),
            "fps": values,
        }
        save_file(part, folder / f"part-{number:05d}.safetensors")
        first += size
    header = {"vae_hash": "vae", "encoders_hash": "all", "scaling_factor": 0.5}
    (folder / "index.json").write_text(
        json.dumps({**header, "shards": sizes, "ids": [f"clip{k}" for k in range(first)]})
    )
    return folder


def test_rows_lie_in_parts_of_any_size(tmp_path):
    latents = LatentSet(write_parts(tmp_path / "set", [3, 1, 5, 2]))
    rows = latents.batch(list(range(11)), ("mean", "logvar", "text", "fps"))
    for name, value in rows.items():
        assert value.dtype == torch.float32
        assert value.reshape(11, -1)[:, -1].tolist() == list(range(11)), name
    assert latents.shape("image_tokens") == (FRAMES, 2, 2) and latents.shape("fps") == ()
    for index in (-1, 11):
        with pytest.raises(IndexError):
            latents.row(index)


def test_single_pictures_are_those_of_the_whole_row(tmp_path):
    latents = LatentSet(write_parts(tmp_path / "set", [3, 1, 5]))
    clips, frames = [8, 0, 3, 5], [2, 0, 1, 1]
    whole = latents.batch(clips, ("image_tokens",))["image_tokens"]
    found = latents.pictures(clips, "image_tokens", frames)
    assert torch.equal(found, whole[torch.arange(4), frames])
    assert len({value.item() for value in found.flatten()}) == 4
    with pytest.raises(IndexError, match="image_tokens: frame 3 of 3"):
        latents.pictures([0], "image_tokens", [3])


def test_many_threads_read_what_one_reads_though_few_files_stay_open(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "OPEN_PARTS", 2)
    latents = LatentSet(write_parts(tmp_path / "set", [2] * 40))
    order = torch.randperm(80, generator=torch.Generator().manual_seed(0)).tolist() * 5
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda place: latents.row(place, ("fps", "mean")), order))
    assert [row["fps"].item() for row in found] == order
    assert all((row["mean"] == place).all() for row, place in zip(found, order, strict=True))
    assert len(latents._open) <= 2


COUNTED = """
import os, resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from pipeline.data.latents import LatentSet
def held():
    return len(os.listdir("/proc/self/fd")), len(Path("/proc/self/maps").read_text().splitlines())
latents = LatentSet(Path(sys.argv[2]))
latents.row(0, ("fps",))
soft = len(os.listdir("/proc/self/fd")) + 80
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, soft))
before = held()
kept = [latents.row(place, ("fps", "mean")) for place in range(len(latents))]
after = held()
assert [row["fps"].item() for row in kept] == list(range(len(latents)))
print(after[0] - before[0], after[1] - before[1])
"""


def test_neither_open_files_nor_memory_maps_grow_with_the_parts(tmp_path):
    """40,000 parts are more than a process may open, and more than the 65,530 maps that Linux allows it."""
    folder, root = write_parts(tmp_path / "set", [1] * 400), Path(__file__).resolve().parents[2]
    run = subprocess.run(
        [sys.executable, "-c", COUNTED, str(root), str(folder)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    files, maps = map(int, run.stdout.split())
    assert files <= module.OPEN_PARTS and maps < 60


def test_many_ids_are_read_in_a_second_or_two_and_a_fair_share_of_memory(tmp_path):
    """An index of 200,000 clips in 8,000 parts; the memory is that of the strings."""
    count = 200_000
    ids = [f"{number:010d}#0" for number in range(count)]
    header = {"vae_hash": "vae", "encoders_hash": "all", "scaling_factor": 0.5}
    (tmp_path / "index.json").write_text(json.dumps({**header, "shards": [25] * (count // 25), "ids": ids}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    latents = LatentSet(tmp_path)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert len(latents) == count and latents.ids == ids
    assert grown < 100, f"{grown:.0f} MB"


@pytest.mark.parametrize("what", ["shorter", "longer", "empty", "no safetensors", "of another size"])
def test_a_part_that_is_not_whole_is_an_error_for_people(tmp_path, what):
    latents = LatentSet(write_parts(tmp_path / "set", [2, 3]))
    path = tmp_path / "set/part-00001.safetensors"
    whole = path.read_bytes()
    damaged = {"shorter": whole[:-3], "longer": whole + b"x", "empty": b"", "no safetensors": b"PK\3\4" * 50,
               "of another size": (tmp_path / "set/part-00000.safetensors").read_bytes()}  # fmt: skip
    path.write_bytes(damaged[what])
    with pytest.raises(PipelineError, match=r"part-00001\.safetensors is missing or damaged .*run the stage latents"):
        latents.row(3, ("mean",))
    assert latents.row(1, ("fps",))["fps"] == 1


def test_a_part_cut_short_while_it_is_open_is_an_error_and_no_crash(tmp_path):
    """A mapped file would end the process with SIGBUS."""
    latents = LatentSet(write_parts(tmp_path / "set", [4]))
    assert latents.row(0, ("fps",))["fps"] == 0
    with (tmp_path / "set/part-00000.safetensors").open("r+b") as file:
        file.truncate(100)
    with pytest.raises(PipelineError, match="run the stage latents again"):
        latents.row(3, ("mean",))
