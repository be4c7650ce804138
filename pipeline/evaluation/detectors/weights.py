"""The hash that names a detector's weights in every table."""

import hashlib

from torch import Tensor


def weights_hash(state: dict[str, Tensor]) -> str:
    """sha256 over names, types, shapes and bytes of the weights, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        array = state[name].detach().cpu().contiguous().numpy()
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
