"""The LDM autoencoder (``first_stage_model`` of DynamiCrafter and VideoCrafter) as diffusers' AutoencoderKL, and back.

Layout of the official class: github.com/CompVis/latent-diffusion (ldm/modules/diffusionmodules/model.py), of which
lvdm.models.autoencoder is a copy. Two things differ from diffusers beyond names: the 1x1 convolutions of the mid-block
attention are linear layers there, and the decoder counts its levels from the lowest resolution.
"""

from collections.abc import Mapping

import torch

from pipeline.conversion.rules import Rule, State, convert, export, pair, required
from pipeline.errors import PipelineError

GROUPS = 32  # hard-coded in the official GroupNorms; so is eps 1e-6, which diffusers' VAE uses as well
DDCONFIG = ("z_channels", "resolution", "in_channels", "out_ch", "ch", "ch_mult", "num_res_blocks")


def vae_config(ddconfig: Mapping, embed_dim: int, scaling_factor: float = 0.18215) -> dict:
    """Fields of diffusers' AutoencoderKL for an official config.

    ``scaling_factor`` is in no checkpoint: the official code has it in the config of the whole model.
    Raises PipelineError for variants that AutoencoderKL cannot hold.
    """
    z, resolution, channels, out, ch, mult, blocks = required(ddconfig, DDCONFIG, "ddconfig of the autoencoder")
    levels = len(mult)
    obstacles = {
        f"embed_dim {embed_dim} is not z_channels {z}": embed_dim != z,
        "double_z is false": not ddconfig.get("double_z", True),
        "attn_resolutions is not empty": bool(ddconfig.get("attn_resolutions")),
        "resamp_with_conv is false": not ddconfig.get("resamp_with_conv", True),
        f"attn_type is {ddconfig.get('attn_type')}": not str(ddconfig.get("attn_type", "vanilla")).startswith(
            "vanilla"
        ),
        f"ch_mult {list(mult)} does not start with 1": not levels or mult[0] != 1,
        f"ch {ch} is not a multiple of {GROUPS}": ch % GROUPS != 0,
    }
    if found := [text for text, holds in obstacles.items() if holds]:
        raise PipelineError(
            f"diffusers' AutoencoderKL cannot hold this autoencoder: {'; '.join(found[:3])}; "
            "use the official 512 config, or keep the weights in the official class"
        )
    return {
        "in_channels": channels,
        "out_channels": out,
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "block_out_channels": [ch * factor for factor in mult],
        "layers_per_block": blocks,
        "act_fn": "silu",
        "latent_channels": z,
        "norm_num_groups": GROUPS,
        "sample_size": resolution,
        "scaling_factor": scaling_factor,
    }


def convert_vae(state: State, config: Mapping) -> dict[str, torch.Tensor]:
    """State dict of AutoencoderKL(**vae_config) from the official one (keys ``encoder.*``, ``quant_conv.*``, ...).

    ``config``: ``{"embed_dim": ..., "ddconfig": {...}}``. The tensors share memory with the given ones.
    Raises PipelineError where keys or shapes do not fit the config.
    """
    return convert(vae_rules(config), state, "the autoencoder")


def export_vae(state: State, config: Mapping) -> dict[str, torch.Tensor]:
    """The official state dict from that of AutoencoderKL; inverse of ``convert_vae``, with the same errors."""
    return export(vae_rules(config), state, "the autoencoder")


def vae_rules(config: Mapping) -> list[Rule]:
    """The whole table of a config ``{"embed_dim", "ddconfig"}``."""
    ddconfig, embed = required(config, ("ddconfig", "embed_dim"), "config of the autoencoder")
    fields = vae_config(ddconfig, embed)
    widths, depth, z = fields["block_out_channels"], fields["layers_per_block"], fields["latent_channels"]
    lowest, top = len(widths) - 1, widths[-1]

    rules = pair("encoder.conv_in", "encoder.conv_in", widths[0], fields["in_channels"], 3, 3)
    width = widths[0]
    for level, out in enumerate(widths):
        there = f"encoder.down_blocks.{level}"
        for block in range(depth):
            rules += _resnet(f"encoder.down.{level}.block.{block}", f"{there}.resnets.{block}", width, out)
            width = out
        if level < lowest:
            rules += pair(f"encoder.down.{level}.downsample.conv", f"{there}.downsamplers.0.conv", out, out, 3, 3)
    rules += _mid("encoder", top) + _end("encoder", top, 2 * z)

    rules += pair("decoder.conv_in", "decoder.conv_in", top, z, 3, 3) + _mid("decoder", top)
    width = top
    for level in range(lowest, -1, -1):
        there, out = f"decoder.up_blocks.{lowest - level}", widths[level]
        for block in range(depth + 1):
            rules += _resnet(f"decoder.up.{level}.block.{block}", f"{there}.resnets.{block}", width, out)
            width = out
        if level:
            rules += pair(f"decoder.up.{level}.upsample.conv", f"{there}.upsamplers.0.conv", out, out, 3, 3)
    rules += _end("decoder", widths[0], fields["out_channels"])
    return (
        rules
        + pair("quant_conv", "quant_conv", 2 * embed, 2 * z, 1, 1)
        + pair("post_quant_conv", "post_quant_conv", z, embed, 1, 1)
    )


def _resnet(official: str, library: str, width: int, out: int) -> list[Rule]:
    rules = (
        pair(f"{official}.norm1", f"{library}.norm1", width)
        + pair(f"{official}.conv1", f"{library}.conv1", out, width, 3, 3)
        + pair(f"{official}.norm2", f"{library}.norm2", out)
        + pair(f"{official}.conv2", f"{library}.conv2", out, out, 3, 3)
    )
    if width != out:
        rules += pair(f"{official}.nin_shortcut", f"{library}.conv_shortcut", out, width, 1, 1)
    return rules


def _mid(side: str, width: int) -> list[Rule]:
    here, there = f"{side}.mid", f"{side}.mid_block"
    rules = pair(f"{here}.attn_1.norm", f"{there}.attentions.0.group_norm", width)
    for official, library in {"q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}.items():
        rules += pair(f"{here}.attn_1.{official}", f"{there}.attentions.0.{library}", width, width, 1, 1, kind="linear")
    for block in range(2):
        rules += _resnet(f"{here}.block_{block + 1}", f"{there}.resnets.{block}", width, width)
    return rules


def _end(side: str, width: int, out: int) -> list[Rule]:
    return pair(f"{side}.norm_out", f"{side}.conv_norm_out", width) + pair(
        f"{side}.conv_out", f"{side}.conv_out", out, width, 3, 3
    )
