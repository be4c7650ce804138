"""A backbone on disk: model.safetensors and config.json (family, model config, the VAE of its latents, parameters)."""

import hashlib
import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from pipeline.backbones.interface import Backbone
from pipeline.backbones.registry import build_empty
from pipeline.errors import PipelineError

WEIGHTS, CONFIG = "model.safetensors", "config.json"


def save_backbone(folder: Path, backbone: Backbone, vae_hash: str, params: dict) -> None:
    """Write weights and config; ``params``: the resolved parameters of the training, kept for the reader."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: value.detach().cpu().contiguous() for name, value in backbone.state_dict().items()}, folder / WEIGHTS
    )
    write_config(folder, backbone.family, backbone.config, vae_hash, params)


def write_config(
    folder: Path, family: str, model: dict, vae_hash: str, params: dict, source: dict[str, str] | None = None
) -> None:
    """config.json beside the weights; ``source``: the released file that they were converted from."""
    config = {"family": family, "model": model, "vae_hash": vae_hash, "params": params}
    config |= {"source": source} if source else {}
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True))


def load_backbone(folder: Path, family: str | None = None, vae_hash: str | None = None) -> Backbone:
    """The backbone of a checkpoint, in eval mode.

    Raises PipelineError where files are missing or damaged, or where family or VAE are not the asked ones.
    """
    try:
        config = json.loads((folder / CONFIG).read_text())
        weights = load_file(folder / WEIGHTS)
    except FileNotFoundError as error:
        raise PipelineError(
            f"{folder} is not a checkpoint: {Path(error.filename or WEIGHTS).name} is missing; run its stage again"
        ) from None
    except (SafetensorError, ValueError) as error:
        raise PipelineError(f"the checkpoint {folder} is damaged ({error}); run its stage again") from None
    lacking = [name for name in ("family", "model", "vae_hash") if name not in config]
    if lacking:
        raise PipelineError(f"the checkpoint {folder} is damaged ({CONFIG} lacks {lacking}); run its stage again")
    if family and config["family"] != family:
        raise PipelineError(
            f"{folder} holds a {config['family']} checkpoint, but {family} is asked for; "
            "check the row's training and backbone"
        )
    if vae_hash and config["vae_hash"] != vae_hash:
        raise PipelineError(
            f"{folder} was trained on latents of VAE {config['vae_hash'][:12]}, but these come from "
            f"VAE {vae_hash[:12]}; "
            f"use the encoders it was trained with, or train again"
        )
    backbone = build_empty(config["family"], config["model"])
    try:
        missing, unexpected = backbone.load_state_dict(weights, strict=False, assign=True)
    except RuntimeError as error:
        raise PipelineError(f"{folder}: shapes do not match its config: {error}") from None
    if missing or unexpected:
        raise PipelineError(
            f"{folder}: keys do not match its config: missing {missing[:3]}, unexpected {unexpected[:3]}"
        )
    return backbone.eval()


def weights_hash(folder: Path) -> str:
    """sha256 of a checkpoint's weights."""
    with (folder / WEIGHTS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
