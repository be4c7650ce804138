"""The inception score (Salimans et al. 2016): exp of the mean KL divergence of p(class | clip) from p(class)."""

import numpy as np
from scipy.special import logsumexp

from pipeline.errors import PipelineError


def inception_score(logits: np.ndarray) -> float:
    """Score of one split, from ``logits`` (n, classes) in float64; between 1 and the number of classes."""
    logits = np.asarray(logits, dtype=np.float64)
    if logits.ndim != 2 or len(logits) == 0:
        raise PipelineError(f"an inception score needs logits (n, classes), found shape {logits.shape}")
    if not np.isfinite(logits).all():
        raise PipelineError("logits hold values that are not finite; the clips or the detector are broken")
    log_conditional = logits - logsumexp(logits, axis=1, keepdims=True)
    log_marginal = logsumexp(log_conditional, axis=0) - np.log(len(logits))
    divergence = (np.exp(log_conditional) * (log_conditional - log_marginal)).sum(axis=1)
    return float(np.exp(divergence.mean()))
