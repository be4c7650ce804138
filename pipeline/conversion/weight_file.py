"""Weights as others publish them: found by path or hub name, checked by hash, read without running code, mapped.

Tensors stay on the disk until they are used, so that a checkpoint of 10 GB is converted in little memory.
"""

import hashlib
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pipeline.errors import PipelineError

HUB = "hf:"  # before OWNER/NAME
WRAPPERS = ("state_dict", "module")  # of Lightning and of DeepSpeed
DEEPSPEED_PREFIX = "_forward_module."


@dataclass(frozen=True)
class Found:
    """A released file on this disk."""

    path: Path
    sha256: str
    asked: str  # location, file and revision as params.yaml has them

    def record(self) -> dict[str, str]:
        """For the files that are made of it."""
        return {"source": self.asked, "sha256": self.sha256}


def find(location: str, file: str | None, revision: str | None, sha256: str | None) -> Found:
    """The file ``file`` below ``location`` (a folder, a file when ``file`` is None, or ``hf:OWNER/NAME``).

    Raises PipelineError where it is not there, cannot be fetched, or has another sha256.
    """
    asked = "/".join(part for part in (location, file) if part) + (f"@{revision}" if revision else "")
    path = _from_hub(location, file, revision) if location.startswith(HUB) else _local(location, file)
    with path.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if sha256 is not None and found != sha256.lower():
        raise PipelineError(
            f"{asked}: its sha256 is {found}, but params.yaml asks for {sha256}; "
            "fetch the file again, or put the hash of the file that you mean into params.yaml"
        )
    return Found(path, found, asked)


def whereabouts(location: str, file: str | None, revision: str | None) -> tuple[bool | None, str]:
    """Whether a released file is on this machine (None: it would be fetched), and that in words. Fetches nothing."""
    asked = "/".join(part for part in (location, file) if part)
    if not location.startswith(HUB):
        path = Path(location).expanduser()
        path = path / file if file else path
        return path.is_file(), f"{path}" + ("" if path.is_file() else " does not exist")
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(location.removeprefix(HUB), file or "", revision=revision)
    if isinstance(cached, str):
        return True, f"{asked}: in the local cache"
    return None, f"{asked}: not here yet; it would be fetched from the Hugging Face hub"


def folder(location: str, revision: str | None, patterns: list[str]) -> Path:
    """A folder of small files (a tokenizer) by path or hub name. Raises PipelineError where it is not there."""
    if not location.startswith(HUB):
        path = Path(location).expanduser()
        if not path.is_dir():
            raise PipelineError(f"{location} is no folder; give one, or hf:OWNER/NAME")
        return path
    from huggingface_hub import snapshot_download

    with _hub_errors(location, ", ".join(patterns), revision):
        return Path(snapshot_download(location.removeprefix(HUB), revision=revision, allow_patterns=patterns))


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name of a ``.safetensors`` file or a PyTorch checkpoint, mapped from the disk.

    The dictionaries that Lightning and DeepSpeed put around the weights are taken off. Raises PipelineError for a
    missing, damaged or truncated file, one that asks for code, and one that holds something else.
    """
    if not path.is_file():
        raise PipelineError(f"{path} does not exist or is no file; it should hold published weights")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else _checkpoint(path)
    except pickle.UnpicklingError as error:
        # torch words damage and refusal alike; only a refusal speaks of the global that was asked for.
        if "GLOBAL" in str(error) or "Unsupported" in str(error):
            raise needs_code(path) from None
        raise damaged(path, error) from None
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError) as error:
        if "TorchScript" in str(error):
            raise needs_code(path) from None
        raise damaged(path, error) from None
    for name in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(name), dict):
            state = state[name]
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise PipelineError(f"{path} is no state dict (names to tensors); save the network's state_dict() alone")
    return {name.removeprefix(DEEPSPEED_PREFIX): value for name, value in state.items()}


def _checkpoint(path: Path):
    # What torch.save wrote before version 1.6 is no zip archive and cannot be mapped.
    return torch.load(path, "cpu", weights_only=True, mmap=zipfile.is_zipfile(path))


def _local(location: str, file: str | None) -> Path:
    path = Path(location).expanduser()
    path = path / file if file else path
    if path.is_dir():
        raise PipelineError(f"{path} is a folder; name the file inside it under `file`")
    if not path.is_file():
        raise PipelineError(
            f"{path} does not exist; put the released file there, or name another place in params.yaml "
            f"({HUB}OWNER/NAME fetches from the Hugging Face hub)"
        )
    return path


def _from_hub(location: str, file: str | None, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download

    if not file:
        raise PipelineError(f"{location}: a repository holds many files; name the one under `file`")
    with _hub_errors(location, file, revision):
        return Path(hf_hub_download(location.removeprefix(HUB), file, revision=revision))


class _hub_errors:
    """Turns what huggingface_hub raises into one sentence on what to do."""

    def __init__(self, location: str, file: str, revision: str | None):
        self.what = f"{location}/{file}" + (f" at revision {revision}" if revision else "")

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        from huggingface_hub import errors

        if error is None:
            return False
        place = "give the path of a copy on this machine in params.yaml"
        if isinstance(error, errors.GatedRepoError):
            why = f"its owner asks you to accept a licence first: do so on its page, then `hf auth login`; or {place}"
        elif isinstance(error, errors.RepositoryNotFoundError):
            why = f"the hub has no such repository, or not for you; check the name, `hf auth login`, or {place}"
        elif isinstance(error, errors.RevisionNotFoundError):
            why = "the repository has no such revision; check it"
        elif isinstance(error, errors.RemoteEntryNotFoundError):
            why = "the repository has no such file; check `file`"
        elif isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled | OSError | ValueError):
            why = f"it is not in the local cache and the hub cannot be reached; {place}, or go online"
        else:
            return False
        raise PipelineError(f"{self.what} cannot be had: {why}") from error


def damaged(path: Path, error: Exception | str) -> PipelineError:
    """The error for a file that cannot be read."""
    lines = str(error).splitlines() or [type(error).__name__]
    return PipelineError(f"{path} is damaged, cut short or of another format ({lines[0]}); fetch the file again")


def needs_code(path: Path) -> PipelineError:
    """The error for a pickle of more than tensors."""
    return PipelineError(
        f"{path} asks for code to be unpickled, which is refused; "
        "give a file of plain tensors (a state dict, .safetensors, or arrays without objects)"
    )
