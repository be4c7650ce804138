"""Latents: a round trip, what is not finite, damaged folders, encoders that do not belong together, the stage."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pipeline.backbones.checkpoint import load_backbone
from pipeline.data.latents import FIELDS, MIRRORED, LatentSet, write_part
from pipeline.data.schema import ClipSet, encode_frames
from pipeline.encoders.frozen import Encoders, to_pixels
from pipeline.errors import PipelineError
from pipeline.sampling.moments_file import read_moments
from pipeline.stages import latents as stage_module
from tests.helpers.parted import files_of, run_parted, write_clips, write_latents

NULL = {"text": torch.zeros(3, 2), "image_tokens": torch.ones(5, 2), "image_embedding": torch.zeros(1, 2)}


def fields(numbers) -> dict[str, torch.Tensor]:
    """Every value of a clip's fields is its number."""
    shapes = {
        "mean": (4, 16, 2, 2), "logvar": (4, 16, 2, 2), "image_tokens": (16, 5, 2), "image_embedding": (16, 1, 2),
        "text": (3, 2), "fps": (),
    }  # fmt: skip
    half = ("image_tokens", "image_embedding", "text")
    made = {name: torch.stack([torch.full(shape, float(k)) for k in numbers]) for name, shape in shapes.items()}
    return {name: value.half() if name in half else value for name, value in made.items()}


def write(folder, count: int = 11, rows_per_part: int = 4):
    parts = [range(start, min(start + rows_per_part, count)) for start in range(0, count, rows_per_part)]
    return write_latents(folder, [([f"clip{k}" for k in part], fields(part)) for part in parts], NULL)


@pytest.mark.parametrize("rows_per_part", [1, 3, 8, 11])
def test_rows_come_back_in_any_order_whatever_the_parts(tmp_path, rows_per_part):
    latents = LatentSet(write(tmp_path / "set", rows_per_part=rows_per_part))
    assert latents.ids == [f"clip{k}" for k in range(11)] and len(latents) == 11
    assert (latents.vae_hash, latents.encoders_hash, latents.scaling_factor) == ("vae", "encoders", 0.5)
    order = [10, 0, 5, 3, 4]
    found = latents.batch(order)
    assert set(found) == set(FIELDS)
    for value in found.values():
        assert value.dtype == torch.float32
        flat = value.reshape(len(order), -1)
        assert flat.amin(1).tolist() == flat.amax(1).tolist() == order
    assert found["fps"].tolist() == order
    assert set(latents.batch(order, ("mean",))) == {"mean"}
    assert torch.equal(latents.null()["image_tokens"], NULL["image_tokens"])


