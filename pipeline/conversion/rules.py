"""Renaming tables: each rule takes one tensor of the official code to one or three of a library, and back.

Both directions check the whole table first, so a wrong file fails with names instead of half a model.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from pipeline.errors import PipelineError

State = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Rule:
    """``official`` key of ``shape``, the ``library`` keys it becomes, and how:

    - ``same``: the values as they are
    - ``linear``: a 1x1 convolution [out, in, 1, 1] becomes a linear layer [out, in]
    - ``transpose``: a matrix [in, out] that multiplies from the right becomes a linear weight [out, in]
    - ``split``: query, key and value stacked along the first axis become three tensors
    """

    official: str
    library: tuple[str, ...]
    shape: tuple[int, ...]
    kind: str = "same"

    @property
    def library_shape(self) -> tuple[int, ...]:
        """Shape of each library tensor."""
        if self.kind == "linear":
            return self.shape[:2]
        if self.kind == "transpose":
            return self.shape[::-1]
        if self.kind == "split":
            return (self.shape[0] // 3, *self.shape[1:])
        return self.shape

    def forward(self, value: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Official tensor -> library tensors."""
        if self.kind == "split":
            return value.chunk(3)
        if self.kind == "transpose":  # contiguous, as safetensors writes no other layout
            return (value.t().contiguous(),)
        return (value.reshape(self.library_shape),)

    def back(self, values: list[torch.Tensor]) -> torch.Tensor:
        """Library tensors -> official tensor."""
        if self.kind == "split":
            return torch.cat(values)
        if self.kind == "transpose":
            return values[0].t().contiguous()
        return values[0].reshape(self.shape)


def pair(official: str, library: str, *weight: int, kind: str = "same", bias: bool = True) -> list[Rule]:
    """The rules of a layer: its weight of shape ``weight`` and, with ``bias``, one bias per output channel."""
    rules = [Rule(f"{official}.weight", (f"{library}.weight",), weight, kind)]
    return rules + [Rule(f"{official}.bias", (f"{library}.bias",), weight[:1])] * bias


def convert(rules: list[Rule], state: State, what: str, unused: tuple[str, ...] = ()) -> dict[str, torch.Tensor]:
    """Library state dict from an official one; keys in ``unused`` may be there and are left out.

    The tensors may share memory with the given ones.
    Raises PipelineError where keys or shapes are not those of the rules.
    """
    used = {key: value for key, value in state.items() if key not in unused}
    _check({rule.official: rule.shape for rule in rules}, used, f"{what} of the official checkpoint")
    return {
        name: value
        for rule in rules
        for name, value in zip(rule.library, rule.forward(used[rule.official]), strict=True)
    }


def export(rules: list[Rule], state: State, what: str) -> dict[str, torch.Tensor]:
    """Official state dict from a library's; the inverse of ``convert``, bit for bit. Raises PipelineError as that."""
    _check({name: rule.library_shape for rule in rules for name in rule.library}, state, f"{what} of the library")
    return {rule.official: rule.back([state[name] for name in rule.library]) for rule in rules}


def part(state: State, prefix: str) -> dict[str, torch.Tensor]:
    """The entries below ``prefix`` (for example ``first_stage_model.``), without it.

    Raises PipelineError where there are none.
    """
    found = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
    if not found:
        raise PipelineError(
            f"no key of the state dict starts with {prefix!r} (it has {some(list(state)) or 'none'}); "
            "check that this is a whole model checkpoint, or that its 'state_dict' entry was taken"
        )
    return found


def required(config: Mapping, names: tuple[str, ...], what: str) -> list:
    """The values of ``names`` in a config section. Raises PipelineError naming those that lack."""
    lacking = [name for name in names if name not in config]
    if lacking:
        raise PipelineError(f"{what} lacks {some(lacking)}; copy the section from the official model config")
    return [config[name] for name in names]


def _check(expected: dict[str, tuple[int, ...]], state: State, what: str) -> None:
    problems = []
    if missing := [key for key in expected if key not in state]:
        problems.append(f"missing keys: {some(missing)}")
    if unexpected := [key for key in state if key not in expected]:
        problems.append(f"unexpected keys: {some(unexpected)}")
    wrong = [
        f"{key} is {list(state[key].shape)}, expected {list(shape)}"
        for key, shape in expected.items()
        if key in state and tuple(state[key].shape) != shape
    ]
    if wrong:
        problems.append(f"wrong shapes: {some(wrong)}")
    if problems:
        raise PipelineError(
            f"{what} does not fit its config: {'; '.join(problems)}; "
            "check the config (widths, depths) against the file, and that the prefix of the part was taken off"
        )


def some(names: list[str]) -> str:
    """Up to three of them, and how many more."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
