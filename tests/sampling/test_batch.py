"""From clips and prompts to videos: noise by item alone, and every input of a family reaches its latents."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipeline.backbones.registry import FAMILIES
from pipeline.evaluation.conditions import Item
from pipeline.sampling.batch import sample_batch
from pipeline.sampling.generate import Generator, image_conditions
from pipeline.seeding import torch_generator


class Keeping(Generator):
    """Keeps the latents of its last batch, before the decoder's rounding."""

    def __call__(self, *arguments):
        self.latents = super().__call__(*arguments)
        return self.latents


@pytest.fixture
def sample(make_generator, encoders):
    """Latents, videos and the rest of the manifest for items of (position, replicate)."""

    def run(clips, family: str, places, seed: int = 0, **changed):
        generator = make_generator(family, cls=Keeping, **changed)
        items = [
            Item(f"{clips.ids[place]}@{replicate}", clips.ids[place], place, replicate) for place, replicate in places
        ]
        videos, told = sample_batch(generator, encoders, clips, items, seed, "cpu")
        return generator.latents, videos, told

    return run


def near(one: torch.Tensor, two: torch.Tensor) -> bool:
    return bool((one - two).abs().max() < 1e-4 * two.abs().max())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_clip_does_not_depend_on_batch_size_order_or_company(sample, clips, calls, family):
    seen = calls(family)
    places = [(0, 0), (1, 0), (2, 0), (2, 5), (7, 0)]
    latents, videos, told = sample(clips, family, places)
    first = seen[0][0]
    assert videos.shape == (5, 4, 32, 32, 3) and videos.dtype == np.uint8
    for others in ([(2, 0)], [(7, 0), (2, 5), (2, 0)], [(2, 0), (6, 0)]):
        seen.clear()
        again, again_videos, again_told = sample(clips, family, others)
        place = others.index((2, 0))
        assert torch.equal(seen[0][0][place], first[2]), "the initial noise is the same to the bit"
        assert near(again[place], latents[2])
        assert np.abs(again_videos[place].astype(int) - videos[2].astype(int)).max() <= 1
        assert again_told[place] == told[2]


def test_noise_is_of_seed_condition_and_replicate_and_the_same_for_every_row(sample, clips, calls):
    def first(family, places, seed=0, **changed):
        seen = calls(family)
        sample(clips, family, places, seed, **changed)
        return seen[0][0]

    usual = first("videocrafter1", [(1, 0)])
    expected = torch.randn(4, 4, 8, 8, generator=torch_generator(0, "sample", clips.ids[1], 0))
    assert torch.equal(usual[0], expected)
    assert torch.equal(first("dynamicrafter", [(1, 0)], start=0.8, steps=3), usual), "rows share their noise"
    for other in (
        first("videocrafter1", [(2, 0)]),
        first("videocrafter1", [(1, 1)]),
        first("videocrafter1", [(1, 0)], seed=1),
    ):
        assert (other - usual).abs().mean() > 0.5


CHANGES = {
    "prompt": {"videocrafter1", "dynamicrafter"},
    "picture": set(FAMILIES),
    "later frames": set(),
    "fps": set(FAMILIES),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("change", CHANGES)
def test_every_input_reaches_the_latents(sample, clips, monkeypatch, family, change):
    """The first sample's input changes; the second's stays. Only the first frame of a clip conditions."""
    # From a low start the first prediction stays visible; some steps would do the same.
    options = {"start": 2.0 if family == "svd" else 0.6}
    before, _, _ = sample(clips, family, [(0, 0), (1, 0)], **options)
    if change == "prompt":
        clips.captions[0] = "a blue box, still"
    elif change == "fps":
        clips.fps[0] = 24.0
    else:
        read, frame = clips.frames, 0 if change == "picture" else slice(1, None)

        def frames(rows):
            values = read(rows)
            values[0, frame] = 255 - values[0, frame]
            return values

        monkeypatch.setattr(clips, "frames", frames)
    after, _, _ = sample(clips, family, [(0, 0), (1, 0)], **options)
    moved = (after - before).abs().amax((1, 2, 3, 4)) / before.abs().max()
    assert moved[1] < 1e-5
    assert moved[0] > 1e-3 if family in CHANGES[change] else moved[0] == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_told_is_what_the_network_was_given(sample, clips, family):
    _, _, told = sample(clips, family, [(0, 0), (3, 0)])
    expected = [{"fps": 3.0}, {"fps": 6.0}]
    if family == "svd":
        expected = [{**each, "motion_bucket": 20.0, "noise_level": 0.02} for each in expected]
    assert told == expected


@torch.inference_mode()
def test_conditional_latent_is_the_posterior_s_mode_in_the_family_s_scale(make_backbone, encoders):
    """DynamiCrafter's in model scale, SVD's unscaled; VideoCrafter1 has none."""
    frames = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mode = encoders.encode(frames)[0]
    for family, expected in (("videocrafter1", None), ("dynamicrafter", 0.8 * mode), ("svd", mode)):
        conditions, latent = picture_conditions(quiet(make_backbone(family)), encoders, frames)
        assert torch.allclose(latent, 0.8 * mode)
        found = conditions.image_latent
        assert found is None if expected is None else torch.allclose(found, expected, atol=1e-6)


@torch.inference_mode()
def test_released_conditions_of_a_picture(make_backbone, encoders):
    """Oddity 16: DynamiCrafter's latent is a sample of the posterior; SVD is told one frame a second less."""
    frames = torch.zeros(400, 3, 32, 32)
    mean, logvar = encoders.encode(frames)
    found = picture_conditions(make_backbone("dynamicrafter"), encoders, frames, image_latent="sample")[0].image_latent
    spread = ((found - 0.8 * mean) / (0.8 * (0.5 * logvar).exp())).std()
    assert spread == pytest.approx(1, abs=0.05)
    told = picture_conditions(quiet(make_backbone("svd")), encoders, frames[:2], told_fps="minus_one")[0]
    assert told.fps.tolist() == [2.0, 2.0]


@torch.inference_mode()
def test_svd_s_picture_has_the_noise_that_the_network_is_told_but_clip_sees_it_clean(make_backbone, encoders):
    frames = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    backbone = make_backbone("svd")
    noisy, clean = (picture_conditions(each, encoders, frames)[0] for each in (backbone, quiet(backbone)))
    assert not torch.allclose(noisy.image_latent, clean.image_latent, atol=1e-4)
    assert torch.equal(noisy.image_context, clean.image_context)
    assert noisy.noise_level.tolist() == pytest.approx([0.02, 0.02])


def quiet(backbone):
    """The backbone told, and given, no noise on the picture."""
    changed = copy.copy(backbone)
    changed.config = {**backbone.config, "noise_level": 0.0}
    return changed


def picture_conditions(backbone, encoders, frames, image_latent="mode", told_fps="clip"):
    switches = SimpleNamespace(image_latent=image_latent, told_fps=told_fps)
    sources = [torch_generator("picture", place) for place in range(len(frames))]
    fps = torch.full((len(frames),), 3.0)
    return image_conditions(backbone, encoders, frames, [""] * len(frames), fps, switches, sources)


@torch.inference_mode()
def test_image_tokens_for_the_lvdm_families_and_an_embedding_for_svd(make_backbone, encoders):
    frames = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    tokens, embedding = encoders.image(frames)
    for family in FAMILIES:
        backbone = make_backbone(family)
        found = picture_conditions(backbone, encoders, frames)[0].image_context
        expected = embedding if family == "svd" else backbone.image_projector(tokens)
        assert torch.equal(found, expected)
