"""Make a backbone's user study. Reads ImageBench samples of its four variants; writes the participants' page and key.

Participants open sheet/index.html from the folder or a static host: it needs no server and no network. Hand out the
folder sheet only; key/ says which run is left and which is right, who judges what, and which pairs check attention.
"""

from pipeline.evaluation.samples import read_manifest
from pipeline.study.sheet import write_sheet


def add_arguments(parser):
    parser.add_argument("--backbone", required=True, help="a key of sheets in params.yaml")


def run(stage):
    runs = stage.params.sheets[stage.args.backbone].runs
    samples = {name: (folder, read_manifest(folder)) for name, folder in zip(runs, stage.inputs, strict=True)}
    stage.outputs[0].mkdir(parents=True)
    count = write_sheet(
        stage.outputs[0], samples, stage.params.survey.seed, stage.params.survey, stage.params.study.fps
    )
    stage.log.info("%d pairs", count)
    stage.record.metrics({"pairs": count})
