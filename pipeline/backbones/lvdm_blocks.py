"""Blocks of the VideoCrafter1 / DynamiCrafter UNet, with the official state-dict keys.

Features travel as (B*F, C, H, W). Norm statistics of temporal layers are taken over all frames together.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GROUPS = 32


def zeroed(module: nn.Module) -> nn.Module:
    """The module with its parameters at zero, as residual branches start."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def to_video(x: Tensor, batch: int) -> Tensor:
    """(B*F, C, H, W) -> (B, C, F, H, W), a view."""
    return x.unflatten(0, (batch, -1)).transpose(1, 2)


def to_frames(x: Tensor) -> Tensor:
    """(B, C, F, H, W) -> (B*F, C, H, W)."""
    return x.transpose(1, 2).flatten(0, 1)


class TemporalConv(nn.Conv3d):
    """Kernel (3, 1, 1), as a two-dimensional convolution over (frames, pixels): the same sums, faster on CPUs."""

    def __init__(self, channels: int):
        super().__init__(channels, channels, (3, 1, 1), padding=(1, 0, 0))

    def forward(self, x: Tensor) -> Tensor:
        flat = F.conv2d(x.flatten(3), self.weight.squeeze(-1), self.bias, padding=(1, 0))
        return flat.unflatten(3, x.shape[3:])


class TemporalConvBlock(nn.Module):
    """Four temporal convolutions on a residual."""

    def __init__(self, channels: int, dropout: float = 0.1):
        super().__init__()

        def block(last: bool = False, drop: bool = True) -> nn.Sequential:
            conv = TemporalConv(channels)
            middle = [nn.Dropout(dropout)] if drop else []
            return nn.Sequential(nn.GroupNorm(GROUPS, channels), nn.SiLU(), *middle, zeroed(conv) if last else conv)

        self.conv1, self.conv2, self.conv3, self.conv4 = block(drop=False), block(), block(), block(last=True)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv4(self.conv3(self.conv2(self.conv1(x))))


class ResBlock(nn.Module):
    """Residual block told the time embedding, then the temporal convolutions."""

    def __init__(self, channels: int, embedding: int, out: int, dropout: float, temporal_conv: bool):
        super().__init__()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, channels), nn.SiLU(), nn.Conv2d(channels, out, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, out))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, out), nn.SiLU(), nn.Dropout(dropout), zeroed(nn.Conv2d(out, out, 3, padding=1))
        )
        self.skip_connection = nn.Identity() if out == channels else nn.Conv2d(channels, out, 1)
        if temporal_conv:
            self.temopral_conv = TemporalConvBlock(out)  # the official spelling

    def forward(self, x: Tensor, embedding: Tensor, batch: int) -> Tensor:
        hidden = self.in_layers(x) + self.emb_layers(embedding)[:, :, None, None]
        hidden = self.skip_connection(x) + self.out_layers(hidden)
        if hasattr(self, "temopral_conv"):
            hidden = to_frames(self.temopral_conv(to_video(hidden, batch)))
        return hidden


