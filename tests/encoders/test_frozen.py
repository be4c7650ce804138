"""The frozen encoders: their folder, their hashes, and what they make of pictures and texts."""

import copy
import json
import shutil

import numpy as np
import pytest
import torch

from pipeline.encoders.frozen import PARTS, Encoders, to_pixels, to_uint8
from pipeline.errors import PipelineError


@pytest.fixture
def own(folder, tmp_path):
    """A copy of the folder that a test may damage."""
    return shutil.copytree(folder, tmp_path / "own")


def pictures(count: int = 3, size: int = 32) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_folder_layout(folder):
    assert {path.name for path in folder.iterdir()} == {*PARTS, "tokenizer", "encoders.json"}
    assert not list(folder.rglob("*.bin")), "weights are safetensors"
    for name in PARTS:
        assert [path.suffix for path in sorted((folder / name).iterdir())] == [".json", ".safetensors"]


def test_loaded_encoders_are_frozen_and_equal_to_the_written(build, encoders):
    assert not encoders.training and not any(module.training for module in encoders.modules())
    assert not any(parameter.requires_grad for parameter in encoders.parameters())
    written = build().state_dict()
    assert all(torch.equal(value, written[name]) for name, value in encoders.state_dict().items())
    with torch.inference_mode():
        assert torch.equal(encoders.text(["a red picture"]), build().text(["a red picture"]))


def test_scaling_factor_is_kept_on_disk(build, tmp_path):
    made = build()
    made.vae.register_to_config(scaling_factor=0.345)
    made.save(tmp_path / "scaled")
    assert Encoders.load(tmp_path / "scaled").scaling_factor == 0.345


def test_hashes_are_recorded_and_stable(build, folder, tmp_path):
    build().save(tmp_path / "again")
    recorded = json.loads((folder / "encoders.json").read_text())["hashes"]
    assert set(recorded) == set(PARTS) and all(len(value) == 64 for value in recorded.values())
    assert json.loads((tmp_path / "again" / "encoders.json").read_text())["hashes"] == recorded
    one, two = Encoders.load(folder), Encoders.load(tmp_path / "again")
    assert (one.hash, one.vae_hash) == (two.hash, recorded["vae"])


@pytest.mark.parametrize("part", PARTS)
def test_a_changed_weight_changes_its_hash_and_that_of_the_whole(build, folder, tmp_path, part):
    made = build()
    with torch.no_grad():
        next(getattr(made, part).parameters()).view(-1)[0] += 1e-3
    made.save(tmp_path / "other")
    one, two = Encoders.load(folder), Encoders.load(tmp_path / "other")
    assert [one.hashes[name] == two.hashes[name] for name in PARTS] == [name != part for name in PARTS]
    assert one.hash != two.hash
    assert (one.vae_hash != two.vae_hash) == (part == "vae")


def test_parts_may_be_loaded_alone(folder):
    only = Encoders.load(folder, parts=("vae",))
    assert only.image_tower is None and only.text_tower is None and only.tokenizer is None
    with torch.inference_mode():
        assert only.encode(pictures())[0].shape == (3, 4, 8, 8)


def test_weights_that_are_not_the_recorded_ones_are_refused(build, own):
    build(seed=1).vae.save_pretrained(own / "vae")
    with pytest.raises(PipelineError, match=r"vae: the weights are not those that encoders.json records"):
        Encoders.load(own)
    assert Encoders.load(own, parts=("text_tower",)), "the other parts are whole"


@pytest.mark.parametrize("part", PARTS)
def test_truncated_weights_are_refused(own, part):
    path = next((own / part).glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(PipelineError, match=f"{part}: the weights are not those that encoders.json records"):
        Encoders.load(own)


def test_missing_files_are_named(own):
    next((own / "image_tower").glob("*.safetensors")).unlink()
    with pytest.raises(PipelineError, match="image_tower holds no safetensors weights"):
        Encoders.load(own)
    (own / "encoders.json").unlink()
    with pytest.raises(PipelineError, match=r"holds no encoders.json: it is not an encoders folder"):
        Encoders.load(own)


@pytest.mark.parametrize("text", ["", '{"hashes": {', '{"hashes": {"vae": "0"}}', "{}"])
def test_damaged_record(own, text):
    (own / "encoders.json").write_text(text)
    with pytest.raises(PipelineError, match=r"encoders.json is damaged"):
        Encoders.load(own)


def test_pixels_survive_the_way_there_and_back():
    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, 3)
    pixels = to_pixels(every)
    assert pixels.shape == (1, 3, 16, 16) and (pixels.min(), pixels.max()) == (-1, 1)
    assert np.array_equal(to_uint8(pixels), every)
    assert to_uint8(torch.tensor([-3.0, 3.0]).reshape(2, 1, 1, 1).expand(2, 3, 1, 1))[:, 0, 0].tolist() == [
        [0] * 3,
        [255] * 3,
    ]


