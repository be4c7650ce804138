"""Some steps of training make the VAE restore and the towers match; the same seed gives the same weights."""

import logging
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from pipeline.encoders.frozen import PARTS, Encoders, to_pixels
from pipeline.encoders.training import PASS, psnr, train_towers, train_vae
from pipeline.errors import PipelineError


def settings(**changed):
    values = {
        "seed": 0, "vae_steps": 40, "vae_batch": 8, "vae_learning_rate": 4e-3, "kl_weight": 1e-6, "tower_steps": 40,
        "tower_batch": 16, "tower_learning_rate": 2e-3,
    }  # fmt: skip
    return SimpleNamespace(**{**values, **changed})


def silent(values, step):
    pass


def test_vae_restores_better_after_training_and_its_latents_get_unit_scale(build, clips):
    encoders, seen = build(), []
    before = psnr(encoders, clips, "cpu", 256)
    steps = settings(vae_steps=120, vae_learning_rate=8e-3)
    train_vae(encoders, clips, steps, "cpu", lambda values, step: seen.append((step, values["vae_loss"])))
    frames = to_pixels(clips.frames(range(32)).reshape(-1, 32, 32, 3))
    one_colour = 10 * torch.log10(4 / (frames - frames.mean((0, 2, 3), keepdim=True)).square().mean()).item()
    assert psnr(encoders, clips, "cpu", 256) > max(before, one_colour) + 2, "it must tell pictures apart"
    assert [step for step, _ in seen] == [0, 20, 40, 60, 80, 100] and seen[-1][1] < seen[0][1] / 2
    assert not encoders.vae.training
    with torch.no_grad():
        latents = encoders.encode(frames)[0] * encoders.scaling_factor
    assert latents.square().mean().sqrt().item() == pytest.approx(1, abs=0.1)
    assert len(frames) < PASS


def retrieval(encoders, clips) -> float:
    """Share of pictures whose nearest caption, of the four, is their own."""
    texts = clips.captions[:4]
    with torch.no_grad():
        words = F.normalize(encoders.text_tower(encoders.token_ids(texts)).text_embeds, dim=1)
        seen = F.normalize(encoders.image(to_pixels(clips.frames(range(32))[:, 0]))[1][:, 0], dim=1)
    right = torch.arange(32) % 4
    return ((seen @ words.T).argmax(1) == right).float().mean().item()


def test_towers_learn_which_caption_belongs_to_which_picture(build, clips):
    encoders = build()
    assert retrieval(encoders, clips) < 0.6
    train_towers(encoders, clips, settings(), "cpu", silent)
    assert retrieval(encoders, clips) > 0.9
    assert not encoders.text_tower.training and not encoders.image_tower.training


def test_a_loss_that_is_not_finite_stops_with_its_step(build, clips):
    encoders = build()
    with torch.no_grad():
        encoders.vae.decoder.conv_out.bias.fill_(torch.inf)
    with pytest.raises(PipelineError, match=r"not finite at VAE step 0; lower the learning rate"):
        train_vae(encoders, clips, settings(vae_steps=2), "cpu", silent)


def test_the_stage_writes_frozen_encoders_and_the_same_seed_gives_the_same_hashes(spec, clips_folder, tmp_path):
    from pipeline.stages import encoders as stage_module

    group = SimpleNamespace(kind="trained", training=settings(vae_steps=3, tower_steps=3), **spec)
    numbers = []

    def run(name: str) -> Encoders:
        stage = SimpleNamespace(
            params=SimpleNamespace(encoders={"tiny": group}), args=SimpleNamespace(name="tiny"), inputs=[clips_folder],
            device="cpu", outputs=[tmp_path / name], log=logging.getLogger("test"),
            record=SimpleNamespace(metrics=lambda values, step=None: numbers.append(values)),
        )  # fmt: skip
        stage_module.run(stage)
        return Encoders.load(tmp_path / name)

    one, two = run("one"), run("two")
    assert one.hashes == two.hashes and len(set(one.hashes.values())) == len(PARTS)
    assert {"vae_loss", "tower_loss", "psnr_db", "scaling_factor"} == set().union(*numbers)
    group.training.seed = 1
    three = run("three")
    assert all(three.hashes[name] != one.hashes[name] for name in PARTS)
