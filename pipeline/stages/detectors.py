"""Train the demo's detectors on real clips. Reads labelled clips; writes one detector for each metric's role.

A small 3D convolutional network (features for FVD, classes for IS) and a principal-component embedding (a second
Frechet distance). They are stand-ins for I3D and C3D: their numbers compare with each other only, as every table says.
"""

from pipeline.data.schema import ClipSet
from pipeline.evaluation.detectors.pca import DemoPca
from pipeline.evaluation.detectors.registry import save_detectors
from pipeline.evaluation.detectors.training import TrainingSettings, coarse_clips, motion_targets, train_conv3d


def add_arguments(parser):
    pass


def run(stage):
    clips = ClipSet(stage.inputs[0])
    settings = TrainingSettings(**stage.params.detectors.model_dump(exclude={"kind"}))
    stage.log.info("motion of %d clips", len(clips))
    motion = motion_targets(clips.frames, len(clips))
    network = train_conv3d(
        clips.frames,
        list(clips.labels),
        motion,
        settings,
        on_step=lambda step, losses: stage.record.metrics(losses, step=step) if step % 25 == 0 else None,
    )
    components = DemoPca.fit(coarse_clips(clips.frames, len(clips)), settings.features)
    save_detectors(stage.outputs[0], {"fvd": network, "is": network, "pca": components})
    for detector in (network, components):
        stage.log.info("%s %s: %s", detector.identity.name, detector.identity.hash[:12], detector.identity.protocol)
