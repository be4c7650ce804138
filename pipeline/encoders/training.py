"""Trains the demo's frozen encoders: the VAE by reconstruction, the CLIP towers by contrast of frames and captions."""

import torch
from torch.nn import functional as F
from tqdm import tqdm

from pipeline.encoders.frozen import Encoders, to_pixels
from pipeline.errors import PipelineError
from pipeline.seeding import numpy_generator, seed_for, torch_generator

PASS = 512  # frames that set the scaling factor


def train_vae(encoders: Encoders, clips, settings, device: str, on_step) -> None:
    """Mean squared error of single frames and a small KL; then the factor that makes the latents' rms 1.

    The latents are not centred: with zero mean and unit variance Analytic-Init would equal the standard start.
    """
    vae = encoders.vae.to(device).train()
    optimizer = torch.optim.AdamW(vae.parameters(), lr=settings.vae_learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
    generator = numpy_generator(settings.seed, "vae frames")
    noise = torch_generator(settings.seed, "vae noise")
    for step in tqdm(range(settings.vae_steps), desc="VAE", disable=None):
        frames = _random_frames(clips, generator, settings.vae_batch).to(device)
        for group in optimizer.param_groups:
            group["lr"] = settings.vae_learning_rate * min(1.0, 2 * (1 - step / settings.vae_steps), (step + 1) / 20)
        posterior = vae.encode(frames).latent_dist
        sample = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=noise).to(device)
        restored = vae.decode(sample).sample
        loss = F.mse_loss(restored, frames) + settings.kl_weight * posterior.kl().mean()
        _step(loss, optimizer, vae, f"VAE step {step}")
        if step % 20 == 0:
            on_step({"vae_loss": loss.item()}, step)
    vae.eval()
    with torch.no_grad():
        mean, _ = encoders.encode(_random_frames(clips, generator, PASS).to(device))
    vae.register_to_config(scaling_factor=1.0 / mean.square().mean().sqrt().item())


def train_towers(encoders: Encoders, clips, settings, device: str, on_step) -> None:
    """Symmetric cross-entropy between first frames and captions (Radford et al. 2021), temperature fixed at 0.07."""
    image, text = encoders.image_tower.to(device).train(), encoders.text_tower.to(device).train()
    parameters = [*image.parameters(), *text.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=settings.tower_learning_rate)
    generator = numpy_generator(settings.seed, "tower clips")
    captions = list(clips.captions)
    for step in tqdm(range(settings.tower_steps), desc="CLIP towers", disable=None):
        rows = generator.choice(len(clips), min(settings.tower_batch, len(clips)), replace=False)
        rows = sorted(rows.tolist())
        frames = to_pixels(clips.pictures(rows, [0] * len(rows))).to(device)
        ids = encoders.token_ids([captions[row] for row in rows]).to(device)
        pictures = F.normalize(encoders.image(frames)[1][:, 0], dim=1)
        words = F.normalize(text(ids).text_embeds, dim=1)
        logits = pictures @ words.T / 0.07
        # Clips with the same caption are all right answers.
        same = (ids[:, None] == ids[None]).all(-1).float()
        target = same / same.sum(1, keepdim=True)
        loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        _step(loss, optimizer, parameters, f"CLIP step {step}")
        if step % 20 == 0:
            on_step({"tower_loss": loss.item()}, step)
    image.eval()
    text.eval()


def _step(loss, optimizer, module, where: str) -> None:
    if not torch.isfinite(loss):
        raise PipelineError(f"encoders: the loss is not finite at {where}; lower the learning rate")
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(module.parameters() if hasattr(module, "parameters") else module, 1.0)
    optimizer.step()


def _random_frames(clips, generator, count: int) -> torch.Tensor:
    """Frames of clips drawn one by one, (count, 3, H, W) in [-1, 1]: frames of one clip would be nearly the same."""
    rows = sorted(generator.integers(0, len(clips), count).tolist())  # sorted: a row group is read once
    return to_pixels(clips.pictures(rows, generator.integers(0, len(clips.encoded(0)), count).tolist()))


def psnr(encoders: Encoders, clips, device: str, count: int) -> float:
    """Of reconstructions of ``count`` frames, in dB, for a range of [-1, 1]."""
    errors = []
    for frames in _random_frames(clips, numpy_generator("psnr"), count).split(8):  # memory: a few frames at full size
        frames = frames.to(device)
        with torch.no_grad():
            mean, _ = encoders.encode(frames)
            restored = encoders.decode(mean.unsqueeze(2) * encoders.scaling_factor).squeeze(2)
        errors.append((restored - frames).square().flatten(1).mean(1))
    return 10 * torch.log10(4 / torch.cat(errors).mean()).item()


def seed_weights(seed: int) -> None:
    """Before building: initial weights come from torch's global generator."""
    torch.manual_seed(seed_for(seed, "encoder weights"))
