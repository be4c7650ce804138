"""A generator per purpose, seeded from its name, so that results do not depend on workers, batches or order."""

import hashlib
import json


def seed_for(*parts: object) -> int:
    """Stable 63-bit seed from any JSON-able parts, for example ``seed_for(params.seed, "noise", clip_id)``."""
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def numpy_generator(*parts: object):
    """``numpy.random.Generator`` for this purpose."""
    import numpy as np

    return np.random.default_rng(seed_for(*parts))


def torch_generator(*parts: object):
    """CPU ``torch.Generator`` for this purpose."""
    import torch

    return torch.Generator().manual_seed(seed_for(*parts))
