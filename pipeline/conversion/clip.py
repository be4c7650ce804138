"""OpenCLIP towers (``cond_stage_model`` and ``embedder`` of DynamiCrafter and VideoCrafter) in transformers, and back.

Sources: github.com/mlfoundations/open_clip (src/open_clip/transformer.py) for the layout and the wrappers
lvdm.modules.encoders.condition for the outputs. What a wrapper stores without using it is left out of the conversion:
the text wrapper's ``logit_scale``, and all text entries that stay in the image wrapper after its text blocks are gone.
The text wrapper has no visual tower. ``text_projection``, ``visual.ln_post`` and ``visual.proj`` do not enter the
outputs below either, but have a place in the transformers classes and are converted.

Images are prepared as by kornia's ``geometry.resize`` with ``antialias=True``: a Gaussian blur and then a plain bicubic
interpolation, which torch's own antialias does not give.
"""

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional

from pipeline.conversion.rules import Rule, State, convert, export, pair, required
from pipeline.encoders.frozen import CLIP_MEAN as MEAN
from pipeline.encoders.frozen import CLIP_STD as STD
from pipeline.errors import PipelineError

VIT_H_14 = {
    "embed_dim": 1024,
    "vision_cfg": {"image_size": 224, "layers": 32, "width": 1280, "head_width": 80, "patch_size": 14},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 1024, "heads": 16, "layers": 24},
}
TEXT_UNUSED = ("model.logit_scale",)
IMAGE_UNUSED = (
    "model.logit_scale",
    "model.positional_embedding",
    "model.text_projection",
    "model.token_embedding.weight",
    "model.ln_final.weight",
    "model.ln_final.bias",
)
TEXT_FIELDS = ("width", "layers", "heads", "vocab_size", "context_length")
VISION_FIELDS = ("width", "layers", "head_width", "image_size", "patch_size")


def text_config(config: Mapping) -> dict:
    """Fields of CLIPTextConfig from an open_clip config (``embed_dim``, ``text_cfg``).

    The number of heads shows in no shape, so the config is needed. Raises PipelineError for unknown settings.
    """
    fields, (width, layers, heads, vocab, context) = _section(config, "text_cfg", TEXT_FIELDS)
    if width % heads:
        raise PipelineError(f"text_cfg: width {width} is not a multiple of heads {heads}; mend one of them")
    return fields | {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "vocab_size": vocab,
        "max_position_embeddings": context,
        # the tokenizer's layout: the two last ids start and end a text, zeros fill up
        "bos_token_id": vocab - 2,
        "eos_token_id": vocab - 1,
        "pad_token_id": 0,
    }


def vision_config(config: Mapping) -> dict:
    """Fields of CLIPVisionConfig from an open_clip config (``embed_dim``, ``vision_cfg``).

    Raises PipelineError for unknown settings.
    """
    fields, (width, layers, head, size, patch) = _section(config, "vision_cfg", VISION_FIELDS)
    if width % head or size % patch:
        raise PipelineError(
            f"vision_cfg: width {width} must be a multiple of head_width {head}, and image_size {size} of "
            f"patch_size {patch}; mend the config"
        )
    return fields | {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // head,
        "image_size": size,
        "patch_size": patch,
        "num_channels": 3,
    }


def convert_text(state: State, config: Mapping) -> dict[str, torch.Tensor]:
    """State dict of CLIPTextModelWithProjection from the official text wrapper's (keys ``model.*``).

    ``config``: of open_clip. ``TEXT_UNUSED`` is left out. Raises PipelineError where keys or shapes do not fit.
    """
    return convert(_text_rules(config), state, "the text tower", TEXT_UNUSED)


def export_text(state: State, config: Mapping) -> dict[str, torch.Tensor]:
    """Inverse of ``convert_text``, without the entries of ``TEXT_UNUSED``; the same errors."""
    return export(_text_rules(config), state, "the text tower")


