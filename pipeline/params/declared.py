"""What a stage sees of the parameters."""

from typing import Any

from pydantic import BaseModel

from pipeline.errors import PipelineError


def declared_values(params: Any, paths: tuple[str, ...]) -> dict[str, Any]:
    """The declared part of the parameters as plain values by path."""
    values = {}
    for path in paths:
        node: Any = params
        for part in path.split("."):
            node = node[part] if isinstance(node, dict) else getattr(node, part)
        values[path] = _plain(node)
    return values


def _plain(node: Any) -> Any:
    if isinstance(node, BaseModel):
        return node.model_dump()
    if isinstance(node, dict):
        return {key: _plain(value) for key, value in node.items()}
    return node


class Declared:
    """The part of the parameters that dvc.yaml declares for one stage; reading any other raises PipelineError."""

    def __init__(self, node: Any, declared: tuple[str, ...], stage: str, path: str = ""):
        self._node, self._declared, self._stage, self._path = node, declared, stage, path

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._child(name)

    def __getitem__(self, name: str) -> Any:
        return self._child(name)

    def _child(self, name: str) -> Any:
        path = f"{self._path}.{name}" if self._path else name
        if path not in self._declared and not any(item.startswith(path + ".") for item in self._declared):
            raise PipelineError(
                f"stage {self._stage} read the parameter {path}, which dvc.yaml does not declare for it; "
                f"add it under params: there, so that a change of it reruns the stage"
            )
        node = self._node[name] if isinstance(self._node, dict) else getattr(self._node, name)
        return node if path in self._declared else Declared(node, self._declared, self._stage, path)
