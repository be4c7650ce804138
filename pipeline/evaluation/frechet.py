"""The Frechet distance between two Gaussians, from samples: the distance of FVD once the detector has spoken."""

import numpy as np

from pipeline.errors import PipelineError


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Frechet distance of the Gaussians fitted to ``first`` (n, d) and ``second`` (m, d); unbiased, float64.

    With centred samples A and B scaled so that the covariances are A'A and B'B, the trace of (A'A B'B)^(1/2) is the
    sum of the singular values of A B': real and exact also where samples are fewer than features, where matrix square
    roots of the covariances fail. Raises PipelineError for fewer than two samples, values that are not finite
    or unequal widths.
    """
    means, factors = zip(*(_mean_and_factor(features) for features in (first, second)), strict=True)
    if means[0].shape != means[1].shape:
        raise PipelineError(f"features of {means[0].size} and {means[1].size} dimensions: not from one detector")
    cross = np.linalg.svd(factors[0] @ factors[1].T, compute_uv=False).sum()
    traces = sum(np.square(factor).sum() for factor in factors)
    distance = np.square(means[0] - means[1]).sum() + traces - 2.0 * cross
    return float(max(distance, 0.0))  # a squared distance: below zero only by rounding


def _mean_and_factor(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (d,) and a factor (min(n, d), d) whose Gram matrix is the unbiased covariance."""
    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2 or len(features) < 2:
        raise PipelineError(f"a Frechet distance needs at least two samples a set, found shape {features.shape}")
    if not np.isfinite(features).all():
        raise PipelineError("features hold values that are not finite; the clips or the detector are broken")
    mean = features.mean(axis=0)
    factor = (features - mean) / np.sqrt(len(features) - 1)
    if len(factor) > factor.shape[1]:
        factor = np.linalg.qr(factor, mode="r")  # same Gram matrix, fewer rows
    return mean, factor