def convert_image(state: State, config: Mapping) -> dict[str, torch.Tensor]:
    """State dict of CLIPVisionModelWithProjection from the official image wrapper's (keys ``model.*``).

    ``config``: of open_clip. ``IMAGE_UNUSED`` is left out. Raises PipelineError where keys or shapes do not fit.
    """
    return convert(_image_rules(config), state, "the image tower", IMAGE_UNUSED)


def export_image(state: State, config: Mapping) -> dict[str, torch.Tensor]:
    """Inverse of ``convert_image``, without the entries of ``IMAGE_UNUSED``; the same errors."""
    return export(_image_rules(config), state, "the image tower")


def text_states(model: nn.Module, tokens: torch.Tensor, layer: str = "penultimate") -> torch.Tensor:
    """Tokens [batch, length] -> states [batch, length, width] of a CLIPTextModelWithProjection, no projection.

    ``layer``: ``penultimate`` is the state before the last block, ``last`` the one after it; both then pass the
    final LayerNorm. Padding is not masked, as in the official code. Raises PipelineError for any other layer.
    """
    if layer not in ("penultimate", "last"):
        raise PipelineError(f"layer {layer!r} of the text tower is unknown; use 'penultimate' or 'last'")
    tower = model.text_model
    if layer == "last":
        return tower(input_ids=tokens).last_hidden_state
    # hidden_states: the embeddings, then the output of each block; the final LayerNorm is not in it
    states = tower(input_ids=tokens, output_hidden_states=True).hidden_states
    return tower.final_layer_norm(states[-2])