@torch.inference_mode()
def test_latents_have_a_posterior_and_decode_to_frames(encoders):
    mean, logvar = encoders.encode(pictures())
    assert mean.shape == logvar.shape == (3, 4, 8, 8)
    video = encoders.decode(torch.stack([mean, 2 * mean]).transpose(1, 2) * encoders.scaling_factor)
    assert video.shape == (2, 3, 3, 32, 32) and video.abs().max() <= 1
    assert torch.allclose(video[0, :, 1], encoders.vae.decode(mean[1:2]).sample[0].clamp(-1, 1), atol=1e-5)


@torch.inference_mode()
def test_image_tower_gives_class_and_patch_tokens_and_an_embedding(encoders):
    tokens, embedding = encoders.image(pictures())
    assert tokens.shape == (3, 1 + 16, 24)
    assert embedding.shape == (3, 1, 20)


@torch.inference_mode()
def test_image_tokens_are_of_the_last_block_without_the_norm_behind_it(encoders):
    """As the released code feeds its projector; the embedding does pass that norm."""
    changed = copy.deepcopy(encoders)
    changed.image_tower.vision_model.post_layernorm.weight.mul_(3)
    (tokens, embedding), (same, other) = encoders.image(pictures()), changed.image(pictures())
    assert torch.equal(tokens, same) and not torch.allclose(embedding, other)
    changed.image_tower.vision_model.encoder.layers[-1].mlp.fc2.bias.add_(1)
    assert not torch.allclose(tokens, changed.image(pictures())[0])


@torch.inference_mode()
def test_pictures_of_any_size_are_taken(encoders):
    assert encoders.image(pictures(size=48))[0].shape == (3, 17, 24)


@torch.inference_mode()
def test_text_is_the_state_before_the_last_block_normed(encoders):
    """As the released code takes it ("penultimate")."""
    texts = ["a red picture", "a blue bar"]
    hidden = encoders.text(texts)
    assert hidden.shape == (2, 12, 16)
    changed = copy.deepcopy(encoders)
    for parameter in changed.text_tower.text_model.encoder.layers[-1].parameters():
        parameter.normal_()
    assert torch.equal(changed.text(texts), hidden), "the last block has no say"
    changed.text_tower.text_model.encoder.layers[-2].mlp.fc2.bias.add_(torch.linspace(0, 1, 16))
    assert not torch.allclose(changed.text(texts), hidden)
    assert hidden.mean(-1).abs().max() < 1e-5, "the final norm's mean is zero before training"


def test_tokens_are_deterministic_padded_and_cut(build, encoders):
    texts = ["", "a red picture with a bar", "a " * 40, "Ünïcode → 猫"]
    ids = encoders.token_ids(texts)
    assert ids.shape == (4, 12) and ids.max() < 300
    assert torch.equal(ids, build(seed=5).token_ids(texts)), (
        "a tokenizer trained again on the same captions is the same"
    )
    assert ids[0].tolist() == [0] + [1] * 11, "start, end and padding"
    assert ids[2, 0] == 0 and ids[2, -1] == 1, "a long text is cut before the end token"
    assert torch.equal(encoders.token_ids(texts[1:2])[0], ids[1]), "a text does not depend on the others"
    assert encoders.tokenizer.decode(ids[1], skip_special_tokens=True).strip() == texts[1]


@torch.inference_mode()
def test_null_is_the_empty_text_and_a_grey_picture(encoders):
    null = encoders.null(32, 32)
    tokens, embedding = encoders.image(torch.zeros(1, 3, 32, 32))
    assert torch.equal(null["text"], encoders.text([""])[0])
    assert torch.equal(null["image_tokens"], tokens[0]) and torch.equal(null["image_embedding"], embedding[0])
