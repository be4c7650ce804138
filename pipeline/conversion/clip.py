"""OpenCLIP towers (``cond_stage_model`` and ``embedder`` of DynamiCrafter and VideoCrafter) in transformers, and back.

Sources: github.com/mlfoundations/open_clip (src/open_clip/transformer.py) for the layout and the wrappers
lvdm.modules.encoders.condition for the outputs. What a wrapper stores without using it is left out of the conversion:
the text wrapper's ``logit_scale``, and all text entries that stay in the image wrapper after its text blocks are gone.
The text wrapper has no visual tower. ``text_projection``, ``visual.ln_post`` and ``visual.proj`` enter no output
(pipeline/encoders/clip_outputs.py) either, but have a place in the transformers classes and are converted.
"""

from collections.abc import Mapping

import torch

from pipeline.conversion.rules import Rule, State, convert, export, pair, required
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
