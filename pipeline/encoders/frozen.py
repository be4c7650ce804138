"""The frozen encoders in one on-disk layout: vae/, image_tower/, text_tower/, tokenizer/, encoders.json.

VAE: diffusers' AutoencoderKL, or AutoencoderKLTemporalDecoder (SVD's). Towers: transformers' CLIP; a model that takes
no text has no text tower. All weights are safetensors.
"""

import hashlib
import json
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.encoders.clip_outputs import clip_image_preprocess, image_states, text_states
from pipeline.encoders.tokenizer import load_tokenizer, train_tokenizer
from pipeline.errors import PipelineError

PARTS = ("vae", "image_tower", "text_tower")
NO_PART = "none"  # in place of the hash of a tower that a model has not


class Encoders(nn.Module):
    """VAE, image tower and text tower with tokenizer; parts that were not loaded, or that there are not, are None."""

    def __init__(self, vae, image_tower, text_tower, tokenizer, hashes: dict[str, str] | None = None):
        super().__init__()
        self.vae, self.image_tower, self.text_tower = vae, image_tower, text_tower
        self.tokenizer, self.hashes = tokenizer, hashes or {}

    @classmethod
    def build(cls, vae: dict, image_tower: dict, text_tower: dict, captions: list[str]) -> "Encoders":
        """Untrained encoders from config fields; the tokenizer is a byte-level BPE trained on ``captions``."""
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
        from transformers.models.clip.configuration_clip import CLIPTextConfig, CLIPVisionConfig
        from transformers.models.clip.modeling_clip import CLIPTextModelWithProjection, CLIPVisionModelWithProjection

        levels = len(vae["block_out_channels"])
        tokenizer = train_tokenizer(captions, text_tower["vocab_size"], text_tower["max_position_embeddings"])
        special = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
        return cls(
            AutoencoderKL(
                down_block_types=["DownEncoderBlock2D"] * levels, up_block_types=["UpDecoderBlock2D"] * levels,
                mid_block_add_attention=False, **vae,
            ),
            CLIPVisionModelWithProjection(CLIPVisionConfig(**image_tower)),
            CLIPTextModelWithProjection(CLIPTextConfig(**{**text_tower, **special})),
            tokenizer,
        )  # fmt: skip

    def save(self, folder: Path, source: dict | None = None) -> None:
        """Write every part; ``source`` says where released weights came from."""
        folder.mkdir(parents=True, exist_ok=True)
        hashes = dict.fromkeys(PARTS, NO_PART)
        for name in PARTS:
            if getattr(self, name) is not None:
                getattr(self, name).save_pretrained(folder / name, safe_serialization=True)
                hashes[name] = _weights_hash(folder / name)
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(folder / "tokenizer")
        record = {"hashes": hashes} | ({"source": source} if source else {})
        (folder / "encoders.json").write_text(json.dumps(record, indent=2))

    @classmethod
    def load(cls, folder: Path, parts: tuple[str, ...] = PARTS) -> "Encoders":
        """The asked parts, frozen, in eval mode. Raises PipelineError where one is missing or is another."""
        try:
            recorded = json.loads((folder / "encoders.json").read_text())["hashes"]
            hashes = {name: recorded[name] for name in PARTS}
        except FileNotFoundError:
            raise PipelineError(
                f"{folder} holds no encoders.json: it is not an encoders folder; run its stage again"
            ) from None
        except (ValueError, KeyError) as error:
            raise PipelineError(f"{folder}/encoders.json is damaged ({error}); run the stage again") from None
        parts = tuple(name for name in parts if hashes[name] != NO_PART)
        for name in parts:
            if _weights_hash(folder / name) != hashes[name]:
                raise PipelineError(
                    f"{folder / name}: the weights are not those that encoders.json records; run the stage again"
                )
        loaded = {name: _load_part(folder / name, name) if name in parts else None for name in PARTS}
        encoders = cls(
            tokenizer=load_tokenizer(folder / "tokenizer") if "text_tower" in parts else None, hashes=hashes, **loaded
        )
        return encoders.eval().requires_grad_(False)

    @property
    def vae_hash(self) -> str:
        return self.hashes["vae"]

    @property
    def hash(self) -> str:
        """One hash of all parts."""
        return hashlib.sha256("".join(self.hashes[name] for name in PARTS).encode()).hexdigest()

    @property
    def scaling_factor(self) -> float:
        """Model scale = VAE latent times this."""
        return self.vae.config.scaling_factor

    def encode(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) in [-1, 1] -> posterior mean and log variance, (N, C, h, w), unscaled."""
        posterior = self.vae.encode(frames).latent_dist
        return posterior.mean, posterior.logvar

    def decode(self, latents: Tensor) -> Tensor:
        """(B, C, F, h, w) in model scale -> (B, 3, F, H, W) in [-1, 1]."""
        batch, frames = latents.shape[0], latents.shape[2]
        told = {"num_frames": frames} if type(self.vae).__name__ == "AutoencoderKLTemporalDecoder" else {}
        pixels = self.vae.decode(latents.transpose(1, 2).flatten(0, 1) / self.scaling_factor, **told).sample
        return pixels.unflatten(0, (batch, -1)).transpose(1, 2).clamp(-1, 1)

    def image(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) in [-1, 1] -> the last block's tokens (N, T, D), not normed, and the embedding (N, 1, D')."""
        pixels = clip_image_preprocess(frames, self.image_tower.config.image_size)
        tokens = image_states(self.image_tower, pixels)
        pooled = self.image_tower.vision_model.post_layernorm(tokens[:, 0])
        return tokens, self.image_tower.visual_projection(pooled).unsqueeze(1)

    def token_ids(self, texts: list[str]) -> Tensor:
        """(N, L) ids, cut and padded to the tower's length."""
        length = self.text_tower.config.max_position_embeddings
        return self.tokenizer(texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt")[
            "input_ids"
        ]

    def text(self, texts: list[str]) -> Tensor:
        """Texts -> (N, L, D): the state before the last block, normed; (N, 1, 1) where there is no tower."""
        if self.text_tower is None:
            return torch.zeros(len(texts), 1, 1)
        return text_states(self.text_tower, self.token_ids(texts).to(self.text_tower.device))

    def null(self, height: int, width: int) -> dict[str, Tensor]:
        """Conditions of nothing: empty text (L, D), tokens (T, D) and embedding (1, D') of a grey picture."""
        tokens, embedding = self.image(torch.zeros(1, 3, height, width, device=self.image_tower.device))
        return {"text": self.text([""])[0], "image_tokens": tokens[0], "image_embedding": embedding[0]}


