"""Memory of a backbone without running it: the network is built and called on the meta device, and what its tensors
would take is added up as they come and go.

Attention counts as the fused kernels keep it (queries, keys, values, output), not as a matrix of scores. Allocator and
kernel workspaces come on top: expect a tenth more on a GPU.
"""

import weakref
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.backbones.registry import build_empty

WEIGHT = 4  # bytes: float32 weights, and as many each for gradients, EMA, and twice for Adam
BF16 = 2


@dataclass(frozen=True)
class Footprint:
    """Counts, and bytes."""

    parameters: int
    weights: int  # in the precision of sampling
    sampling: int  # largest while a guided batch passes, weights included
    training: int  # largest of a step without optimiser state, plus that state


class _Live(TorchDispatchMode):
    """Bytes of the storages that are alive, and the largest sum seen."""

    def __init__(self):
        super().__init__()
        self.now, self.peak, self._known = 0, 0, weakref.WeakKeyDictionary()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for value in torch.utils._pytree.tree_leaves(result):
            if isinstance(value, Tensor):
                self._keep(value)
        return result

    def _keep(self, value: Tensor) -> None:
        storage = value.untyped_storage()
        if storage in self._known:
            return
        size = storage.nbytes()
        self._known[storage] = size
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.now -= size


class _FusedAttention(torch.autograd.Function):
    """Shapes of scaled-dot-product attention as its fused kernels keep them."""

    @staticmethod
    def forward(context, query, key, value):
        output = query.new_empty((*query.shape[:-1], value.shape[-1]))
        context.save_for_backward(query, key, value, output, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return output

    @staticmethod
    def backward(context, gradient):
        return tuple(torch.empty_like(item) for item in context.saved_tensors[:3])


@contextmanager
def _fused_attention():
    def attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, **others):
        return _FusedAttention.apply(query, key, value)

    with mock.patch.object(functional, "scaled_dot_product_attention", attention):
        yield


def footprint(family: str, config: dict, shape: tuple[int, ...], batch: int, checkpointing: bool) -> Footprint:
    """Of latents (B, *shape), ``shape`` (C, F, h, w): sampling in bfloat16 with guidance, training under bf16 autocast.

    ``batch``: clips at once. Activations of training are counted in bfloat16.
    """
    config = with_checkpointing(config, checkpointing)
    backbone = build_empty(family, config)
    count = sum(parameter.numel() for parameter in backbone.parameters())
    with _fused_attention():
        network = backbone.to("meta", torch.bfloat16)  # a scalar of the SVD network ignores torch.device
        with torch.no_grad():
            sampling = _peak(network.eval(), shape, 2 * batch, train=False)
        training = _peak(network.train(), shape, batch, train=True)
    return Footprint(count, BF16 * count, BF16 * count + sampling, training + (BF16 + 5 * WEIGHT) * count)


def with_checkpointing(config: dict, on: bool) -> dict:
    """The model config with gradient checkpointing on or off, as its family spells it."""
    if "model_channels" in config["unet"]:
        return {**config, "unet": {**config["unet"], "use_checkpoint": on}}
    return {**config, "use_checkpoint": on}


def example_inputs(backbone, shape: tuple[int, ...], batch: int, device: str, dtype: torch.dtype):
    """Noisy latents, time and conditions of the right shapes, for measurements."""
    from dataclasses import replace

    channels, frames, height, width = shape
    unet, config = backbone.config["unet"], backbone.config
    tokens, dim = unet.get("text_length", 1), unet.get("context_dim", unet.get("cross_attention_dim"))
    make = {"device": device, "dtype": dtype}
    given = backbone.conditions(
        text=torch.zeros(batch, tokens, dim, **make),
        image_latent=torch.zeros(batch, channels, height, width, **make),
        fps=torch.full((batch,), 8.0, device=device),
    )
    if "image_projector" in config:
        projector = config["image_projector"]
        context = projector["num_queries"] * projector.get("video_length", 1)
    else:
        context = 1
    given = replace(given, image_context=torch.zeros(batch, context, dim, **make))
    time = torch.full((batch,), 1.0, device=device)
    return torch.randn(batch, channels, frames, height, width, **make), time, given


def _peak(backbone, shape: tuple[int, ...], batch: int, train: bool) -> int:
    x, time, conditions = example_inputs(backbone, shape, batch, "meta", torch.bfloat16)
    with _Live() as live:
        output = backbone(x, time, conditions)
        if train:
            output.float().square().mean().backward()
            gradients = sum(p.numel() * BF16 for p in backbone.parameters() if p.grad is not None)
            backbone.zero_grad(set_to_none=True)
            return live.peak - gradients
    return live.peak
