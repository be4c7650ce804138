"""Probe weights for conditional image leakage: one-step predictions of real clips from each of probe's times.

Reads weights and UCF101 test clips; writes motion by time and clip, and a strip of frames. The condition is each clip's
first frame, clean, as in sampling.
"""


def add_arguments(parser):
    parser.add_argument("--name", required=True, help="a key of probes in params.yaml")


def run(stage):
    from tqdm import tqdm

    from pipeline.backbones.checkpoint import load_backbone, weights_hash
    from pipeline.data.schema import ClipSet
    from pipeline.diffusion.leakage import training_share
    from pipeline.diffusion.schedules import make_schedule
    from pipeline.encoders.frozen import Encoders
    from pipeline.evaluation.flow.registry import make_flow
    from pipeline.evaluation.split import split_clips
    from pipeline.probing.measure import ProbeMeasurement, measure_probe
    from pipeline.probing.model import probes_of_clips, trained_process
    from pipeline.probing.probe_file import Probe, write_probe

    settings, rule, size = stage.params.probe, stage.params.evaluation, stage.params.motion
    spec = stage.params.probes[stage.args.name]
    process = stage.params.backbones[spec.backbone].process
    weights, initial, clips_folder = stage.inputs
    encoders = Encoders.load(initial).to(stage.device)
    backbone = load_backbone(weights, vae_hash=encoders.vae_hash).to(stage.device)
    clips = ClipSet(clips_folder)
    split = split_clips(clips.ids, rule.seed, rule.conditions, rule.reference, rule.allow_few)
    chosen = split.conditions[: settings.clips]
    schedule, times = make_schedule(process), settings.times(process)
    batches = probes_of_clips(
        backbone, encoders, schedule, clips, chosen, settings.seed, settings.batch_size, stage.device
    )  # fmt: skip
    motion = (size.height, size.width, make_flow(size.flow, stage.device))
    parts = [measure_probe(each.predict, times, each.x0, each.decode, motion) for each in tqdm(batches, disable=None)]
    found = ProbeMeasurement.joined(parts)
    probe = Probe(
        backbone=spec.backbone,
        weights=spec.weights,
        process=process.kind,
        times=times,
        training_share=[training_share(make_schedule(trained_process(weights)), time) for time in times],
        truth=found.truth,
        motion=found.motion,
        truth_square=found.truth_square,
        along=found.along,
        details={"weights": weights_hash(weights), "vae": encoders.vae_hash, "clips": len(chosen)},
    )
    write_probe(stage.outputs[0], probe, found.strip)
    stage.record.metrics({
        f"motion_at_{time:g}": sum(row) / len(row) for time, row in zip(times, found.motion, strict=True)
    })  # fmt: skip
