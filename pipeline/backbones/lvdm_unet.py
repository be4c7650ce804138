"""The UNet of VideoCrafter1 and DynamiCrafter at any width, from the official config fields, with the official keys."""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pipeline.backbones.lvdm_blocks import (
    GROUPS,
    Downsample,
    ResBlock,
    SpatialTransformer,
    Stack,
    TemporalTransformer,
    Upsample,
    sinusoidal,
    to_frames,
    to_video,
    zeroed,
)
from pipeline.errors import PipelineError

# Official fields that must have this value: the released models use no other.
FIXED = {
    "temporal_selfatt_only": True,
    "use_relative_position": False,
    "use_causal_attention": False,
    "conv_resample": True,
    "dims": 2,
    "use_scale_shift_norm": False,
    "resblock_updown": False,
    "tempspatial_aware": False,
    "image_cross_attention_scale_learnable": False,
    "use_fp16": False,
}
# The two families name the same switch differently.
SYNONYMS = {"use_image_attention": "image_cross_attention", "fps_cond": "fs_condition", "default_fps": "default_fs"}


class LvdmUNet(nn.Module):
    """Config: the official fields, and ``text_length`` (77) and ``tokens_per_frame`` (16), which are constants there.

    Raises PipelineError for a field that is unknown or has a value that no released model uses.
    """

    def __init__(self, config: dict):
        super().__init__()
        self._read(**{SYNONYMS.get(name, name): value for name, value in config.items()})

    def _read(
        self,
        *,
        in_channels: int,
        out_channels: int,
        model_channels: int,
        attention_resolutions: list[int],
        num_res_blocks: int,
        channel_mult: list[int],
        context_dim: int,
        num_head_channels: int = -1,
        num_heads: int = -1,
        use_linear: bool = False,
        dropout: float = 0.0,
        transformer_depth: int = 1,
        temporal_conv: bool = False,
        temporal_attention: bool = True,
        addition_attention: bool = False,
        image_cross_attention: bool = False,
        fs_condition: bool = False,
        default_fs: int = 16,
        use_checkpoint: bool = False,
        temporal_length: int | None = None,
        text_length: int = 77,
        tokens_per_frame: int = 16,
        **others,
    ) -> None:
        for name, value in others.items():
            if name not in FIXED or value != FIXED[name]:
                raise PipelineError(
                    f"model.unet.{name} = {value!r} is not a field of the released models ({FIXED.get(name)!r} is)"
                )
        self.width, self.default_fs, self.use_checkpoint = model_channels, default_fs, use_checkpoint
        self.text_length, self.tokens_per_frame = text_length, tokens_per_frame
        self.fs_condition, self.has_init_attention = fs_condition, addition_attention
        embedding = 4 * model_channels
        self.noise_level_embedding = None

        def residual(channels: int, out: int) -> ResBlock:
            return ResBlock(channels, embedding, out, dropout, temporal_conv)

        def attention(channels: int) -> list[nn.Module]:
            heads, head = self._heads(channels, num_heads, num_head_channels)
            ip = text_length if image_cross_attention else None
            plane, line = (None, None) if use_linear else (nn.Conv2d, nn.Conv1d)
            spatial = SpatialTransformer(channels, heads, head, transformer_depth, context_dim, ip, plane)
            if not temporal_attention:
                return [spatial]
            return [spatial, TemporalTransformer(channels, heads, head, transformer_depth, None, None, line)]

        self.time_embed = self._two_layers()
        if fs_condition:
            self.fps_embedding = self._two_layers()
        self.input_blocks = nn.ModuleList([Stack(nn.Conv2d(in_channels, model_channels, 3, padding=1))])
        if addition_attention:
            self.init_attn = Stack(
                TemporalTransformer(model_channels, 8, num_head_channels, transformer_depth, None, None, nn.Conv1d)
            )
        kept, channels, scale = [model_channels], model_channels, 1
        for level, factor in enumerate(channel_mult):
            for _ in range(num_res_blocks):
                layers = [residual(channels, factor * model_channels)]
                channels = factor * model_channels
                if scale in attention_resolutions:
                    layers += attention(channels)
                self.input_blocks.append(Stack(*layers))
                kept.append(channels)
            if level + 1 < len(channel_mult):
                self.input_blocks.append(Stack(Downsample(channels)))
                kept.append(channels)
                scale *= 2
        self.middle_block = Stack(residual(channels, channels), *attention(channels), residual(channels, channels))
        self.output_blocks = nn.ModuleList()
        for level, factor in reversed(list(enumerate(channel_mult))):
            for index in range(num_res_blocks + 1):
                layers = [residual(channels + kept.pop(), factor * model_channels)]
                channels = factor * model_channels
                if scale in attention_resolutions:
                    layers += attention(channels)
                if level and index == num_res_blocks:
                    layers.append(Upsample(channels))
                    scale //= 2
                self.output_blocks.append(Stack(*layers))
        self.out = nn.Sequential(
            nn.GroupNorm(GROUPS, channels), nn.SiLU(), zeroed(nn.Conv2d(channels, out_channels, 3, padding=1))
        )

    @staticmethod
    def _heads(channels: int, num_heads: int, num_head_channels: int) -> tuple[int, int]:
        """Their number and width, of which the config states one."""
        if num_head_channels == num_heads == -1:
            raise PipelineError("model.unet: give num_head_channels (or num_heads)")
        if num_head_channels == -1:
            return num_heads, channels // num_heads
        return channels // num_head_channels, num_head_channels

    def _two_layers(self) -> nn.Sequential:
        width, embedding = self.width, 4 * self.width
        return nn.Sequential(nn.Linear(width, embedding), nn.SiLU(), nn.Linear(embedding, embedding))

    def add_noise_level_embedding(self) -> None:
        """A third embedding beside those of time and frame rate; its last layer starts at zero."""
        self.noise_level_embedding = self._two_layers().to(self.time_embed[0].weight)
        zeroed(self.noise_level_embedding[-1])

    def forward(
        self, x: Tensor, time: Tensor, context: Tensor, fs: Tensor | None = None, noise_level: Tensor | None = None
    ) -> Tensor:
        """x (B, C, F, H, W), time (B,), context (B, tokens, D): text, then image; fs (B,) -> (B, C', F, H, W).

        ``noise_level`` (B,): of the image, where the network is told it.
        """
        batch, _, frames = x.shape[:3]
        dtype = self.time_embed[0].weight.dtype
        embedding = self.time_embed(sinusoidal(time, self.width).to(dtype))
        if self.fs_condition:
            fs = torch.full_like(time, self.default_fs) if fs is None else fs
            embedding = embedding + self.fps_embedding(sinusoidal(fs, self.width).to(dtype))
        if self.noise_level_embedding is not None:
            bounded = 1000 * noise_level / (1 + noise_level)  # into the range of time steps
            embedding = embedding + self.noise_level_embedding(sinusoidal(bounded, self.width).to(dtype))
        embedding = embedding.repeat_interleave(frames, 0)
        context = self._per_frame(context, frames)
        hidden, kept = to_frames(x), []
        for index, block in enumerate(self.input_blocks):
            hidden = self._run(block, hidden, embedding, context, batch)
            if index == 0 and self.has_init_attention:
                hidden = self._run(self.init_attn, hidden, embedding, context, batch)
            kept.append(hidden)
        hidden = self._run(self.middle_block, hidden, embedding, context, batch)
        for block in self.output_blocks:
            hidden = self._run(block, torch.cat([hidden, kept.pop()], 1), embedding, context, batch)
        return to_video(self.out(hidden), batch)

    def _run(self, block: Stack, *arguments) -> Tensor:
        if self.use_checkpoint and self.training:
            return checkpoint(block, *arguments, use_reentrant=False)
        return block(*arguments)

    def _per_frame(self, context: Tensor, frames: int) -> Tensor:
        """Context of every frame, (B*F, tokens, D): image tokens are split by frame when there are enough for each."""
        if context.shape[1] != self.text_length + frames * self.tokens_per_frame:
            return context.repeat_interleave(frames, 0)
        text = context[:, : self.text_length].repeat_interleave(frames, 0)
        image = context[:, self.text_length :].unflatten(1, (frames, -1)).flatten(0, 1)
        return torch.cat([text, image], 1)
