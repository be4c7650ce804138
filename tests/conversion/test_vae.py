"""The LDM autoencoder in diffusers, against the official numbers, against a plain reading of its keys, and back."""

import pytest
import torch
from diffusers import AutoencoderKL
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from pipeline.conversion.rules import part
from pipeline.conversion.vae import convert_vae, export_vae, vae_config, vae_rules
from pipeline.errors import PipelineError


def config(ch=32, mult=(1, 2), blocks=1, z=4, **more) -> dict:
    ddconfig = {"z_channels": z, "resolution": 32, "in_channels": 3, "out_ch": 3, "ch": ch, "num_res_blocks": blocks}
    return {"embed_dim": z, "ddconfig": ddconfig | {"ch_mult": list(mult)} | more}


def build(settings: dict) -> AutoencoderKL:
    return AutoencoderKL(**vae_config(settings["ddconfig"], settings["embed_dim"]))


class Plain:
    """The official autoencoder as functions of its state dict, written from the keys: another way to the numbers."""

    def __init__(self, state, levels, blocks):
        self.state, self.levels, self.blocks = state, levels, blocks

    def conv(self, name, x, **how):
        weight = self.state[f"{name}.weight"]
        how = {"padding": weight.shape[-1] // 2} | how
        return functional.conv2d(x, weight, self.state[f"{name}.bias"], **how)

    def norm(self, name, x):
        return functional.group_norm(x, 32, self.state[f"{name}.weight"], self.state[f"{name}.bias"], eps=1e-6)

    def resnet(self, name, x):
        h = self.conv(f"{name}.conv1", functional.silu(self.norm(f"{name}.norm1", x)))
        h = self.conv(f"{name}.conv2", functional.silu(self.norm(f"{name}.norm2", h)))
        short = f"{name}.nin_shortcut"
        return h + (self.conv(short, x) if f"{short}.weight" in self.state else x)

    def mid(self, name, x):
        x = self.resnet(f"{name}.block_1", x)
        h = self.norm(f"{name}.attn_1.norm", x)
        q, k, v = (self.conv(f"{name}.attn_1.{letter}", h).flatten(2) for letter in "qkv")
        scores = torch.softmax(q.transpose(1, 2) @ k / q.shape[1] ** 0.5, dim=-1)
        x = x + self.conv(f"{name}.attn_1.proj_out", (v @ scores.transpose(1, 2)).view_as(x))
        return self.resnet(f"{name}.block_2", x)

    def end(self, side, x):
        return self.conv(f"{side}.conv_out", functional.silu(self.norm(f"{side}.norm_out", x)))

    def encode(self, x):
        x = self.conv("encoder.conv_in", x)
        for level in range(self.levels):
            for block in range(self.blocks):
                x = self.resnet(f"encoder.down.{level}.block.{block}", x)
            if level < self.levels - 1:
                x = functional.pad(x, (0, 1, 0, 1))
                x = self.conv(f"encoder.down.{level}.downsample.conv", x, stride=2, padding=0)
        return self.conv("quant_conv", self.end("encoder", self.mid("encoder.mid", x)))

    def decode(self, z):
        x = self.mid("decoder.mid", self.conv("decoder.conv_in", self.conv("post_quant_conv", z)))
        for level in reversed(range(self.levels)):
            for block in range(self.blocks + 1):
                x = self.resnet(f"decoder.up.{level}.block.{block}", x)
            if level:
                x = self.conv(f"decoder.up.{level}.upsample.conv", functional.interpolate(x, scale_factor=2.0))
        return self.end("decoder", x)


@settings(max_examples=6, deadline=None)
@given(
    ch=st.sampled_from([32, 64]),
    tail=st.lists(st.sampled_from([1, 2, 3]), max_size=2),
    blocks=st.integers(1, 2),
    z=st.integers(1, 5),
)
@torch.no_grad()
def test_same_function_and_back_for_any_widths_and_depths(official, loaded, recipe, ch, tail, blocks, z):
    form = config(ch, (1, *tail), blocks, z)
    state = official(vae_rules(form))
    converted = convert_vae(state, form)
    back = export_vae(converted, form)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], value) for key, value in state.items())

    vae, plain = loaded(build(form), converted), Plain(state, 1 + len(tail), blocks)
    image, latent = recipe.draw("image", (1, 3, 8, 12)), recipe.draw("latent", (1, z, 2, 3))
    torch.testing.assert_close(
        vae.encode(image).latent_dist.parameters, plain.encode(image).float(), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(vae.decode(latent).sample, plain.decode(latent), rtol=1e-4, atol=1e-5)


def test_errors_name_keys_and_the_next_step(official):
    state = official(vae_rules(config()))
    lacking = {key: value for key, value in state.items() if not key.startswith("quant_conv")}
    with pytest.raises(PipelineError, match=r"missing keys: quant_conv\.weight, quant_conv\.bias;.*check the config"):
        convert_vae(lacking, config())
    surplus = state | {f"loss.{i}": torch.zeros(1) for i in range(5)}
    with pytest.raises(PipelineError, match=r"unexpected keys: loss\.0, loss\.1, loss\.2 and 2 more;"):
        convert_vae(surplus, config())
    with pytest.raises(PipelineError, match=r"encoder\.conv_in\.bias is \[3\], expected \[32\]"):
        convert_vae(state | {"encoder.conv_in.bias": torch.zeros(3)}, config())
    with pytest.raises(PipelineError, match="of the library does not fit"):
        export_vae(state, config())
    with pytest.raises(PipelineError, match=r"starts with 'first_stage_model\.'"):
        part(state, "first_stage_model.")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"double_z": False}, "double_z"),
        ({"attn_resolutions": [16]}, "attn_resolutions"),
        ({"attn_type": "linear"}, "attn_type is linear"),
        ({"resamp_with_conv": False}, "resamp_with_conv"),
        ({"ch_mult": [2, 4]}, "ch_mult"),
        ({"ch_mult": []}, "ch_mult"),
        ({"ch": 48}, "multiple of 32"),
        ({"z_channels": 8}, "embed_dim 4 is not z_channels 8"),
    ],
)
def test_variants_that_diffusers_cannot_hold(change, named):
    with pytest.raises(PipelineError, match=named):
        vae_config(config()["ddconfig"] | change, 4)
    with pytest.raises(PipelineError, match="lacks z_channels, resolution, in_channels and 4 more"):
        vae_config({}, 4)
