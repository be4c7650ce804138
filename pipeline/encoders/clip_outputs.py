"""What the models take from the CLIP towers: states before the norms and projections, and pictures as they want them.

Source: the wrappers in lvdm.modules.encoders.condition. Images are prepared as by kornia's ``geometry.resize`` with
``antialias=True``: a Gaussian blur and then a plain bicubic interpolation, which torch's own antialias does not give.
"""

import torch
from torch import nn
from torch.nn import functional

from pipeline.errors import PipelineError

MEAN = (0.48145466, 0.4578275, 0.40821073)  # of CLIP's training pictures
STD = (0.26862954, 0.26130258, 0.27577711)


def text_states(model: nn.Module, tokens: torch.Tensor, layer: str = "penultimate") -> torch.Tensor:
    """Tokens [batch, length] -> states [batch, length, width] of a CLIPTextModelWithProjection, no projection.

    ``layer``: ``penultimate`` is the state before the last block, ``last`` the one after it; both then pass the
    final LayerNorm. Padding is not masked, as in the official code. Raises PipelineError for any other layer.
    """
    if layer not in ("penultimate", "last"):
        raise PipelineError(f"layer {layer!r} of the text tower is unknown; use 'penultimate' or 'last'")
    tower = model.text_model
    if layer == "last":
        return tower(input_ids=tokens).last_hidden_state
    # hidden_states: the embeddings, then the output of each block; the final LayerNorm is not in it
    states = tower(input_ids=tokens, output_hidden_states=True).hidden_states
    return tower.final_layer_norm(states[-2])


def image_states(model: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Prepared pixels [batch, 3, size, size] -> tokens [batch, 1 + patches, width] of a CLIPVisionModelWithProjection.

    All tokens after the last block, class token first; neither post-LayerNorm nor projection.
    """
    return model.vision_model(pixel_values=pixels).last_hidden_state


def clip_image_preprocess(frames: torch.Tensor, size: int = 224) -> torch.Tensor:
    """Frames [..., 3, height, width] in [-1, 1] -> [..., 3, size, size], resized and normalised as CLIP wants.

    Raises PipelineError for other shapes, for integers and for values outside [-1, 1].
    """
    if frames.ndim < 4 or frames.shape[-3] != 3 or min(frames.shape[-2:]) < 2 or not frames.is_floating_point():
        raise PipelineError(
            f"frames for CLIP are {list(frames.shape)} of {frames.dtype}; give floats [..., 3, height, width] "
            "with at least 2x2 pixels"
        )
    if frames.numel() and not frames.detach().abs().max() <= 1.001:  # written so that NaN fails too
        raise PipelineError("frames for CLIP have values outside [-1, 1] or NaN; divide bytes by 127.5 and subtract 1")
    flat = frames.reshape(-1, *frames.shape[-3:])
    factors = [side / size for side in flat.shape[-2:]]
    if max(factors) > 1:  # one shrinking side is enough for both to be blurred, as in kornia
        for axis, factor in zip((-2, -1), factors, strict=True):
            flat = _blur(flat, factor, axis)
    flat = functional.interpolate(flat, size=(size, size), mode="bicubic", align_corners=True)
    mean, std = (torch.tensor(values, dtype=flat.dtype, device=flat.device).view(3, 1, 1) for values in (MEAN, STD))
    return (((flat + 1) / 2 - mean) / std).reshape(*frames.shape[:-2], size, size)


def _blur(images: torch.Tensor, factor: float, axis: int) -> torch.Tensor:
    """Gaussian blur of [batch, 3, height, width] along ``axis`` (-2 or -1) for shrinking it by ``factor``."""
    sigma = max((factor - 1) / 2, 0.001)
    taps = int(max(4 * sigma, 3))
    taps += taps % 2 == 0
    offsets = torch.arange(taps, dtype=images.dtype, device=images.device) - taps // 2
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).view(*((1, 1, taps, 1) if axis == -2 else (1, 1, 1, taps))).repeat(3, 1, 1, 1)
    margin = (0, 0, taps // 2, taps // 2) if axis == -2 else (taps // 2, taps // 2, 0, 0)
    return functional.conv2d(functional.pad(images, margin, mode="reflect"), kernel, groups=3)
