"""What one seed's weights are measured by: samples that are looked at as they are made, and one-step predictions."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from pipeline.backbones.checkpoint import load_backbone
from pipeline.claims.plan import Sampling, start_values
from pipeline.claims.seed_file import ProbeResult
from pipeline.diffusion.schedules import make_schedule
from pipeline.evaluation.conditions import Item
from pipeline.evaluation.extract import MotionProtocol, extract_features
from pipeline.evaluation.feature_store import FeatureSet
from pipeline.evaluation.measure import MeasureSettings, measure
from pipeline.probing.measure import ProbeMeasurement, measure_probe
from pipeline.probing.model import probes_of_clips
from pipeline.probing.ratio import motion_ratio
from pipeline.sampling.batch import sample_batch
from pipeline.sampling.generate import Generator, prepare_network


@dataclass(frozen=True)
class Instruments:
    """What every seed shares: encoders, test clips, detectors, the real reference, and how numbers are formed."""

    encoders: object
    clips: object  # ClipSet of the test clips
    detectors: dict
    motion: MotionProtocol
    reference: FeatureSet
    items: list[Item]  # the conditions, one sampling each
    settings: MeasureSettings
    mean: Tensor  # moments of the latents
    variance: float
    device: str


def measure_samples(weights: Path, sampling: Sampling, seed: int, design, spec, tools: Instruments) -> dict[str, float]:
    """Every metric of one set of samples; raises PipelineError where there are too few clips for numbers."""
    settings = spec.sampling.model_copy(update={"seed": seed})
    backbone = load_backbone(weights, vae_hash=tools.encoders.vae_hash)
    generator = Generator(
        prepare_network(backbone, settings, tools.device), spec.process, settings,
        start_values(design, spec.process)[sampling.start], sampling.init, tools.mean, tools.variance,
    )  # fmt: skip
    items = tools.items

    def sample(positions: list[int]):
        batch = [items[place] for place in positions]
        return sample_batch(generator, tools.encoders, tools.clips, batch, seed, tools.device)[0]

    features = extract_features(
        sample,
        [item.id for item in items],
        [item.seed for item in items],
        tools.detectors,
        tools.motion,
        details={},
        read_images=lambda positions: tools.clips.frames([items[place].position for place in positions])[:, 0],
        batch_size=settings.batch_size,
        device=tools.device,
    )
    return {name: value.value for name, value in measure(features, tools.reference, tools.settings).values.items()}


def probe_weights(
    weights: Path, seed: int, design, spec, probe, positions: list[int], tools: Instruments
) -> ProbeResult:
    """One-step predictions of the test clips at ``positions``; ``probe``: the group of params.yaml."""
    backbone = load_backbone(weights, vae_hash=tools.encoders.vae_hash).to(tools.device)
    size = (tools.motion.height, tools.motion.width, tools.motion.flow)
    squared, parts = dict.fromkeys(design.probe_times, 0.0), []
    for batch in probes_of_clips(
        backbone,
        tools.encoders,
        make_schedule(spec.process),
        tools.clips,
        positions,
        seed,
        probe.batch_size,
        tools.device,
    ):

        def predict(time: float, batch=batch) -> Tensor:
            predicted = batch.predict(time)
            errors = (predicted - batch.x0).square().flatten(1).mean(1)
            squared[time] += errors.sum().item() / len(positions)
            return predicted

        parts.append(measure_probe(predict, design.probe_times, batch.x0, batch.decode, size))
    found = ProbeMeasurement.joined(parts)
    moved, followed = motion_ratio(found.motion, found.truth), motion_ratio(found.along, found.truth_square)
    return ProbeResult(*(values.tolist() for values in (*moved, *followed)), list(squared.values()))
