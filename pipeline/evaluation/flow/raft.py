"""RAFT optical flow (Teed and Deng 2020), the large network, with torchvision's names for its weights."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import PipelineError

LEVELS, RADIUS, STRIDE = 4, 4, 8
HIDDEN, CONTEXT = 128, 128
SMALLEST = STRIDE * 2**LEVELS  # px: below, the coarsest correlations have no extent


def _convolution(into: int, out: int, kernel, norm=None, stride: int = 1, active: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(into, out, kernel, stride, (kernel - 1) // 2)]
    layers += [norm(out)] if norm else []
    return nn.Sequential(*layers, *([nn.ReLU()] if active else []))


class ResidualBlock(nn.Module):
    def __init__(self, into: int, out: int, norm, stride: int):
        super().__init__()
        self.convnormrelu1 = _convolution(into, out, 3, norm, stride)
        self.convnormrelu2 = _convolution(out, out, 3, norm)
        self.downsample = nn.Identity() if stride == 1 else _convolution(into, out, 1, norm, stride, active=False)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.downsample(x) + self.convnormrelu2(self.convnormrelu1(x)))


class Encoder(nn.Module):
    """(B, 3, H, W) to (B, 256, H / 8, W / 8)."""

    def __init__(self, norm):
        super().__init__()
        self.convnormrelu = _convolution(3, 64, 7, norm, 2)
        self.layer1 = nn.Sequential(ResidualBlock(64, 64, norm, 1), ResidualBlock(64, 64, norm, 1))
        self.layer2 = nn.Sequential(ResidualBlock(64, 96, norm, 2), ResidualBlock(96, 96, norm, 1))
        self.layer3 = nn.Sequential(ResidualBlock(96, 128, norm, 2), ResidualBlock(128, 128, norm, 1))
        self.conv = nn.Conv2d(128, HIDDEN + CONTEXT, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.layer3(self.layer2(self.layer1(self.convnormrelu(x)))))


class MotionEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.convcorr1 = _convolution(LEVELS * (2 * RADIUS + 1) ** 2, 256, 1)
        self.convcorr2 = _convolution(256, 192, 3)
        self.convflow1 = _convolution(2, 128, 7)
        self.convflow2 = _convolution(128, 64, 3)
        self.conv = _convolution(192 + 64, 128 - 2, 3)

    def forward(self, flow: Tensor, correlations: Tensor) -> Tensor:
        seen = torch.cat([self.convcorr2(self.convcorr1(correlations)), self.convflow2(self.convflow1(flow))], 1)
        return torch.cat([self.conv(seen), flow], 1)


class ConvGRU(nn.Module):
    def __init__(self, kernel: tuple[int, int]):
        super().__init__()
        padding, into = (kernel[0] // 2, kernel[1] // 2), HIDDEN + CONTEXT + 128
        self.convz = nn.Conv2d(into, HIDDEN, kernel, padding=padding)
        self.convr = nn.Conv2d(into, HIDDEN, kernel, padding=padding)
        self.convq = nn.Conv2d(into, HIDDEN, kernel, padding=padding)

    def forward(self, hidden: Tensor, x: Tensor) -> Tensor:
        both = torch.cat([hidden, x], 1)
        update, reset = torch.sigmoid(self.convz(both)), torch.sigmoid(self.convr(both))
        return torch.lerp(hidden, torch.tanh(self.convq(torch.cat([reset * hidden, x], 1))), update)


class RecurrentBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.convgru1, self.convgru2 = ConvGRU((1, 5)), ConvGRU((5, 1))

    def forward(self, hidden: Tensor, x: Tensor) -> Tensor:
        return self.convgru2(self.convgru1(hidden, x), x)


class FlowHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(HIDDEN, 256, 3, padding=1), nn.Conv2d(256, 2, 3, padding=1)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.conv2(functional.relu(self.conv1(hidden)))


class UpdateBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.motion_encoder, self.recurrent_block, self.flow_head = MotionEncoder(), RecurrentBlock(), FlowHead()

    def forward(self, hidden: Tensor, context: Tensor, correlations: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.recurrent_block(hidden, torch.cat([context, self.motion_encoder(flow, correlations)], 1))
        return hidden, self.flow_head(hidden)


class MaskPredictor(nn.Module):
    def __init__(self):
        super().__init__()
        self.convrelu = _convolution(HIDDEN, 256, 3)
        self.conv = nn.Conv2d(256, 9 * STRIDE**2, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        return 0.25 * self.conv(self.convrelu(hidden))


class Raft(nn.Module):
    """Flow from ``first`` to ``second``, both (B, 3, H, W) in [-1, 1]."""

    def __init__(self):
        super().__init__()
        self.feature_encoder, self.context_encoder = Encoder(nn.InstanceNorm2d), Encoder(nn.BatchNorm2d)
        self.update_block, self.mask_predictor = UpdateBlock(), MaskPredictor()

    def forward(self, first: Tensor, second: Tensor, updates: int = 12) -> Tensor:
        """Pixels (B, 2, H, W), x then y, after ``updates`` refinements.

        Frames are padded by repetition to multiples of 8, as the authors do. Raises PipelineError below 128 px.
        """
        height, width = first.shape[-2:]
        if min(height, width) < SMALLEST:
            raise PipelineError(
                f"RAFT needs frames of at least {SMALLEST} x {SMALLEST} px, these are {width} x {height}; raise "
                "motion.height and motion.width (the paper's are 450 and 800)"
            )
        down, right = -height % STRIDE, -width % STRIDE
        padding = (right // 2, right - right // 2, down // 2, down - down // 2)
        first, second = (functional.pad(frame, padding, mode="replicate") for frame in (first, second))
        flow = self._padded(first, second, updates)
        return flow[..., padding[2] : padding[2] + height, padding[0] : padding[0] + width]

    def _padded(self, first: Tensor, second: Tensor, updates: int) -> Tensor:
        pyramid = correlation_pyramid(*self.feature_encoder(torch.cat([first, second])).chunk(2))
        hidden, context = self.context_encoder(first).split([HIDDEN, CONTEXT], 1)
        hidden, context = torch.tanh(hidden), functional.relu(context)
        height, width = hidden.shape[-2:]
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        start = torch.stack([columns, rows]).to(hidden).expand(len(hidden), -1, -1, -1)
        flow = torch.zeros_like(start)
        for _ in range(updates):
            correlations = look_up(pyramid, start + flow)
            hidden, step = self.update_block(hidden, context, correlations, flow)
            flow = flow + step
        return upsample(flow, self.mask_predictor(hidden))


def correlation_pyramid(first: Tensor, second: Tensor) -> list[Tensor]:
    """Dot products of all pairs of places (B, C, h, w), then averaged over squares of the second: (B h w, 1, …)."""
    batch, channels, height, width = first.shape
    products = first.flatten(2).transpose(1, 2) @ second.flatten(2) / math.sqrt(channels)
    pyramid = [products.reshape(batch * height * width, 1, height, width)]
    for _ in range(LEVELS - 1):
        pyramid.append(functional.avg_pool2d(pyramid[-1], 2))
    return pyramid


def look_up(pyramid: list[Tensor], places: Tensor) -> Tensor:
    """Correlations around ``places`` (B, 2, h, w) of every level: (B, LEVELS (2 RADIUS + 1)^2, h, w)."""
    batch, _, height, width = places.shape
    around = torch.arange(-RADIUS, RADIUS + 1).to(places)
    offsets = torch.stack(torch.meshgrid(around, around, indexing="ij"), -1)[None]  # x along the first axis: RAFT's own
    centres = places.permute(0, 2, 3, 1).reshape(batch * height * width, 1, 1, 2)
    found = []
    for level, volume in enumerate(pyramid):
        points = centres / 2**level + offsets
        extent = torch.tensor([volume.shape[3] - 1, volume.shape[2] - 1]).to(points)
        grid = 2 * points / extent - 1
        found.append(functional.grid_sample(volume, grid, align_corners=True).reshape(batch, height, width, -1))
    return torch.cat(found, -1).permute(0, 3, 1, 2)


def upsample(flow: Tensor, mask: Tensor) -> Tensor:
    """(B, 2, h, w) to (B, 2, 8 h, 8 w): each pixel a convex combination, by ``mask``, of the 3 x 3 places around it."""
    batch, _, height, width = flow.shape
    weights = mask.reshape(batch, 1, 9, STRIDE, STRIDE, height, width).softmax(2)
    near = functional.unfold(STRIDE * flow, 3, padding=1).reshape(batch, 2, 9, 1, 1, height, width)
    fine = (weights * near).sum(2).permute(0, 1, 4, 2, 5, 3)
    return fine.reshape(batch, 2, STRIDE * height, STRIDE * width)
