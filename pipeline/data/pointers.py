"""Pointer files: each stands in params.yaml for data behind an address of which DVC can keep no record.

It says what lay there when it was written. DVC records the pointer; the stage that reads the data compares it with what
lies there then, so that no result is recorded for data of which it was not made.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError
from ruamel.yaml import YAML, YAMLError

from pipeline.data.storage import look_at
from pipeline.errors import DataChanged, PipelineError, one_line
from pipeline.params.base import Group, Positive, Sha256
from pipeline.urls import POINTER, is_pointer, without_secret

HEAD = "# Stands for data behind an address that DVC cannot watch; written by `python -m pipeline pointer`.\n"


class Pointer(Group):
    url: Annotated[str, AfterValidator(without_secret)]
    files: Positive
    bytes: int = Field(ge=0)
    digest: Sha256  # of names, sizes and what marks their content


def pointer_to(url: str, key: str) -> Pointer:
    """What lies at an address now. Raises PipelineError, which names ``key``, where nothing does."""
    try:
        without_secret(url)
    except ValueError as error:
        raise PipelineError(f"{key}: {error}") from None
    return Pointer(url=url, **asdict(look_at(url, key)))


def read_pointer(path: Path | str) -> Pointer:
    """Raises PipelineError where it is not there, or is no pointer."""
    path = Path(path)
    try:
        return Pointer(**(YAML(typ="safe").load(path.read_text()) or {}))
    except FileNotFoundError:
        raise PipelineError(f"{path} does not exist; `python -m pipeline pointer {path} --url URL` writes it") from None
    except (OSError, UnicodeDecodeError, YAMLError, TypeError, ValidationError) as error:
        why = one_line(error)
        if isinstance(error, ValidationError):  # whose text has the values, too
            first = error.errors()[0]
            why = f"{'.'.join(map(str, first['loc']))}: {first['msg'].removeprefix('Value error, ')}"
        raise PipelineError(
            f"{path} is no pointer file ({why}); `python -m pipeline pointer {path} --url URL` writes it anew"
        ) from None


def write_pointer(path: Path, pointer: Pointer) -> None:
    """Raises PipelineError where the name is not that of a pointer, or it cannot be written."""
    if not is_pointer(path):
        raise PipelineError(f"{path}: a pointer's name ends with {POINTER}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.partial")
        with temporary.open("w") as file:
            file.write(HEAD)
            YAML().dump(pointer.model_dump(), file)
        temporary.replace(path)
    except OSError as error:
        raise PipelineError(f"{path} cannot be written ({one_line(error)})") from None


def followed(place: Path | str) -> Path | str:
    """The address that a pointer stands for; any other place as it is."""
    return read_pointer(place).url if is_pointer(place) else place


def require_unchanged(place: Path | str, key: str) -> None:
    """Raise DataChanged where a pointer's data is not what it says; other places DVC watches.

    Asks for the listing of every folder behind it.
    """
    if not is_pointer(place):
        return
    said = read_pointer(place)
    now = pointer_to(said.url, key)
    if now != said:
        raise DataChanged(
            f"{key}: what lies at {said.url} is not what {place} says ({said.files} files of {said.bytes} bytes then, "
            f"{now.files} of {now.bytes} now); `python -m pipeline pointer {place}` takes it as it is now, and the "
            f"next run makes again what rests on it"
        )
