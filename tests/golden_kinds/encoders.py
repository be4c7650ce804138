"""The autoencoder and the CLIP towers: official weights by the recipe, through the conversion, in the libraries."""

import re

import torch

from tests.golden_kinds.core import ELSEWHERE, Case, Comparison, Document, recipe_state


def autoencoder(document: Document) -> list[Case]:
    """SD's AutoencoderKL by ``ddconfig``."""
    config = document.content.get("config", {})
    if "ddconfig" not in config:
        return []
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    from pipeline.conversion.vae import convert_vae, vae_config

    def compare(name: str) -> list[Comparison]:
        factor = re.search(r"times_([\d.]+)$", name)
        vae = AutoencoderKL(**vae_config(config["ddconfig"], config["embed_dim"], float(factor[1]) if factor else 1.0))
        vae.load_state_dict(convert_vae(recipe_state(document.content["keys"]), config))
        given = document.inputs()
        if name.startswith("decode"):
            found = vae.eval().decode(given["z"]).sample
        else:
            posterior = vae.eval().encode(given["image"].clamp(-1, 1)).latent_dist
            sample = posterior.mean + posterior.std * given["eps"]
            found = {
                "mean": posterior.mean, "logvar": posterior.logvar, "std": posterior.std,
                "sample_with_input_eps": sample,
            }.get(name, sample * vae.config.scaling_factor)  # fmt: skip
        return [Comparison(found, document.tensors[f"expected.{name}"], ELSEWHERE)]

    names = [key.removeprefix("expected.") for key in sorted(document.tensors)]
    return [Case(document.name, name, lambda name=name: compare(name)) for name in names]


def clip_towers(document: Document) -> list[Case]:
    """OpenCLIP's text and image tower as the official wrappers call them, with the preprocessing of pictures."""
    content = document.content
    config = next((content[key] for key in content if key.endswith("open_clip_config")), None)
    if config is None:
        return []
    from transformers.models.clip import modeling_clip as library
    from transformers.models.clip.configuration_clip import CLIPTextConfig, CLIPVisionConfig

    from pipeline.conversion import clip
    from pipeline.encoders.clip_outputs import clip_image_preprocess, image_states, text_states

    size = config["vision_cfg"]["image_size"]

    def compare(key: str) -> list[Comparison]:
        part, _, name = key.partition(".")
        if part == "text":
            state = clip.convert_text(recipe_state(content["text_keys"]), config)
            tower = library.CLIPTextModelWithProjection(CLIPTextConfig(**clip.text_config(config)))
            tower.load_state_dict(state)
            found = text_states(tower.eval(), document.tensors["text.tokens"].long(), name)
        elif name.startswith("preprocessed_"):
            height, width, every = map(int, re.fullmatch(r"preprocessed_(\d+)x(\d+)_every(\d+)", name).groups())
            found = clip_image_preprocess(_wave(height, width), size)[..., ::every, ::every]
        else:
            state = clip.convert_image(recipe_state(content["image_keys"]), config)
            tower = library.CLIPVisionModelWithProjection(CLIPVisionConfig(**clip.vision_config(config)))
            tower.load_state_dict(state)
            shape = re.fullmatch(r"tokens_(\d+)x(\d+)", name)
            image = _wave(int(shape[1]), int(shape[2])) if shape else torch.zeros(1, 3, size, size)
            found = image_states(tower.eval(), clip_image_preprocess(image, size))
        return [Comparison(found, document.tensors[key], ELSEWHERE)]

    names = [key for key in sorted(document.tensors) if key != "text.tokens"]
    return [Case(document.name, name, lambda name=name: compare(name)) for name in names]


def _wave(height: int, width: int) -> torch.Tensor:
    """The recipe's picture: pixel(c, i, j) = sin(0.21 (c + 1) i + 0.13 j), (1, 3, H, W)."""
    c, i, j = torch.meshgrid(torch.arange(3.0), torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
    return torch.sin(0.21 * (c + 1) * i + 0.13 * j)[None]
