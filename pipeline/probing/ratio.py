"""Motion of one-step predictions as a share of the clips' own."""

from collections.abc import Sequence

import numpy as np


def motion_ratio(motion: Sequence[Sequence[float]], truth: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """``motion`` (times, clips) over ``truth`` (clips,): the ratio of means and its standard error, each (times,).

    The error is over clips, by the delta method: single clips may hardly move. That of one clip is NaN.
    """
    moved, own = np.array(motion), np.array(truth)
    ratio = moved.mean(1) / own.mean()
    residual = moved - ratio[:, None] * own
    spread = residual.std(1, ddof=1) if len(own) > 1 else np.full(len(ratio), np.nan)
    return ratio, spread / np.sqrt(len(own)) / own.mean()
