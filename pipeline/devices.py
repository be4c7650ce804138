"""Which device computes."""

from pipeline.errors import PipelineError


def choose_device(asked: str) -> str:
    """``runtime.device`` with ``auto`` resolved; raises PipelineError for a GPU that is not there."""
    import torch

    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if asked == "cuda" and not torch.cuda.is_available():
        raise PipelineError("runtime.device is cuda, but torch sees no GPU; set it to auto or cpu")
    return asked
