"""Image projector of VideoCrafter1 and DynamiCrafter: learned queries attend to CLIP tokens; official keys."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PerceiverAttention(nn.Module):
    """Queries from the latents; keys and values from image tokens and latents."""

    def __init__(self, dim: int, dim_head: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, heads * dim_head, bias=False)
        self.to_kv = nn.Linear(dim, 2 * heads * dim_head, bias=False)
        self.to_out = nn.Linear(heads * dim_head, dim, bias=False)

    def forward(self, image: Tensor, latents: Tensor) -> Tensor:
        image, latents = self.norm1(image), self.norm2(latents)
        keys, values = self.to_kv(torch.cat([image, latents], 1)).chunk(2, dim=-1)
        query, keys, values = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (self.to_q(latents), keys, values)
        )
        return self.to_out(F.scaled_dot_product_attention(query, keys, values).transpose(1, 2).flatten(2))


class Resampler(nn.Module):
    """(B, T, embedding_dim) -> (B, queries, output_dim); with ``video_length`` there are ``num_queries`` a frame."""

    def __init__(
        self,
        *,
        dim: int,
        depth: int,
        dim_head: int,
        heads: int,
        num_queries: int,
        embedding_dim: int,
        output_dim: int,
        ff_mult: int = 4,
        video_length: int | None = None,
    ):
        super().__init__()
        self.latents = nn.Parameter(torch.randn(1, num_queries * (video_length or 1), dim) / dim**0.5)
        self.proj_in = nn.Linear(embedding_dim, dim)
        self.proj_out = nn.Linear(dim, output_dim)
        self.norm_out = nn.LayerNorm(output_dim)
        self.layers = nn.ModuleList(
            nn.ModuleList([PerceiverAttention(dim, dim_head, heads), self._feed_forward(dim, ff_mult)])
            for _ in range(depth)
        )

    @staticmethod
    def _feed_forward(dim: int, mult: int) -> nn.Sequential:
        inner = int(dim * mult)
        return nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, inner, bias=False), nn.GELU(), nn.Linear(inner, dim, bias=False)
        )

    def forward(self, image: Tensor) -> Tensor:
        latents, image = self.latents.expand(len(image), -1, -1), self.proj_in(image)
        for attention, feed_forward in self.layers:
            latents = attention(image, latents) + latents
            latents = feed_forward(latents) + latents
        return self.norm_out(self.proj_out(latents))