class CrossAttention(nn.Module):
    """Attention to a context, or to itself where there is none. With ``text_length`` the tokens behind the text have
    projections of their own, and the two results are added."""

    def __init__(self, dim: int, context_dim: int | None, heads: int, head: int, text_length: int | None = None):
        super().__init__()
        inner, context_dim = heads * head, context_dim or dim
        self.heads, self.text_length = heads, text_length
        self.to_q = nn.Linear(dim, inner, bias=False)
        self.to_k = nn.Linear(context_dim, inner, bias=False)
        self.to_v = nn.Linear(context_dim, inner, bias=False)
        self.to_out = nn.Sequential(nn.Linear(inner, dim), nn.Dropout(0.0))
        if text_length is not None:
            self.to_k_ip = nn.Linear(context_dim, inner, bias=False)
            self.to_v_ip = nn.Linear(context_dim, inner, bias=False)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        context = x if context is None else context
        query = self._split(self.to_q(x))
        text = context if self.text_length is None else context[:, : self.text_length]
        result = F.scaled_dot_product_attention(query, self._split(self.to_k(text)), self._split(self.to_v(text)))
        if self.text_length is not None and context.shape[1] > self.text_length:
            image = context[:, self.text_length :]
            keys, values = self._split(self.to_k_ip(image)), self._split(self.to_v_ip(image))
            result = result + F.scaled_dot_product_attention(query, keys, values)
        return self.to_out(result.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class GEGLU(nn.Module):
    """First half value, second half gate."""

    def __init__(self, dim: int, inner: int):
        super().__init__()
        self.proj = nn.Linear(dim, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.net = nn.Sequential(GEGLU(dim, 4 * dim), nn.Dropout(0.0), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class TransformerBlock(nn.Module):
    """Self-attention, attention to the context (to itself without one), feed-forward; each on a residual."""

    def __init__(self, dim: int, heads: int, head: int, context_dim: int | None, text_length: int | None):
        super().__init__()
        self.attn1 = CrossAttention(dim, None, heads, head)
        self.ff = FeedForward(dim)
        self.attn2 = CrossAttention(dim, context_dim, heads, head, text_length)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        x = self.attn1(self.norm1(x)) + x
        x = self.attn2(self.norm2(x), context) + x
        return self.ff(self.norm3(x)) + x


class Transformer(nn.Module):
    """Norm, projection, blocks, projection, residual; ``convolution``: projections are 1x1 convolutions in ``dims``."""

    def __init__(self, channels, heads, head, depth, context_dim, text_length, convolution: type[nn.Module] | None):
        super().__init__()
        inner = heads * head
        self.convolution = convolution
        project = (lambda a, b: convolution(a, b, 1)) if convolution else nn.Linear
        self.norm = nn.GroupNorm(GROUPS, channels, eps=1e-6)
        self.proj_in = project(channels, inner)
        blocks = [TransformerBlock(inner, heads, head, context_dim, text_length) for _ in range(depth)]
        self.transformer_blocks = nn.ModuleList(blocks)
        self.proj_out = zeroed(project(inner, channels))

    def tokens(self, x: Tensor, context: Tensor | None) -> Tensor:
        """(N, C, L) -> (N, L, C'), through the blocks."""
        weight, bias = self.proj_in.weight.flatten(1), self.proj_in.bias
        x = F.linear(x.transpose(1, 2), weight, bias)
        for block in self.transformer_blocks:
            x = block(x, context)
        return F.linear(x, self.proj_out.weight.flatten(1), self.proj_out.bias)


class SpatialTransformer(Transformer):
    """Attention inside a frame, and to text and image tokens."""

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        result = self.tokens(self.norm(x).flatten(2), context)
        return result.transpose(1, 2).unflatten(2, x.shape[2:]) + x


class TemporalTransformer(Transformer):
    """Attention along the frames at each position; self-attention only."""

    def forward(self, x: Tensor, batch: int) -> Tensor:
        video = to_video(x, batch)
        b, c, f, h, w = video.shape
        positions = self.norm(video).permute(0, 3, 4, 1, 2).reshape(b * h * w, c, f)
        result = self.tokens(positions, None).reshape(b, h, w, f, c).permute(0, 3, 4, 1, 2).reshape(b * f, c, h, w)
        return result + x


class Downsample(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class Upsample(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class Stack(nn.Sequential):
    """Layers in a row, each given what it takes."""

    def forward(self, x: Tensor, embedding: Tensor, context: Tensor, batch: int) -> Tensor:
        for layer in self:
            if isinstance(layer, ResBlock):
                x = layer(x, embedding, batch)
            elif isinstance(layer, SpatialTransformer):
                x = layer(x, context)
            elif isinstance(layer, TemporalTransformer):
                x = layer(x, batch)
            else:
                x = layer(x)
        return x


def sinusoidal(values: Tensor, dim: int) -> Tensor:
    """(B,) -> (B, dim): cosines, then sines, of ``values`` at frequencies from 1 to 1/10000."""
    half = dim // 2
    frequencies = torch.exp(-torch.log(torch.tensor(10000.0)) * torch.arange(half, dtype=torch.float32) / half)
    angles = values.float()[:, None] * frequencies.to(values.device)
    return torch.cat([angles.cos(), angles.sin()], 1)
