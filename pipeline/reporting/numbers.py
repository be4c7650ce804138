"""Numbers as people read them."""

import math

from pipeline.evaluation.metric_file import Value


def decimals_for(value: float, digits: int) -> int:
    """Decimals that show ``digits`` significant digits of ``value``, at least 0 and at most 6."""
    if value == 0:
        return digits - 1
    return min(max(digits - 1 - math.floor(math.log10(abs(value))), 0), 6)


def plain(value: float, digits: int = 4) -> str:
    """The value alone, without exponent."""
    return f"{value:.{decimals_for(value, digits)}f}"


def with_spread(value: Value) -> str:
    """The value to three digits with its spread to the same decimals."""
    decimals = decimals_for(value.value, 3)
    spread = "(no spread)" if value.spread is None else f"± {value.spread:.{decimals}f}"
    return f"{value.value:.{decimals}f} {spread}"


def indistinct(first: Value, second: Value) -> bool:
    """Whether two values differ by less than the larger of their spreads; unknown spreads count as none."""
    return abs(first.value - second.value) < max(first.spread or 0.0, second.spread or 0.0)
