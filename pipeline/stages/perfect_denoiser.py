"""What a perfect denoiser would predict in the probe: the mean over all motions of the same scene, weighed by X_t.

Only for the embedded world, whose scenes can be given other motions; with probe.perfect.scenes 0 the curve is empty.
It is told the whole scene, more than any model: all but the motion.
"""


def add_arguments(parser):
    parser.add_argument("--backbone", required=True, help="a key of backbones in params.yaml")


def run(stage):
    from tqdm import tqdm

    from pipeline.diffusion.leakage import training_share
    from pipeline.diffusion.schedules import make_schedule
    from pipeline.encoders.frozen import Encoders
    from pipeline.evaluation.flow.registry import make_flow
    from pipeline.probing.measure import ProbeMeasurement, measure_probe
    from pipeline.probing.perfect import PerfectProbe
    from pipeline.probing.probe_file import Probe, write_probe
    from pipeline.probing.world_motions import scene_with_motions

    settings, size, rule = stage.params.probe, stage.params.motion, stage.params.probe.perfect
    process = stage.params.backbones[stage.args.backbone].process
    schedule, times = make_schedule(process), settings.times(process) if rule.scenes else []
    encoders = Encoders.load(stage.inputs[0], parts=("vae",)).to(stage.device)
    motion = (size.height, size.width, make_flow(size.flow, stage.device))
    scenes = []
    for number in tqdm(range(rule.scenes), unit="scene", disable=None):
        frames = scene_with_motions(
            stage.params.world, number, rule.motions, stage.params.clips.frames, rule.stride, settings.seed
        )
        scene = PerfectProbe(
            encoders, schedule, frames, f"scene {number}", settings.seed, settings.batch_size, stage.device
        )
        scenes.append(measure_probe(scene.predict, times, scene.x0, scene.decode, motion))
    found = ProbeMeasurement.joined(scenes)
    probe = Probe(
        backbone=stage.args.backbone,
        weights="perfect",
        process=process.kind,
        times=times,
        training_share=[training_share(schedule, time) for time in times],
        truth=found.truth,
        motion=found.motion,
        truth_square=found.truth_square,
        along=found.along,
        details={"vae": encoders.vae_hash, "motions": rule.motions},
    )
    write_probe(stage.outputs[0], probe, found.strip)
