"""Which pictures condition the samples of a data set, and with which replicate seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.evaluation.split import split_clips


@dataclass(frozen=True)
class Item:
    """One clip to be sampled."""

    id: str
    condition: str  # id of the clip or picture whose first frame conditions it
    position: int  # of that in the clip set
    seed: int


def condition_items(clips, rule) -> list[Item]:
    """The conditions of ``clips``: all of them, or those of the evaluation split where ``rule`` is given."""
    if rule is None:
        return _items(clips.ids, range(len(clips)), [0])
    split = split_clips(clips.ids, rule.seed, rule.conditions, rule.reference, rule.allow_few)
    return _items(clips.ids, sorted(split.conditions), rule.seeds)


def _items(ids: Sequence[str], positions: Sequence[int], seeds: Sequence[int]) -> list[Item]:
    return [
        Item(ids[position] if seed == seeds[0] else f"{ids[position]}@{seed}", ids[position], position, seed)
        for seed in seeds
        for position in positions
    ]
