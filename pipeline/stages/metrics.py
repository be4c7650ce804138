"""Measure one run. Reads features; writes FVD, a second Frechet distance, IS and motion, each with count and spread.

``--of controls`` measures two sets whose answer is known: as many real clips against other real clips (the floor of
every distance), and the condition image repeated as a video (no motion at all).
"""

from pipeline.evaluation.feature_store import read_features
from pipeline.evaluation.measure import MeasureSettings, measure
from pipeline.evaluation.metric_file import write_metrics


def add_arguments(parser):
    parser.add_argument("--of", required=True, metavar="RUN", help="a key of runs in params.yaml, or controls")


def run(stage):
    evaluation = stage.params.evaluation
    settings = MeasureSettings(
        seed=evaluation.seed,
        minimum=evaluation.minimum,
        allow_few=evaluation.allow_few,
        subsets=evaluation.subsets,
        is_splits=evaluation.is_splits,
    )
    folder, real = (stage.inputs[0], stage.inputs[-1])
    reference = read_features(real, "reference")
    if stage.args.of == "controls":
        sets = {"real": read_features(folder, "conditions"), "repeated": read_features(folder, "repeated")}
    else:
        sets = {"": read_features(folder, "samples")}
    measurements = {name: measure(features, reference, settings) for name, features in sets.items()}
    stage.outputs[0].parent.mkdir(parents=True, exist_ok=True)
    write_metrics(stage.outputs[0], measurements)
    for name, measurement in measurements.items():
        for metric, value in measurement.values.items():
            key = f"{name}_{metric}" if name else metric
            stage.record.metrics(
                {key: value.value} | ({f"{key}_spread": value.spread} if value.spread is not None else {})
            )
        if not measurement.values:
            stage.log.warning(
                "%s: %d clips are too few (evaluation.minimum is %d); no number is given",
                stage.args.of,
                measurement.count,
                settings.minimum,
            )
