"""Join the metric files into table 3. Reads metrics; writes the csv, a page with spreads and controls, and a figure.

Cells without a run, with too few samples or without answers of a user study are empty in the csv; the page says why.
"""

from pipeline.evaluation.metric_file import read_metrics
from pipeline.reporting.figure3 import draw_figure
from pipeline.reporting.published import published_rows
from pipeline.reporting.ratings import read_ratings
from pipeline.reporting.rows import Run
from pipeline.reporting.table3 import csv_text, markdown_text


def add_arguments(parser):
    pass


def run(stage):
    folder, *answers = stage.inputs
    runs = {
        name: Run(name, spec.backbone, spec.training, spec.init, spec.start.ucf101)
        for name, spec in stage.params.runs.items()
    }
    _forget_other_runs(folder, {"controls", *runs}, stage.log)
    measured = {name: read_metrics(folder / f"{name}.json")[""] for name in runs}
    controls = read_metrics(folder / "controls.json")
    ratings = read_ratings(answers[0]) if answers else {}
    table, page, figure = stage.outputs
    table.write_text(csv_text(runs, measured, ratings))
    page.write_text(markdown_text(runs, measured, controls, ratings, published_rows()))
    draw_figure(figure, runs, measured, controls)
    stage.record.artifact(figure)
    stage.record.artifact(page)


def _forget_other_runs(folder, known, log):
    # DVC hashes the whole folder: the file of a row that params.yaml no longer has would make a fresh clone, which
    # never had that row, look stale. It is measured again, in seconds, when the row comes back.
    for path in sorted(folder.glob("*.json")):
        if path.stem not in known:
            log.info("removing %s, which no row of params.yaml names any more", path.name)
            path.unlink()
