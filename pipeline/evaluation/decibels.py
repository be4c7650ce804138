"""Errors as people compare them."""

import math

LARGEST = 60.0  # dB: an error of a quarter of a grey level


def decibels(mean_squared_error: float) -> float:
    """Peak signal-to-noise ratio of pixels in [0, 1], at most ``LARGEST``."""
    return LARGEST if mean_squared_error <= 0 else min(LARGEST, -10 * math.log10(mean_squared_error))
