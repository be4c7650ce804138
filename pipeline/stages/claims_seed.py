"""One seed of the claims: trains its own start and four fine-tunings, samples and probes them, writes the numbers.

Everything random is drawn from the seed: weights, the order of clips, the few clips, noises. Encoders, test clips,
detectors and moments are shared by all seeds. Started again it goes on with what is not there yet.
"""


def add_arguments(parser):
    parser.add_argument("--seed", required=True, type=int, help="one of claims.seeds in params.yaml")


def run(stage):
    import json

    from pipeline.claims.measuring import Instruments, measure_samples, probe_weights
    from pipeline.claims.plan import SAMPLINGS, TUNINGS
    from pipeline.claims.seed_file import ProbeResult, SeedResult, write_seed
    from pipeline.claims.weights import SeedWeights
    from pipeline.data.schema import ClipSet
    from pipeline.encoders.frozen import Encoders
    from pipeline.engine.parts import flush
    from pipeline.evaluation.conditions import Item
    from pipeline.evaluation.detectors.registry import load_detectors
    from pipeline.evaluation.extract import MotionProtocol
    from pipeline.evaluation.feature_store import read_features
    from pipeline.evaluation.flow.registry import make_flow
    from pipeline.evaluation.measure import MeasureSettings
    from pipeline.evaluation.split import split_clips
    from pipeline.sampling.moments_file import read_moments

    seed, design, rule, size = stage.args.seed, stage.params.claims.design, stage.params.evaluation, stage.params.motion
    initial, latents, moments, clips_folder, detectors, real = stage.inputs
    spec = stage.params.backbones[design.backbone]
    encoders = Encoders.load(initial).to(stage.device)
    mean, variance = read_moments(moments, encoders.vae_hash)
    reference, clips = read_features(real, "reference"), ClipSet(clips_folder)
    split = split_clips(clips.ids, rule.seed, rule.conditions, rule.reference, rule.allow_few)
    tools = Instruments(
        encoders=encoders,
        clips=clips,
        detectors={role: detector.to(stage.device) for role, detector in load_detectors(detectors).items()},
        motion=MotionProtocol(size.height, size.width, make_flow(size.flow, stage.device)),
        reference=reference,
        items=[Item(clips.ids[place], clips.ids[place], place, 0) for place in sorted(split.conditions)],
        settings=MeasureSettings(rule.seed, rule.minimum, rule.allow_few, rule.subsets, rule.is_splits),
        mean=mean,
        variance=variance,
        device=stage.device,
    )
    trained = SeedWeights(
        stage.state_dir, seed, design, spec, latents, initial,
        stage.runtime, stage.record, stage.log,
    )  # fmt: skip

    def once(name: str, make) -> dict:
        path = stage.state_dir / f"{name}.json"
        if not path.exists():
            stage.log.info("%s", name)
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps(make()))
            flush(partial)
            partial.rename(path)
        found = json.loads(path.read_text())
        stage.record.metrics({f"{name}.{key}": value for key, value in found.items() if isinstance(value, float)})
        return found

    weights = {name: trained.tune(name) for name in TUNINGS}
    runs = {
        each.name: once(
            each.name, lambda each=each: measure_samples(weights[each.weights], each, seed, design, spec, tools)
        )
        for each in SAMPLINGS
    }
    probed = split.conditions[: stage.params.probe.clips]
    probes = {
        name: once(
            f"probe of {name}",
            lambda folder=folder: vars(probe_weights(folder, seed, design, spec, stage.params.probe, probed, tools)),
        )
        for name, folder in weights.items()
    }
    write_seed(
        stage.outputs[0],
        SeedResult(
            seed=seed,
            runs=runs,
            probes={name: ProbeResult(**found) for name, found in probes.items()},
            final_loss={name: trained.final_loss(name) for name in TUNINGS},
            real_motion=float(read_features(real, "conditions").arrays["motion_px"].mean()),
            clips=len(split.conditions),
            probe_times=list(design.probe_times),
            provenance=reference.provenance,
        ),
    )
