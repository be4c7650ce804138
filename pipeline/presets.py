"""Writes params.yaml: a preset, or the reader's own folders put into it. Comments of the YAML files are kept."""

import copy
import io
from pathlib import Path

from ruamel.yaml import YAML

from pipeline.errors import PipelineError
from pipeline.params.file import validate_params

WIDTH = 4096  # never fold a line


def _yaml() -> YAML:
    yaml = YAML()
    yaml.width = WIDTH
    yaml.preserve_quotes = True
    yaml.representer.add_representer(type(None), lambda rep, _: rep.represent_scalar("tag:yaml.org,2002:null", "null"))
    return yaml


def read(path: Path):
    """A YAML file as a tree that keeps its comments."""
    return _yaml().load(path.read_text())


def overlay(base, changes) -> None:
    """Put ``changes`` into ``base`` in place: mappings merge, null removes a key, all else replaces.

    The key "*" with null removes every key that ``changes`` does not name.
    """
    if "*" in changes:
        for key in base.keys() - changes.keys():
            del base[key]
    for key, value in changes.items():
        if key == "*":
            continue
        if value is None:
            base.pop(key, None)
        elif isinstance(value, dict) and isinstance(base.get(key), dict):
            overlay(base[key], value)
        else:
            base[key] = value


def preset(folder: Path, name: str):
    """The tree of a preset: demo.yaml, or demo.yaml with the overlay NAME.yaml."""
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in names:
        raise PipelineError(f"there is no preset {name!r}; there are: {', '.join(names)}")
    tree = read(folder / "demo.yaml")
    if name != "demo":
        overlay(tree, read(folder / f"{name}.yaml"))
    return tree


def write(tree, path: Path) -> None:
    """Validate and write in one step; raises PipelineError and leaves the file alone if the tree is not valid."""
    text = io.StringIO()
    _yaml().dump(tree, text)
    validate_params(YAML(typ="safe").load(text.getvalue()), str(path))
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text.getvalue())
    partial.replace(path)


def use_webvid(tree, listing: str, videos: str, columns: dict[str, str | None], windows: int) -> None:
    """Fine-tune on the reader's own clips: two more clip sets and latents, one a stride rule of the demo's."""
    renamed = {}
    for name in ("webvid_strided", "webvid_fixed"):
        own = name.replace("webvid", "own")
        tree["clip_sets"][own] = {
            **copy.deepcopy(tree["clip_sets"][name]),
            "listing": listing,
            "videos": videos,
            "columns": dict(columns),
            "windows": windows,
        }
        tree["latents"][own] = {**copy.deepcopy(tree["latents"][name]), "clips": own}
        renamed[name] = own
    for item in [*tree["backbones"].values(), *tree["trainings"].values()]:
        item["latents"] = renamed.get(item["latents"], item["latents"])


def use_evaluation(tree, data: str, listing: str, videos: str, windows: int) -> None:
    """Take the conditions for ``data`` (ucf101 or imagebench) from the reader's own folder."""
    tree["clip_sets"][data].update({"listing": listing, "videos": videos, "windows": windows})
    if data == "ucf101":
        tree["probe"]["perfect"]["scenes"] = 0  # only the embedded world's scenes can be given other motions
