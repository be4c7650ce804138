"""The moments that Analytic-Init starts from, on disk."""

import hashlib
import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from pipeline.errors import PipelineError


def read_moments(path: Path, vae_hash: str) -> tuple[Tensor, float]:
    """Mean (C, F, h, w), float32, and variance. Raises PipelineError for another VAE's moments or a damaged file."""
    try:
        with safe_open(path, framework="pt") as file:
            mean, variance = file.get_tensor("mean"), file.get_tensor("variance")
            found = json.loads((file.metadata() or {})["moments"])
    except (SafetensorError, FileNotFoundError, KeyError) as error:
        raise PipelineError(f"{path} holds no moments ({error}); run the stage moments again") from None
    if found["vae_hash"] != vae_hash:
        raise PipelineError(
            f"{path}: moments of the latents of VAE {found['vae_hash'][:12]}, but the backbone uses "
            f"VAE {vae_hash[:12]}; "
            f"point backbones.<name>.latents at latents of the same encoders"
        )
    return mean.float(), float(variance)


def moments_hash(path: Path) -> str:
    """sha256 of the file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
