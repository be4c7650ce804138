"""The resize protocols by their definitions and by shape (their numbers: tests/test_golden.py)."""

import zlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.evaluation.detectors.resize import PROTOCOLS, resize_frames, styleganv, tats


@pytest.fixture(scope="module")
def clip():
    """(1, 3, 16, 48, 80) in [-1, 1], by the golden folder's recipe."""
    generator = torch.Generator().manual_seed(zlib.crc32(b"clip.uint8"))
    frames = (torch.randn((16, 48, 80, 3), generator=generator).abs() * 90).clamp(0, 255).to(torch.uint8)
    return (frames.permute(3, 0, 1, 2).float() / 127.5 - 1.0)[None]


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 2),
    frames=st.integers(1, 3),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    size=st.integers(1, 40),
    name=st.sampled_from(sorted(PROTOCOLS)),
)
def test_any_clip_becomes_a_square_within_its_own_range(batch, frames, height, width, size, name):
    generator = torch.Generator().manual_seed(height * 100 + width)
    video = torch.rand((batch, 3, frames, height, width), generator=generator) * 2 - 1
    found = PROTOCOLS[name](video, size)
    assert found.shape == (batch, 3, frames, size, size)
    assert found.min() >= video.min() - 1e-5 and found.max() <= video.max() + 1e-5
    # Planes do not mix: one clip, one channel, one frame alone gives the same.
    alone = PROTOCOLS[name](video[-1:, 1:2, -1:], size)
    torch.testing.assert_close(found[-1:, 1:2, -1:], alone, rtol=0, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(height=st.integers(2, 60), width=st.integers(2, 60))
def test_styleganv_keeps_the_aspect_ratio_and_the_centre(height, width):
    """On a horizontal and a vertical ramp of slope 1 the result is a ramp of slope short side / size, centred."""
    size = 16
    rows = torch.arange(height).float().view(-1, 1).expand(height, width)
    columns = torch.arange(width).float().view(1, -1).expand(height, width)
    found = styleganv(torch.stack([rows, columns])[None, :, None], size)[0, :, 0]
    step = min(height, width) / size
    inner = slice(6, 10)  # away from edges, where samples are clamped
    # Rounding the long side up makes its steps smaller, by at most one part in its length in pixels.
    assert found[0, inner, 8].diff().mean() == pytest.approx(step, rel=1 / size + 1e-3)
    assert found[1, 8, inner].diff().mean() == pytest.approx(step, rel=1 / size + 1e-3)
    assert found[0, inner, 8].mean() == pytest.approx((height - 1) / 2, abs=step)
    assert found[1, 8, inner].mean() == pytest.approx((width - 1) / 2, abs=step)


def test_the_protocols_agree_on_squares_and_nowhere_else(clip):
    square = clip[..., 16:64]
    torch.testing.assert_close(tats(square), styleganv(square), rtol=0, atol=1e-6)
    assert (tats(clip) - styleganv(clip)).abs().max() > 0.1


def test_corners_are_aligned_on_request():
    video = torch.rand((1, 3, 2, 9, 7), generator=torch.Generator().manual_seed(0))
    found = resize_frames(video, (5, 4), align_corners=True)
    torch.testing.assert_close(found, video[..., ::2, ::2], rtol=0, atol=1e-6)