def image_states(model: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Prepared pixels [batch, 3, size, size] -> tokens [batch, 1 + patches, width] of a CLIPVisionModelWithProjection.

    All tokens after the last block, class token first; neither post-LayerNorm nor projection.
    """
    return model.vision_model(pixel_values=pixels).last_hidden_state


def clip_image_preprocess(frames: torch.Tensor, size: int = 224) -> torch.Tensor:
    """Frames [..., 3, height, width] in [-1, 1] -> [..., 3, size, size], resized and normalised as CLIP wants.

    Raises PipelineError for other shapes, for integers and for values outside [-1, 1].
    """
    if frames.ndim < 4 or frames.shape[-3] != 3 or min(frames.shape[-2:]) < 2 or not frames.is_floating_point():
        raise PipelineError(
            f"frames for CLIP are {list(frames.shape)} of {frames.dtype}; give floats [..., 3, height, width] "
            "with at least 2x2 pixels"
        )
    if frames.numel() and not frames.detach().abs().max() <= 1.001:  # written so that NaN fails too
        raise PipelineError("frames for CLIP have values outside [-1, 1] or NaN; divide bytes by 127.5 and subtract 1")
    flat = frames.reshape(-1, *frames.shape[-3:])
    factors = [side / size for side in flat.shape[-2:]]
    if max(factors) > 1:  # one shrinking side is enough for both to be blurred, as in kornia
        for axis, factor in zip((-2, -1), factors, strict=True):
            flat = _blur(flat, factor, axis)
    flat = functional.interpolate(flat, size=(size, size), mode="bicubic", align_corners=True)
    mean, std = (torch.tensor(values, dtype=flat.dtype, device=flat.device).view(3, 1, 1) for values in (MEAN, STD))
    return (((flat + 1) / 2 - mean) / std).reshape(*frames.shape[:-2], size, size)


def _section(config: Mapping, name: str, names: tuple[str, ...]) -> tuple[dict, list]:
    """Fields that both towers share, and the values of ``names``."""
    embed, section = required(config, ("embed_dim", name), "the open_clip config")
    values = required(section, names, name)
    unknown = sorted(set(section) - {*names, "mlp_ratio"})
    if unknown:
        raise PipelineError(
            f"{name}: the conversion does not know {', '.join(unknown[:3])}; "
            "it takes plain open_clip towers such as ViT-H-14 (see VIT_H_14)"
        )
    fields = {
        "projection_dim": embed,
        "intermediate_size": int(values[0] * section.get("mlp_ratio", 4.0)),
        "hidden_act": "quick_gelu" if config.get("quick_gelu") else "gelu",
        "layer_norm_eps": 1e-5,
    }
    return fields, values


def _text_rules(config: Mapping) -> list[Rule]:
    fields = text_config(config)
    width, embed = fields["hidden_size"], fields["projection_dim"]
    there = "text_model.embeddings"
    return [
        Rule(
            "model.positional_embedding",
            (f"{there}.position_embedding.weight",),
            (fields["max_position_embeddings"], width),
        ),
        Rule("model.text_projection", ("text_projection.weight",), (width, embed), "transpose"),
        *pair("model.token_embedding", f"{there}.token_embedding", fields["vocab_size"], width, bias=False),
        *_blocks("model.transformer.resblocks", "text_model.encoder.layers", fields),
        *pair("model.ln_final", "text_model.final_layer_norm", width),
    ]


def _image_rules(config: Mapping) -> list[Rule]:
    fields = vision_config(config)
    width, embed, patch = fields["hidden_size"], fields["projection_dim"], fields["patch_size"]
    positions = (fields["image_size"] // patch) ** 2 + 1
    here, there = "model.visual", "vision_model.embeddings"
    return [
        Rule(f"{here}.class_embedding", (f"{there}.class_embedding",), (width,)),
        Rule(f"{here}.positional_embedding", (f"{there}.position_embedding.weight",), (positions, width)),
        Rule(f"{here}.proj", ("visual_projection.weight",), (width, embed), "transpose"),
        *pair(f"{here}.conv1", f"{there}.patch_embedding", width, 3, patch, patch, bias=False),
        *pair(f"{here}.ln_pre", "vision_model.pre_layrnorm", width),  # spelt so in transformers
        *_blocks(f"{here}.transformer.resblocks", "vision_model.encoder.layers", fields),
        *pair(f"{here}.ln_post", "vision_model.post_layernorm", width),
    ]


def _blocks(official: str, library: str, fields: dict) -> list[Rule]:
    width, inner = fields["hidden_size"], fields["intermediate_size"]
    rules = []
    for layer in range(fields["num_hidden_layers"]):
        here, there = f"{official}.{layer}", f"{library}.{layer}"
        rules += pair(f"{here}.ln_1", f"{there}.layer_norm1", width)
        for kind, shape in (("weight", (3 * width, width)), ("bias", (3 * width,))):
            names = tuple(f"{there}.self_attn.{letter}_proj.{kind}" for letter in "qkv")
            rules.append(Rule(f"{here}.attn.in_proj_{kind}", names, shape, "split"))
        rules += pair(f"{here}.attn.out_proj", f"{there}.self_attn.out_proj", width, width)
        rules += pair(f"{here}.ln_2", f"{there}.layer_norm2", width)
        rules += pair(f"{here}.mlp.c_fc", f"{there}.mlp.fc1", inner, width)
        rules += pair(f"{here}.mlp.c_proj", f"{there}.mlp.fc2", width, inner)
    return rules


def _blur(images: torch.Tensor, factor: float, axis: int) -> torch.Tensor:
    """Gaussian blur of [batch, 3, height, width] along ``axis`` (-2 or -1) for shrinking it by ``factor``."""
    sigma = max((factor - 1) / 2, 0.001)
    taps = int(max(4 * sigma, 3))
    taps += taps % 2 == 0
    offsets = torch.arange(taps, dtype=images.dtype, device=images.device) - taps // 2
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).view(*((1, 1, taps, 1) if axis == -2 else (1, 1, 1, taps))).repeat(3, 1, 1, 1)
    margin = (0, 0, taps // 2, taps // 2) if axis == -2 else (taps // 2, taps // 2, 0, 0)
    return functional.conv2d(functional.pad(images, margin, mode="reflect"), kernel, groups=3)
