"""Which test clips condition the samples and which are the real reference: decided once, by id, for every stage."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import PipelineError
from pipeline.seeding import seed_for


@dataclass(frozen=True)
class Split:
    """Positions in the list of ids that was given."""

    conditions: list[int]
    reference: list[int]


def split_clips(ids: Sequence[str], seed: int, conditions: int, reference: int, allow_few: bool = False) -> Split:
    """Order the clips by a hash of (seed, id): first those whose first frame conditions a sample, then the reference.

    The order depends on each clip's own id only, so that a clip keeps its place when others come or go. With
    ``allow_few`` a smaller set is divided in the same proportion, at least one clip to each part. Raises PipelineError
    where there are too few clips.
    """
    order = sorted(range(len(ids)), key=lambda index: seed_for(seed, "evaluation split", ids[index]))
    wanted = conditions + reference
    if len(ids) < wanted:
        if not allow_few:
            raise PipelineError(
                f"evaluation.conditions and evaluation.reference ask for {conditions} + {reference} test clips, "
                f"there are {len(ids)}; lower them, or set evaluation.allow_few to true (cells then rest on small sets)"
            )
        if len(ids) < 2:
            raise PipelineError(
                f"evaluation needs at least 2 test clips (one condition, one reference), there is {len(ids)}; "
                "add videos or raise the clip set's windows"
            )
        conditions = min(max(round(len(ids) * conditions / wanted), 1), len(ids) - 1)
        reference = len(ids) - conditions
    return Split(order[:conditions], order[conditions : conditions + reference])
