"""Make one clip for each condition. Reads weights, moments and condition clips; writes clips, videos and a manifest.

ucf101: the first frames of evaluation.conditions test clips, with the class name as prompt. imagebench: every picture
with its prompt, with videos for people. All rows share their noise: it is drawn from sampling.seed, the condition's
id and seed. A part: one batch.
"""

import json


def add_arguments(parser):
    parser.add_argument("--run", required=True, help="a key of runs in params.yaml")
    parser.add_argument(
        "--data", required=True, choices=["ucf101", "imagebench"], help="where the conditions come from"
    )


def make_parts(stage) -> int:
    from tqdm import tqdm

    from pipeline.data.schema import ClipSet
    from pipeline.evaluation.conditions import condition_items
    from pipeline.sampling.batch import sample_batch
    from pipeline.sampling.writer import write_part

    row, of_ucf101 = stage.params.runs[stage.args.run], stage.args.data == "ucf101"
    sampling = stage.params.backbones[row.backbone].sampling
    clips = ClipSet(stage.inputs[3])
    items = condition_items(clips, stage.params.evaluation if of_ucf101 else None)
    study = None if of_ucf101 else stage.params.study
    batches = [items[begin : begin + sampling.batch_size] for begin in range(0, len(items), sampling.batch_size)]
    missing = stage.parts.missing(len(batches))
    if not missing:
        return len(batches)
    generator, encoders, common = _prepare(stage, row)
    for number in tqdm(missing, unit="batch", disable=None):
        batch = batches[number]
        videos, told = sample_batch(generator, encoders, clips, batch, sampling.seed, stage.device)
        with stage.parts.writing(number) as folder:
            write_part(folder, clips, batch, videos, [{**common, **each} for each in told], study)
            (folder / "generator.json").write_text(json.dumps(generator.describe()))
    return len(batches)


def _prepare(stage, row):
    """The generator of this run row, its encoders, and what the manifest says of every clip."""
    from pipeline.backbones.checkpoint import load_backbone, weights_hash
    from pipeline.encoders.frozen import Encoders
    from pipeline.sampling.generate import Generator, prepare_network
    from pipeline.sampling.moments_file import moments_hash, read_moments

    weights, initial, moments_file, _ = stage.inputs
    spec = stage.params.backbones[row.backbone]
    encoders = Encoders.load(initial).to(stage.device)
    backbone = prepare_network(load_backbone(weights, vae_hash=encoders.vae_hash), spec.sampling, stage.device)
    mean, variance = read_moments(moments_file, encoders.vae_hash) if row.init == "analytic" else (None, None)
    start = getattr(row.start, stage.args.data)
    generator = Generator(backbone, spec.process, spec.sampling, start, row.init, mean, variance, row.motion_bucket)
    common = {
        "init": row.init,
        "start": start,
        "sampling_seed": spec.sampling.seed,
        "vae": encoders.vae_hash,
        "weights": weights_hash(weights),
        **generator.describe(),
    }
    if row.init == "analytic":
        common["moments"] = moments_hash(moments_file)
    return generator, encoders, common


def merge(stage, total: int) -> None:
    from pipeline.sampling.writer import merge_parts

    parts = stage.parts.finished(total)
    count, videos = merge_parts(parts, stage.outputs[0])
    stage.log.info("%d clips", count)
    stage.record.metrics({"clips": count})
    for video in videos[:4]:
        stage.record.artifact(video, "videos")
    stage.record.params({"generator": json.loads((parts[0] / "generator.json").read_text())})
