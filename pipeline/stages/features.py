"""Look at clips with the detectors. Reads samples (or real test clips); writes features, class logits and, a number a
clip, motion, temporal consistency, image alignment and the first frame's likeness.

``--of real`` writes three sets: reference (real), conditions (the real clips whose first frames condition the samples)
and repeated (those first frames as still videos).
"""

from pipeline.data.schema import ClipSet
from pipeline.evaluation.detectors.registry import load_detectors
from pipeline.evaluation.extract import MotionProtocol, extract_features, repeat_first_frame
from pipeline.evaluation.feature_store import write_features
from pipeline.evaluation.flow.registry import make_flow
from pipeline.evaluation.samples import asked_motion, condition_ids, sampling_seeds
from pipeline.evaluation.split import split_clips


def add_arguments(parser):
    parser.add_argument("--of", required=True, metavar="RUN", help="a key of runs in params.yaml, or real")


def run(stage):
    clips = ClipSet(stage.inputs[0])
    detectors = {role: detector.to(stage.device) for role, detector in load_detectors(stage.inputs[1]).items()}
    settings = stage.params.motion
    motion = MotionProtocol(settings.height, settings.width, make_flow(settings.flow, stage.device))
    write = stage.outputs[0]

    def extract(name, positions, seeds, change=lambda frames: frames, read_images=None, **more):
        stage.log.info("%s: %d clips", name, len(positions))
        features = extract_features(
            lambda batch: change(clips.frames([positions[i] for i in batch])),
            [clips.ids[i] for i in positions],
            seeds,
            detectors,
            motion,
            details={
                "set": name,
                "fps": sorted({clips.fps[i] for i in positions}),
                "strides": sorted({clips.strides[i] for i in positions}),
                "seeds": sorted(set(seeds)),
                **more,
            },
            read_images=read_images,
            device=stage.device,
        )
        write_features(write, name, features)

    if stage.args.of != "real":
        conditions = ClipSet(stage.inputs[2])
        places = {name: place for place, name in enumerate(conditions.ids)}
        shown = [places[name] for name in condition_ids(stage.inputs[0], clips.ids)]
        extract(
            "samples",
            list(range(len(clips))),
            sampling_seeds(stage.inputs[0], clips.ids),
            read_images=lambda batch: conditions.frames([shown[i] for i in batch])[:, 0],
            motion_bucket=asked_motion(stage.inputs[0]),
        )
        return
    rule = stage.params.evaluation
    split = split_clips(clips.ids, rule.seed, rule.conditions, rule.reference, rule.allow_few)
    for name, positions, change in (
        ("reference", sorted(split.reference), lambda frames: frames),
        ("conditions", sorted(split.conditions), lambda frames: frames),
        ("repeated", sorted(split.conditions), repeat_first_frame),
    ):
        extract(name, positions, [0] * len(positions), change)
