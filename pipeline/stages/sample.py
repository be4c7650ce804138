"""Make one clip for each condition. Reads weights, moments and condition clips; writes clips, videos and a manifest.

ucf101: the first frames of evaluation.conditions test clips, with the class name as prompt. imagebench: every picture
with its prompt, with videos for people. All rows share their noise: it is drawn from sampling.seed, the condition's
id and seed.
"""


def add_arguments(parser):
    parser.add_argument("--run", required=True, help="a key of runs in params.yaml")
    parser.add_argument(
        "--data", required=True, choices=["ucf101", "imagebench"], help="where the conditions come from"
    )


def run(stage):
    import json

    from tqdm import tqdm

    from pipeline.backbones.checkpoint import load_backbone, weights_hash
    from pipeline.data.schema import ClipSet
    from pipeline.encoders.frozen import Encoders
    from pipeline.evaluation.conditions import condition_items
    from pipeline.sampling.batch import sample_batch
    from pipeline.sampling.generate import Generator, prepare_network
    from pipeline.sampling.moments_file import moments_hash, read_moments
    from pipeline.sampling.writer import SampleWriter

    row, data = stage.params.runs[stage.args.run], stage.args.data
    weights, initial, moments_file, clips_folder = stage.inputs
    spec = stage.params.backbones[row.backbone]
    encoders = Encoders.load(initial).to(stage.device)
    backbone = prepare_network(load_backbone(weights, vae_hash=encoders.vae_hash), spec.sampling, stage.device)
    mean, variance = read_moments(moments_file, encoders.vae_hash) if row.init == "analytic" else (None, None)
    start = getattr(row.start, data)
    generator = Generator(backbone, spec.process, spec.sampling, start, row.init, mean, variance, row.motion_bucket)
    clips = ClipSet(clips_folder)
    items = condition_items(clips, stage.params.evaluation if data == "ucf101" else None)
    study = stage.params.study if data == "imagebench" else None
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
    writer = SampleWriter(stage.outputs[0], study)
    size = spec.sampling.batch_size
    for begin in tqdm(range(0, len(items), size), unit="batch", disable=None):
        batch = items[begin : begin + size]
        videos, told = sample_batch(generator, encoders, clips, batch, spec.sampling.seed, stage.device)
        writer.add(clips, batch, videos, [{**common, **each} for each in told])
    writer.close()
    stage.log.info("%d clips", len(items))
    stage.record.metrics({"clips": len(items)})
    for video in writer.videos[:4]:
        stage.record.artifact(video, "videos")
    stage.record.params({"generator": json.loads(json.dumps(generator.describe()))})
