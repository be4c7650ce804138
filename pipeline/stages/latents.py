"""Run the frozen encoders once. Reads clips and encoders; writes VAE moments, image and text tokens of every clip.

Each clip, frame and orientation that training may use passes an encoder once, here, and never again.
"""

ROWS_PER_SHARD = 512


def add_arguments(parser):
    parser.add_argument("--name", required=True, help="a key of latents in params.yaml")


def run(stage):
    import torch
    from tqdm import tqdm

    from pipeline.data.latents import MIRRORED, LatentWriter
    from pipeline.data.schema import ClipSet
    from pipeline.encoders.frozen import Encoders, to_pixels

    spec = stage.params.latents[stage.args.name]
    clips = ClipSet(stage.inputs[0])
    encoders = Encoders.load(stage.inputs[1]).to(stage.device)
    writer = LatentWriter(
        stage.outputs[0], ROWS_PER_SHARD, encoders.vae_hash, encoders.hash, encoders.scaling_factor
    )  # fmt: skip
    with torch.inference_mode():
        for start in tqdm(range(0, len(clips), spec.batch_size), disable=None):
            rows = list(range(start, min(start + spec.batch_size, len(clips))))
            frames = to_pixels(clips.frames(rows)).to(stage.device)
            text = encoders.text([clips.captions[row] for row in rows]).half()
            fps = torch.tensor([float(clips.fps[row]) for row in rows])
            if spec.flip:  # beside its clip, whatever the size of a batch
                frames = torch.stack([frames, frames.flip(-1)], 1).flatten(0, 1)
                text, fps = text.repeat_interleave(2, 0), fps.repeat_interleave(2)
            fields = {**_images(encoders, frames, spec.picture_frames), "text": text, "fps": fps}
            ids = [clips.ids[row] + suffix for row in rows for suffix in ("", MIRRORED)[: 1 + spec.flip]]
            # A copy of each: a view would keep the whole batch in memory.
            writer.add(ids, {name: value.cpu().clone() for name, value in fields.items()})
        height, width = frames.shape[-2:]
        writer.close({name: value.cpu().clone() for name, value in encoders.null(height, width).items()})
    stage.record.metrics({"clips": len(clips)})


def _images(encoders, frames, picture_frames: str) -> dict:
    """VAE moments of all frames (B, F, 3, H, W), and what CLIP makes of those that may condition a clip."""
    count = len(frames)
    pictures = frames[:, :1] if picture_frames == "first" else frames
    mean, logvar = encoders.encode(frames.flatten(0, 1))
    tokens, embedding = encoders.image(pictures.flatten(0, 1))
    return {
        "mean": mean.unflatten(0, (count, -1)).transpose(1, 2),
        "logvar": logvar.unflatten(0, (count, -1)).transpose(1, 2),
        "image_tokens": tokens.unflatten(0, (count, -1)).half(),
        "image_embedding": embedding.unflatten(0, (count, -1)).half(),
    }
