"""Run the frozen encoders once. Reads clips and encoders; writes VAE moments, image and text tokens of every clip."""

ROWS_PER_SHARD = 512


def add_arguments(parser):
    parser.add_argument("--name", required=True, help="a key of latents in params.yaml")


def run(stage):
    import torch
    from tqdm import tqdm

    from pipeline.data.latents import LatentWriter
    from pipeline.data.schema import ClipSet
    from pipeline.encoders.frozen import Encoders, to_pixels

    clips = ClipSet(stage.inputs[0])
    encoders = Encoders.load(stage.inputs[1]).to(stage.device)
    size = stage.params.latents[stage.args.name].batch_size
    writer = LatentWriter(
        stage.outputs[0], ROWS_PER_SHARD, encoders.vae_hash, encoders.hash, encoders.scaling_factor
    )  # fmt: skip
    with torch.inference_mode():
        for start in tqdm(range(0, len(clips), size), disable=None):
            rows = list(range(start, min(start + size, len(clips))))
            frames = to_pixels(clips.frames(rows)).to(stage.device)
            mean, logvar = encoders.encode(frames.flatten(0, 1))
            tokens, embedding = encoders.image(frames.flatten(0, 1))
            fields = {
                "mean": mean.unflatten(0, (len(rows), -1)).transpose(1, 2),
                "logvar": logvar.unflatten(0, (len(rows), -1)).transpose(1, 2),
                "image_tokens": tokens.unflatten(0, (len(rows), -1)).half(),
                "image_embedding": embedding.unflatten(0, (len(rows), -1)).half(),
                "text": encoders.text([clips.captions[row] for row in rows]).half(),
                "fps": torch.tensor([float(clips.fps[row]) for row in rows]),
            }
            writer.add([clips.ids[row] for row in rows], {name: value.cpu().clone() for name, value in fields.items()})
        height, width = frames.shape[-2:]
        writer.close({name: value.cpu().clone() for name, value in encoders.null(height, width).items()})
    stage.record.metrics({"clips": len(clips)})
