"""Error of bfloat16 against float32, a model a line: python benchmarks/precision.py

Relative root mean square of the difference, on random weights at middle width (the UNets also over a guided sample,
where errors of steps add up or cancel).
"""

import copy

import torch
from project import ROOT  # noqa: F401  (puts the project on the path)
from unet_speed import SIZES, config_of, our_call, sample

from pipeline.backbones.registry import FAMILIES, build
from pipeline.encoders.clip_outputs import image_states, text_states
from pipeline.footprint import example_inputs


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return ((found.float() - wanted).square().mean() / wanted.square().mean()).sqrt().item()


@torch.inference_mode()
def unet(family: str) -> dict[str, float]:
    channels, latent, _ = SIZES["small"]
    torch.manual_seed(0)
    exact = build(family, config_of(family, channels)).eval()
    for parameter in exact.parameters():
        parameter += 0.02 * torch.randn_like(parameter)
    fast = copy.deepcopy(exact).to(torch.bfloat16)
    x, t, conditions = example_inputs(exact, (4, 16, *latent), 1, "cpu", torch.float32)
    conditions = conditions.map(lambda value: value + 0.1 * torch.randn_like(value))
    text = None if conditions.text is None else torch.zeros(conditions.text.shape[1:])
    empty = exact.unconditional(conditions, text, torch.zeros(1, *conditions.image_context.shape[1:]))

    def call(backbone, x, *rest):
        return our_call(backbone, x.to(backbone.dtype), *rest).float()

    return {
        "one call": error(call(fast, x, t, conditions), call(exact, x, t, conditions)),
        "guided, 10 steps": error(
            sample(call, fast, x, t, conditions, empty, 10), sample(call, exact, x, t, conditions, empty, 10)
        ),
    }


@torch.inference_mode()
def frozen() -> dict[str, float]:
    from diffusers import AutoencoderKL
    from transformers import (
        CLIPTextConfig,
        CLIPTextModelWithProjection,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
    )

    torch.manual_seed(0)
    levels = [64, 128, 128]
    vae = AutoencoderKL(
        block_out_channels=levels, down_block_types=["DownEncoderBlock2D"] * 3, up_block_types=["UpDecoderBlock2D"] * 3,
        layers_per_block=2, latent_channels=4,
    ).eval()  # fmt: skip
    width = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 6, "num_attention_heads": 4,
             "projection_dim": 128}  # fmt: skip
    image = CLIPVisionModelWithProjection(CLIPVisionConfig(**width, image_size=112, patch_size=14)).eval()
    text = CLIPTextModelWithProjection(CLIPTextConfig(**width, max_position_embeddings=77, vocab_size=1000)).eval()
    pixels, latents, ids = torch.rand(1, 3, 64, 64) * 2 - 1, torch.randn(1, 4, 16, 16), torch.randint(3, 900, (1, 77))
    pictures = torch.randn(1, 3, 112, 112)
    half = {"vae": copy.deepcopy(vae), "image": copy.deepcopy(image), "text": copy.deepcopy(text)}
    half = {name: model.to(torch.bfloat16) for name, model in half.items()}
    low = torch.bfloat16
    return {
        "VAE encoder": error(half["vae"].encode(pixels.to(low)).latent_dist.mean, vae.encode(pixels).latent_dist.mean),
        "VAE decoder": error(half["vae"].decode(latents.to(low)).sample, vae.decode(latents).sample),
        "CLIP image tower": error(image_states(half["image"], pictures.to(low)), image_states(image, pictures)),
        "CLIP text tower": error(text_states(half["text"], ids), text_states(text, ids)),
    }


def main() -> None:
    for family in FAMILIES:
        for name, value in unet(family).items():
            print(f"{family + ' UNet, ' + name:<34} {value:.2e}")
    for name, value in frozen().items():
        print(f"{name:<34} {value:.2e}")


if __name__ == "__main__":
    main()
