"""Make the detectors. Reads labelled clips, and published weights where params name them; writes one for each role.

``kind: trained`` (demo scale): a small 3D convolutional network (features for FVD, classes for IS). It is a stand-in:
its numbers compare with each other only, as every table says. ``published``: I3D and C3D. Both with a
principal-component embedding of the clips, a second Frechet distance.
"""

from pipeline.data.schema import ClipSet
from pipeline.evaluation.detectors.pca import DemoPca
from pipeline.evaluation.detectors.registry import save_detectors
from pipeline.evaluation.detectors.training import TrainingSettings, coarse_clips, motion_targets, train_conv3d


def add_arguments(parser):
    pass


def run(stage):
    spec = stage.params.detectors
    clips = ClipSet(stage.inputs[0])
    detectors = {"trained": _trained, "published": _published}[spec.kind](stage, spec, clips)
    detectors["pca"] = DemoPca.fit(coarse_clips(clips.frames, len(clips)), spec.features)
    save_detectors(stage.outputs[0], detectors)
    for role, detector in detectors.items():
        stage.log.info("%s: %s %s: %s", role, detector.identity.name, detector.identity.hash[:12],
                       detector.identity.protocol)  # fmt: skip


def _trained(stage, spec, clips):
    settings = TrainingSettings(**spec.model_dump(exclude={"kind"}))
    stage.log.info("motion of %d clips", len(clips))
    network = train_conv3d(
        clips.frames,
        list(clips.labels),
        motion_targets(clips.frames, len(clips)),
        settings,
        on_step=lambda step, losses: stage.record.metrics(losses, step=step) if step % 25 == 0 else None,
    )
    return {"fvd": network, "is": network}


def _published(stage, spec, clips):
    import tempfile
    from pathlib import Path

    from pipeline.conversion.torchscript import convert_torchscript, is_torchscript
    from pipeline.conversion.weight_file import find
    from pipeline.evaluation.detectors.c3d import load_c3d
    from pipeline.evaluation.detectors.i3d import load_i3d

    i3d = find(**spec.fvd.weights.model_dump())
    c3d = find(**spec.inception.weights.model_dump())
    mean = find(**spec.inception.mean.model_dump()) if spec.inception.mean else None
    stage.record.params({"sources": {
        "i3d": i3d.record(), "c3d": c3d.record(), **({"c3d mean": mean.record()} if mean else {})
    }})  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = i3d.path
        if is_torchscript(path):
            path = Path(folder) / "i3d.safetensors"
            convert_torchscript(i3d, spec.fvd.allow_code, path)
        frechet = load_i3d(path, spec.fvd.protocol)
    return {"fvd": frechet, "is": load_c3d(c3d.path, mean.path if mean else None, spec.inception.mean_column)}
