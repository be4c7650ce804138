"""Released files into the pipeline's layout: found, checked, converted, and the same network afterwards."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPVisionConfig, CLIPVisionModelWithProjection

from pipeline.backbones.checkpoint import load_backbone
from pipeline.backbones.registry import FAMILIES, build
from pipeline.conversion import clip
from pipeline.conversion.backbone import convert_backbone, export_backbone
from pipeline.conversion.encoders import diffusers_encoders, lvdm_encoders
from pipeline.conversion.streamed_file import write_float32
from pipeline.conversion.vae import export_vae, vae_config
from pipeline.conversion.weight_file import find, read_weights
from pipeline.encoders.frozen import Encoders
from pipeline.errors import PipelineError
from pipeline.params.encoders import DiffusersEncoders, LvdmEncoders

VAE = "a" * 64
AUTOENCODER = {
    "embed_dim": 4,
    "ddconfig": {
        "double_z": True, "z_channels": 4, "resolution": 32, "in_channels": 3, "out_ch": 3, "ch": 32, "ch_mult": [1, 2],
        "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0,
    },
}  # fmt: skip
WORDS = ["!", "a", "b", "a</w>", "b</w>", "ab</w>", "<|startoftext|>", "<|endoftext|>"]
TOWERS = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 16, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 9, "vocab_size": len(WORDS), "width": 32, "heads": 2, "layers": 2},
}


def released(path, sha256=None) -> dict:
    return {"location": str(path), "file": None, "revision": None, "sha256": sha256}


@pytest.fixture
def checkpoint(make_backbone, recipe, tmp_path):
    """A whole checkpoint of VideoCrafter1 as the official code saves it, at small width."""
    from diffusers import AutoencoderKL

    vae = recipe.fill(AutoencoderKL(**vae_config(AUTOENCODER["ddconfig"], 4)))
    text = recipe.fill(CLIPTextModelWithProjection(CLIPTextConfig(**clip.text_config(TOWERS))))
    image = recipe.fill(CLIPVisionModelWithProjection(CLIPVisionConfig(**clip.vision_config(TOWERS))))
    parts = {
        "first_stage_model.": export_vae(vae.state_dict(), AUTOENCODER),
        "cond_stage_model.": export_text_of(text),
        "embedder.": clip.export_image(image.state_dict(), TOWERS),
        "": export_backbone(make_backbone("videocrafter1")) | {"alphas_cumprod": torch.linspace(1, 0, 1000)},
    }
    state = {prefix + name: value for prefix, part in parts.items() for name, value in part.items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "model.ckpt")
    return SimpleNamespace(path=tmp_path / "model.ckpt", vae=vae, text=text, image=image)


def export_text_of(tower) -> dict:
    return clip.export_text(tower.state_dict(), TOWERS) | {"model.logit_scale": torch.tensor(1.0)}


@pytest.fixture
def words(tmp_path):
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(WORDS)}))
    (folder / "merges.txt").write_text("#version: 0.2\na b</w>\n")
    return folder


def convert(path, family, model, folder):
    return convert_backbone(folder, find(**released(path)), family, model, VAE, {"process": 1})


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "wrapped", [{}, {"state_dict": ""}, {"module": "_forward_module."}], ids=["plain", "ckpt", "ds"]
)
def test_converted_backbone_is_the_same_network(make_backbone, tmp_path, family, wrapped):
    backbone = make_backbone(family)
    state = export_backbone(backbone)
    for key, prefix in wrapped.items():
        state = {key: {prefix + name: value for name, value in state.items()}}
    torch.save(state, tmp_path / "model.ckpt")
    convert(tmp_path / "model.ckpt", family, backbone.config, tmp_path / "out")
    loaded = load_backbone(tmp_path / "out", family, VAE)
    expected, found = backbone.state_dict(), loaded.state_dict()
    assert expected.keys() == found.keys() and all(torch.equal(expected[key], found[key]) for key in expected)
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["source"]["source"] == str(tmp_path / "model.ckpt") and len(config["source"]["sha256"]) == 64


def test_half_precision_becomes_float32_and_the_old_name_of_fps_is_known(make_backbone, tmp_path):
    backbone = make_backbone("dynamicrafter")
    state = {
        name.replace("fps_embedding", "framestride_embed"): value.half()
        for name, value in export_backbone(backbone).items()
    }
    assert any("framestride_embed" in name for name in state)
    save_file(state, tmp_path / "half.safetensors")
    convert(tmp_path / "half.safetensors", "dynamicrafter", backbone.config, tmp_path / "out")
    weights = load_file(tmp_path / "out/model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float32}
    assert all(torch.equal(weights[name], value.half().float()) for name, value in backbone.state_dict().items())


def test_file_of_another_family_is_named(make_backbone, tmp_path):
    torch.save(export_backbone(make_backbone("dynamicrafter")), tmp_path / "model.ckpt")
    for family in ("videocrafter1", "svd"):
        with pytest.raises(PipelineError, match=f"model.ckpt holds a dynamicrafter network, but {family} is asked for"):
            convert(tmp_path / "model.ckpt", family, make_backbone(family).config, tmp_path / "out")
    torch.save({"x": torch.zeros(1)}, tmp_path / "other.ckpt")
    with pytest.raises(PipelineError, match=r"holds no network that we know \(it starts with x\)"):
        convert(tmp_path / "other.ckpt", "svd", make_backbone("svd").config, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_missing_unknown_and_misshapen_keys_are_named(make_backbone, tmp_path):
    backbone = make_backbone("videocrafter1")
    state = export_backbone(backbone)
    del state["model.diffusion_model.out.2.bias"]
    state["image_proj_model.more"] = torch.zeros(1)
    state["model.diffusion_model.out.0.bias"] = torch.zeros(3)
    state["optimizer.of.something.else"] = torch.zeros(1)
    torch.save(state, tmp_path / "model.ckpt")
    with pytest.raises(PipelineError) as caught:
        convert(tmp_path / "model.ckpt", "videocrafter1", backbone.config, tmp_path / "out")
    for said in ("1 missing: model.diffusion_model.out.2.bias", "1 unknown: image_proj_model.more", "out.0.bias (3,)"):
        assert said in str(caught.value)
    assert "optimizer" not in str(caught.value)


def test_config_beside_diffusers_weights_must_agree(make_backbone, tmp_path):
    backbone = make_backbone("svd")
    save_file(export_backbone(backbone), tmp_path / "diffusion_pytorch_model.safetensors")
    heads = [9 for _ in backbone.config["unet"]["num_attention_heads"]]
    (tmp_path / "config.json").write_text(json.dumps(backbone.config["unet"] | {"num_attention_heads": heads}))
    with pytest.raises(PipelineError, match=r"model.unet is not what .*config.json says: num_attention_heads"):
        convert(tmp_path / "diffusion_pytorch_model.safetensors", "svd", backbone.config, tmp_path / "out")


@torch.inference_mode()
def test_encoders_of_a_whole_checkpoint(checkpoint, words, recipe, tmp_path):
    spec = LvdmEncoders(
        kind="lvdm", clips="x", checkpoint=released(checkpoint.path), scaling_factor=0.18215, autoencoder=AUTOENCODER,
        towers=TOWERS, tokenizer={"location": str(words), "revision": None},
    )  # fmt: skip
    encoders, source = lvdm_encoders(spec)
    encoders.save(tmp_path / "encoders", source)
    loaded = Encoders.load(tmp_path / "encoders")
    frames = recipe.draw("frames", (2, 3, 32, 32)).clamp(-1, 1)
    mean, _ = loaded.encode(frames)
    assert torch.equal(mean, checkpoint.vae.encode(frames).latent_dist.mean) and loaded.scaling_factor == 0.18215
    ids = loaded.token_ids(["ab a", "b " * 40])
    assert ids.tolist() == [[6, 5, 3, 7, 0, 0, 0, 0, 0], [6, *[4] * 7, 7]]  # zeros fill up, as open_clip does
    states = checkpoint.text.text_model(input_ids=ids, output_hidden_states=True).hidden_states[-2]
    assert torch.equal(loaded.text(["ab a", "b " * 40]), checkpoint.text.text_model.final_layer_norm(states))
    assert loaded.image(frames)[0].shape == (2, 5, 32)
    recorded = json.loads((tmp_path / "encoders/encoders.json").read_text())
    assert recorded["source"]["checkpoint"]["sha256"] == find(**released(checkpoint.path)).sha256


@torch.inference_mode()
def test_encoders_of_stable_video_diffusion(recipe, tmp_path):
    from diffusers import AutoencoderKLTemporalDecoder

    fields = {
        "block_out_channels": [32, 32], "down_block_types": ["DownEncoderBlock2D"] * 2, "layers_per_block": 1,
        "latent_channels": 4, "scaling_factor": 0.18215,
    }  # fmt: skip
    tower = clip.vision_config(TOWERS)
    vae = recipe.fill(AutoencoderKLTemporalDecoder(**fields))
    image = recipe.fill(CLIPVisionModelWithProjection(CLIPVisionConfig(**tower)))
    save_file(vae.state_dict(), tmp_path / "vae.safetensors")
    positions = {"vision_model.embeddings.position_ids": torch.arange(5)}
    save_file(image.state_dict() | positions, tmp_path / "image.safetensors")
    spec = DiffusersEncoders(
        kind="diffusers", clips="x", vae=fields, vae_weights=released(tmp_path / "vae.safetensors"), image_tower=tower,
        image_tower_weights=released(tmp_path / "image.safetensors"),
    )  # fmt: skip
    encoders, source = diffusers_encoders(spec)
    encoders.save(tmp_path / "encoders", source)
    loaded = Encoders.load(tmp_path / "encoders")
    latents = recipe.draw("latents", (2, 4, 3, 8, 8))
    expected = vae.decode(latents[0].transpose(0, 1) / 0.18215, num_frames=3).sample.clamp(-1, 1)
    assert torch.allclose(loaded.decode(latents)[0].transpose(0, 1), expected, atol=1e-6)
    assert loaded.text(["anything"]).shape == (1, 1, 1) and loaded.text_tower is None
    assert loaded.image(torch.zeros(1, 3, 32, 32))[1].shape == (1, 1, 24)
    with pytest.raises(PipelineError, match=r"do not fit AutoencoderKLTemporalDecoder"):
        diffusers_encoders(spec.model_copy(update={"vae": fields | {"layers_per_block": 2}}))


def test_hash_that_is_asked_for(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors")
    digest = find(**released(tmp_path / "a.safetensors")).sha256
    assert find(**released(tmp_path / "a.safetensors", digest)).sha256 == digest
    with pytest.raises(PipelineError, match=f"a.safetensors: its sha256 is {digest}, but params.yaml asks for 0000"):
        find(**released(tmp_path / "a.safetensors", "0" * 64))


def test_missing_file_and_folder_in_place_of_a_file(tmp_path):
    with pytest.raises(PipelineError, match=r"nothing.ckpt does not exist; put the released file there"):
        find(**released(tmp_path / "nothing.ckpt"))
    with pytest.raises(PipelineError, match=r"is a folder; name the file inside it"):
        find(**released(tmp_path))


@pytest.mark.parametrize("cut", [10, 0.5, 0.99])
@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_truncated_files_are_told(tmp_path, suffix, cut):
    path, state = tmp_path / f"model{suffix}", {"a": torch.zeros(2000)}
    torch.save(state, path) if suffix == ".ckpt" else save_file(state, path)
    data = path.read_bytes()
    path.write_bytes(data[: cut if cut > 1 else int(len(data) * cut)])
    with pytest.raises(PipelineError, match=r"is damaged, cut short or of another format"):
        read_weights(path)


class Calls:
    def __reduce__(self):
        return (os.system, ("touch pwned",))


def test_no_code_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"a": torch.zeros(1)}, "callbacks": Calls()}, "model.ckpt")
    with pytest.raises(PipelineError, match=r"asks for code to be unpickled, which is refused"):
        read_weights(tmp_path / "model.ckpt")
    assert not (tmp_path / "pwned").exists()


def test_hub_name_without_a_network(tmp_path):
    code = (
        "from pipeline.conversion.weight_file import find; from pipeline.errors import PipelineError\n"
        "try: find('hf:someone/something', 'model.ckpt', 'abc', None)\n"
        "except PipelineError as error: print(error)"
    )
    for environment in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        told = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True,
            env={**os.environ, "HF_HOME": str(tmp_path), **environment},
        ).stdout  # fmt: skip
        assert told.startswith("hf:someone/something/model.ckpt at revision abc cannot be had: "), told
        assert "hub cannot be reached; give the path of a copy" in told


def test_streamed_file_is_what_the_library_reads(tmp_path):
    state = {
        "b": torch.randn(3, 2),
        "a": torch.arange(4).double(),
        "empty": torch.zeros(0, 3),
        "one": torch.tensor(2.0),
    }
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    write_float32(tmp_path / "x.safetensors", shapes, state.__getitem__)
    found = load_file(tmp_path / "x.safetensors")
    assert found.keys() == state.keys() and all(torch.equal(found[name], state[name].float()) for name in state)
    with pytest.raises(ValueError, match=r"announced as"):
        write_float32(tmp_path / "x.safetensors", {"b": (2, 3)}, state.__getitem__)


def test_building_without_memory_gives_every_family_its_keys(small_backbones):
    from pipeline.backbones.registry import build_empty

    for family in FAMILIES:
        empty = build_empty(family, small_backbones[family]["config"])
        assert empty.state_dict().keys() == build(family, small_backbones[family]["config"]).state_dict().keys()
        # diffusers makes its mixing factors by torch.Tensor, which no device context reaches: single numbers
        assert all(value.is_meta or value.numel() == 1 for value in empty.state_dict().values())
