"""Parameters of the frozen encoders and of what they make of clips."""

from typing import Any, Literal

from pipeline.params.base import Group, Name, Positive, PositiveFloat
from pipeline.params.released import ReleasedFile, ReleasedFolder


class EncoderTraining(Group):
    seed: int
    vae_steps: Positive
    vae_batch: Positive  # frames
    vae_learning_rate: PositiveFloat
    kl_weight: PositiveFloat
    tower_steps: Positive
    tower_batch: Positive  # pictures with captions
    tower_learning_rate: PositiveFloat


class LvdmEncoders(Group):
    """VAE and OpenCLIP towers inside a checkpoint of VideoCrafter1 or DynamiCrafter."""

    kind: Literal["lvdm"]
    clips: Name  # whose frames check the conversion: their reconstruction error is logged
    checkpoint: ReleasedFile
    scaling_factor: PositiveFloat
    autoencoder: dict[str, Any]  # official config: embed_dim, ddconfig
    towers: dict[str, Any]  # open_clip config: embed_dim, vision_cfg, text_cfg
    tokenizer: ReleasedFolder  # CLIP's vocab.json and merges.txt


class DiffusersEncoders(Group):
    """VAE and image tower of Stable Video Diffusion, as diffusers lays them out."""

    kind: Literal["diffusers"]
    clips: Name
    vae: dict[str, Any]  # fields of AutoencoderKLTemporalDecoder
    vae_weights: ReleasedFile
    image_tower: dict[str, Any]  # fields of CLIPVisionConfig
    image_tower_weights: ReleasedFile


class TrainedEncoders(Group):
    kind: Literal["trained"]
    clips: Name
    vae: dict[str, Any]  # fields of diffusers' AutoencoderKL
    image_tower: dict[str, Any]  # fields of transformers' CLIPVisionConfig
    text_tower: dict[str, Any]  # fields of transformers' CLIPTextConfig
    training: EncoderTraining


class Latents(Group):
    clips: Name
    encoders: Name
    batch_size: Positive  # clips
    flip: bool  # each clip a second time, mirrored: a random horizontal flip without encoding in training
    picture_frames: Literal["first", "all"]  # frames that CLIP sees: those that may condition a training clip
    tokens: Literal["float32", "float16"]  # how what CLIP made is stored; float16 rounds more finely than bf16 training