@pytest.mark.parametrize("name", [name for name in FIELDS if name != "fps"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_an_error_that_names_clip_and_field(tmp_path, name, value):
    """Text and image tokens are stored in half precision, where large values become infinite."""
    batch = fields([0, 1, 2])
    batch[name][1].view(-1)[-1] = value
    with pytest.raises(PipelineError, match=rf"{name} of clip b .*not finite"):
        write_part(tmp_path / "part.safetensors", ["a", "b", "c"], batch)


def spoil(folder, what):
    if what == "no index":
        (folder / "index.json").unlink()
    elif what == "half an index":
        (folder / "index.json").write_text((folder / "index.json").read_text()[:40])
    elif what == "foreign index":
        (folder / "index.json").write_text(json.dumps({"shards": [6, 5]}))
    elif what == "lost ids":
        index = json.loads((folder / "index.json").read_text())
        (folder / "index.json").write_text(json.dumps({**index, "ids": index["ids"][:-1]}))
    elif what == "no shard":
        (folder / "part-00001.safetensors").unlink()
    else:
        path = folder / "part-00001.safetensors"
        path.write_bytes(path.read_bytes()[:-10])


@pytest.mark.parametrize("what", ["no index", "half an index", "foreign index", "lost ids", "no shard", "half a shard"])
def test_damaged_folder_is_an_error_and_no_traceback(tmp_path, what):
    spoil(write(tmp_path / "set"), what)
    with pytest.raises(PipelineError) as error:
        LatentSet(tmp_path / "set").batch(list(range(11)))
    assert "run the stage latents" in str(error.value) and "\n" not in str(error.value)


# --- what was made with one VAE is not used with another ---


def test_moments_of_another_vae_are_refused(tmp_path):
    tensors = {"mean": torch.ones(4, 16, 2, 2), "variance": torch.tensor(2.0, dtype=torch.float64)}
    save_file(tensors, tmp_path / "m.safetensors", {"moments": json.dumps({"vae_hash": "a" * 64})})
    assert read_moments(tmp_path / "m.safetensors", "a" * 64)[1] == 2.0
    with pytest.raises(PipelineError, match=r"VAE aaaaaaaaaaaa, but the backbone uses VAE bbbbbbbbbbbb"):
        read_moments(tmp_path / "m.safetensors", "b" * 64)


def test_backbone_of_another_vae_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(
        json.dumps({"family": "svd", "model": {}, "vae_hash": "a" * 64, "params": {}})
    )
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(PipelineError, match=r"latents of VAE aaaaaaaaaaaa, but these come from VAE bbbbbbbbbbbb"):
        load_backbone(tmp_path, vae_hash="b" * 64)


# --- the stage ---


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Five clips of noise and untrained encoders."""
    root = tmp_path_factory.mktemp("latents")
    rows = []
    generator = np.random.default_rng(0)
    texts = dict.fromkeys(("source", "label", "decoder", "transform"), "")
    names = ("stride", "requested_stride", "start_frame", "window", "source_height", "source_width")
    for number in range(5):
        frames = generator.integers(0, 256, (16, 16, 16, 3), dtype=np.uint8)
        rates = {"native_fps": 30.0, "fps": 3.0 + number}
        rows.append({
            "id": f"clip{number}", "caption": f"a thing of number {number}", **texts, **dict.fromkeys(names, 1),
            **rates, "frames": encode_frames(frames),
        })  # fmt: skip
    write_clips(root / "clips", rows, 2)
    torch.manual_seed(0)
    tower = {
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "projection_dim": 8,
    }
    encoders = Encoders.build(
        {"block_out_channels": [8, 8], "layers_per_block": 1, "norm_num_groups": 4, "latent_channels": 4},
        {**tower, "image_size": 16, "patch_size": 8}, {**tower, "max_position_embeddings": 12, "vocab_size": 300},
        ["a thing of number 1"],
    )  # fmt: skip
    encoders.save(root / "encoders")
    with torch.no_grad():
        next(encoders.vae.encoder.parameters())[0] = torch.nan
    encoders.save(root / "broken")
    return root


def run_stage(root, out, batch_size, encoders="encoders", flip=False, picture_frames="all", **shards):
    spec = SimpleNamespace(batch_size=batch_size, flip=flip, picture_frames=picture_frames)
    stage = SimpleNamespace(
        args=SimpleNamespace(name="own"), params=SimpleNamespace(latents={"own": spec}),
        inputs=[root / "clips", root / encoders], outputs=[out], device="cpu", record=SimpleNamespace(metrics=dict),
    )  # fmt: skip
    run_parted(stage_module, stage, **shards)
    return LatentSet(out)


def test_stage_encodes_every_clip_in_order_and_notes_the_vae(inputs, tmp_path):
    two, five = (run_stage(inputs, tmp_path / str(size), size) for size in (2, 5))
    assert two.ids == [f"clip{k}" for k in range(5)] and len(two) == 5
    assert two.vae_hash == Encoders.load(inputs / "encoders").vae_hash
    a, b = two.batch(list(range(5))), five.batch(list(range(5)))
    assert a["mean"].shape == (5, 4, 16, 8, 8) and a["fps"].tolist() == [3, 4, 5, 6, 7]
    for name in FIELDS:
        torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-4)
    assert all((a["mean"][0] - a["mean"][k]).abs().max() > 1e-3 for k in range(1, 5))
    assert two.null()["text"].shape == a["text"].shape[1:]


@pytest.mark.parametrize("flip", [False, True])
def test_bytes_do_not_depend_on_the_number_of_shards_or_their_order(inputs, tmp_path, monkeypatch, flip):
    monkeypatch.setattr(stage_module, "CLIPS_PER_PART", 2)
    whole = run_stage(inputs, tmp_path / "whole", 2, flip=flip)
    run_stage(inputs, tmp_path / "two", 2, flip=flip, shards=2, order=[1, 0])
    run_stage(inputs, tmp_path / "many", 2, flip=flip, shards=5, order=[4, 2, 0, 1, 3])
    assert len(whole) == 5 * (1 + flip)
    files = files_of(tmp_path / "whole")
    assert len(files) == 3 + 2 and files_of(tmp_path / "two") == files == files_of(tmp_path / "many")


def test_a_mirrored_clip_is_a_row_of_its_own_beside_its_clip(inputs, tmp_path):
    plain = run_stage(inputs, tmp_path / "plain", 2)
    two, five = (run_stage(inputs, tmp_path / str(size), size, flip=True) for size in (2, 5))
    assert two.ids == five.ids == [f"clip{k}{suffix}" for k in range(5) for suffix in ("", MIRRORED)]
    rows = two.batch(list(range(10)))
    for name, value in plain.batch(list(range(5))).items():
        torch.testing.assert_close(rows[name][::2], value, rtol=1e-3, atol=1e-4)
    frames = to_pixels(ClipSet(inputs / "clips").frames([1]))[0]
    encoders = Encoders.load(inputs / "encoders")
    with torch.no_grad():
        mean = encoders.encode(frames.flip(-1))[0].transpose(0, 1)
    torch.testing.assert_close(rows["mean"][3], mean, rtol=1e-3, atol=1e-4)
    assert torch.equal(rows["text"][2], rows["text"][3]) and rows["fps"][2] == rows["fps"][3]


def test_clip_sees_only_the_frames_that_may_condition(inputs, tmp_path, monkeypatch):
    """And each only once."""
    seen, image = [], Encoders.image
    monkeypatch.setattr(Encoders, "image", lambda self, frames: seen.append(len(frames)) or image(self, frames))
    every = run_stage(inputs, tmp_path / "all", 2)
    assert sum(seen) == 5 * 16 + 1  # and the grey picture
    seen.clear()
    first = run_stage(inputs, tmp_path / "first", 2, picture_frames="first")
    assert sum(seen) == 5 + 1
    for name in ("image_tokens", "image_embedding"):
        one, all_frames = first.batch(list(range(5)))[name], every.batch(list(range(5)))[name]
        assert one.shape[1] == 1
        torch.testing.assert_close(one, all_frames[:, :1], rtol=1e-3, atol=1e-3)
    assert torch.equal(first.batch([2])["mean"], every.batch([2])["mean"])


def test_stage_with_a_broken_vae_names_the_first_clip(inputs, tmp_path):
    with pytest.raises(PipelineError, match=r"of clip clip0 .*not finite"):
        run_stage(inputs, tmp_path / "out", 2, "broken")
    assert not (tmp_path / "out/index.json").exists()
