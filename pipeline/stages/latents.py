"""Run the frozen encoders once. Reads clips and encoders; writes VAE moments, image and text tokens of every clip.

Each clip, frame and orientation that training may use passes an encoder once, here, and never again. A part:
CLIPS_PER_PART clips.
"""

import json

CLIPS_PER_PART = 64
LATENTS_FILE, IDS_FILE, HEADER_FILE = "latents.safetensors", "ids.json", "header.json"


def add_arguments(parser):
    parser.add_argument("--name", required=True, help="a key of latents in params.yaml")


def make_parts(stage) -> int:
    import torch
    from tqdm import tqdm

    from pipeline.data.latents import write_part
    from pipeline.data.schema import ClipSet
    from pipeline.encoders.frozen import Encoders

    spec = stage.params.latents[stage.args.name]
    clips = ClipSet(stage.inputs[0])
    total = -(-len(clips) // CLIPS_PER_PART)
    missing = stage.parts.missing(total)
    if not missing:
        return total
    encoders = Encoders.load(stage.inputs[1]).to(stage.device)
    for number in tqdm(missing, unit="part", disable=None):
        first = number * CLIPS_PER_PART
        rows = range(first, min(first + CLIPS_PER_PART, len(clips)))
        with stage.parts.writing(number) as folder, torch.inference_mode():
            ids, fields = _encode(encoders, clips, rows, spec, stage.device)
            write_part(folder / LATENTS_FILE, ids, fields)
            (folder / IDS_FILE).write_text(json.dumps(ids))
            if number == 0:  # so that the merge needs no encoders
                _write_common(folder, encoders, clips.frames([0]).shape[2:4])
    return total


def _write_common(folder, encoders, size: tuple[int, int]) -> None:
    """What all parts share: the encoders' identity, and the conditions of nothing for frames of ``size``."""
    from pipeline.data.latents import write_null

    write_null(folder, encoders.null(*size))
    header = {"vae_hash": encoders.vae_hash, "encoders_hash": encoders.hash, "scaling_factor": encoders.scaling_factor}
    (folder / HEADER_FILE).write_text(json.dumps(header))


def _encode(encoders, clips, rows: range, spec, device: str) -> tuple[list[str], dict]:
    """Ids and fields of the latents of these clips, batch by batch."""
    import torch

    from pipeline.data.latents import MIRRORED
    from pipeline.encoders.frozen import to_pixels

    ids, batches = [], []
    for start in range(rows.start, rows.stop, spec.batch_size):
        batch = range(start, min(start + spec.batch_size, rows.stop))
        frames = to_pixels(clips.frames(batch)).to(device)
        told = clips.fields(batch, ("id", "caption", "fps"))
        text, fps = encoders.text(told["caption"]).half(), torch.tensor(told["fps"], dtype=torch.float32)
        if spec.flip:  # beside its clip, whatever the size of a batch
            frames = torch.stack([frames, frames.flip(-1)], 1).flatten(0, 1)
            text, fps = text.repeat_interleave(2, 0), fps.repeat_interleave(2)
        fields = {**_images(encoders, frames, spec.picture_frames), "text": text, "fps": fps}
        batches.append({name: value.cpu() for name, value in fields.items()})
        ids += [name + suffix for name in told["id"] for suffix in ("", MIRRORED)[: 1 + spec.flip]]
    return ids, {name: torch.cat([fields[name] for fields in batches]) for name in batches[0]}


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


def merge(stage, total: int) -> None:
    from pipeline.data.latents import NULL_FILE, part_file, write_index
    from pipeline.engine.parts import link

    paths, out = stage.parts.finished(total), stage.outputs[0]
    out.mkdir(parents=True)
    for number, path in enumerate(paths):
        link(path / LATENTS_FILE, out / part_file(number))
    link(paths[0] / NULL_FILE, out / NULL_FILE)
    ids = [json.loads((path / IDS_FILE).read_text()) for path in paths]
    write_index(out, ids, json.loads((paths[0] / HEADER_FILE).read_text()))
    stage.record.metrics({"rows": sum(len(part) for part in ids)})
