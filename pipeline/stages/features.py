"""Look at clips with the detectors. Reads samples (or real test clips); writes features, class logits and, a number a
clip, motion, temporal consistency, image alignment and the first frame's likeness.

``--of real`` writes three sets: reference (real), conditions (the real clips whose first frames condition the samples)
and repeated (those first frames as still videos). A part:
CLIPS_PER_PART clips of one set.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from pipeline.data.schema import ClipSet
from pipeline.evaluation.detectors.registry import load_detectors
from pipeline.evaluation.extract import MotionProtocol, extract_features, repeat_first_frame
from pipeline.evaluation.feature_store import FeatureSet, read_features, write_features
from pipeline.evaluation.flow.registry import make_flow
from pipeline.evaluation.samples import asked_motion, condition_ids, sampling_seeds
from pipeline.evaluation.split import split_clips

CLIPS_PER_PART = 64
PART = "part"  # name of the feature set in a part's folder


@dataclass(frozen=True)
class FeatureJob:
    """One set of clips: their places in ``clips``, how their frames are changed, and their condition images."""

    name: str
    clips: ClipSet
    places: list[int]
    seeds: list[int]
    details: dict
    change: Callable[[np.ndarray], np.ndarray] = lambda frames: frames
    read_images: Callable[[list[int]], np.ndarray] | None = None  # of these numbers in ``places``

    def part(self, rows: range, detectors, motion, device: str) -> FeatureSet:
        """Features of the clips with these numbers in ``places``."""
        return extract_features(
            lambda batch: self.change(self.clips.frames([self.places[rows[i]] for i in batch])),
            [self.clips.ids[self.places[i]] for i in rows],
            [self.seeds[i] for i in rows],
            detectors,
            motion,
            details=self.details,
            read_images=self.read_images and (lambda batch: self.read_images([rows[i] for i in batch])),
            device=device,
        )


def add_arguments(parser):
    parser.add_argument("--of", required=True, metavar="RUN", help="a key of runs in params.yaml, or real")


def make_parts(stage) -> int:
    parts = _parts(stage)
    missing = stage.parts.missing(len(parts))
    if not missing:
        return len(parts)
    detectors = {role: detector.to(stage.device) for role, detector in load_detectors(stage.inputs[1]).items()}
    settings = stage.params.motion
    motion = MotionProtocol(settings.height, settings.width, make_flow(settings.flow, stage.device))
    for number in tqdm(missing, unit="part", disable=None):
        job, rows = parts[number]
        with stage.parts.writing(number) as folder:
            write_features(folder, PART, job.part(rows, detectors, motion, stage.device))
    return len(parts)


def merge(stage, total: int) -> None:
    found: dict[str, list[FeatureSet]] = {}
    for (job, _), path in zip(_parts(stage), stage.parts.finished(total), strict=True):
        found.setdefault(job.name, []).append(read_features(path, PART))
    for name, parts in found.items():
        features = FeatureSet.joined(parts)
        write_features(stage.outputs[0], name, features)
        stage.log.info("%s: %d clips", name, len(features))


def _parts(stage) -> list[tuple[FeatureJob, range]]:
    """Every part: which set, and which numbers of its clips."""
    jobs = _real_jobs(stage) if stage.args.of == "real" else [_sample_job(stage)]
    return [
        (job, range(begin, min(begin + CLIPS_PER_PART, len(job.places))))
        for job in jobs
        for begin in range(0, len(job.places), CLIPS_PER_PART)
    ]


def _sample_job(stage) -> FeatureJob:
    folder = stage.inputs[0]
    clips, conditions = ClipSet(folder), ClipSet(stage.inputs[2])
    places = {name: place for place, name in enumerate(conditions.ids)}
    shown = [places[name] for name in condition_ids(folder, clips.ids)]
    seeds = sampling_seeds(folder, clips.ids)
    details = _details("samples", clips, range(len(clips)), seeds) | {"motion_bucket": asked_motion(folder)}
    return FeatureJob(
        "samples", clips, list(range(len(clips))), seeds, details,
        read_images=lambda batch: conditions.frames([shown[i] for i in batch])[:, 0],
    )  # fmt: skip


def _real_jobs(stage) -> list[FeatureJob]:
    clips, rule = ClipSet(stage.inputs[0]), stage.params.evaluation
    split = split_clips(clips.ids, rule.seed, rule.conditions, rule.reference, rule.allow_few)

    def job(name, places, **more):
        seeds = [0] * len(places)
        return FeatureJob(name, clips, places, seeds, _details(name, clips, places, seeds), **more)

    return [
        job("reference", sorted(split.reference)),
        job("conditions", sorted(split.conditions)),
        job("repeated", sorted(split.conditions), change=repeat_first_frame),
    ]


def _details(name: str, clips: ClipSet, places, seeds) -> dict:
    return {
        "set": name,
        "fps": sorted({clips.fps[i] for i in places}),
        "strides": sorted({clips.strides[i] for i in places}),
        "seeds": sorted(set(seeds)),
    }