def to_pixels(frames) -> Tensor:
    """uint8 (…, H, W, 3) numpy -> float (…, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(frames).movedim(-1, -3).float() / 127.5 - 1


def to_uint8(frames: Tensor):
    """float (…, 3, H, W) in [-1, 1] -> uint8 (…, H, W, 3) numpy."""
    return ((frames + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).movedim(-3, -1).cpu().numpy()


def _weights_hash(folder: Path) -> str:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise PipelineError(f"{folder} holds no safetensors weights; run the stage that makes it again")
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _load_part(folder: Path, name: str):
    if name == "vae":
        kind = json.loads((folder / "config.json").read_text()).get("_class_name")
        return _vae_class(kind).from_pretrained(folder, use_safetensors=True, local_files_only=True)
    from transformers.models.clip import modeling_clip

    kind = {"image_tower": "CLIPVisionModelWithProjection", "text_tower": "CLIPTextModelWithProjection"}[name]
    return getattr(modeling_clip, kind).from_pretrained(folder, use_safetensors=True, local_files_only=True)


def _vae_class(kind: str | None):
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder

    known = {"AutoencoderKL": AutoencoderKL, "AutoencoderKLTemporalDecoder": AutoencoderKLTemporalDecoder}
    if kind not in known:
        raise PipelineError(f"the VAE's config.json names the class {kind!r}; known are {' and '.join(known)}")
    return known[kind]
