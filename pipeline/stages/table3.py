"""Join the metric files into table 3. Reads metrics and ratings; writes csv, page and figure.

Cells without a run, with too few samples or without answers of a user study are empty in the csv; the page says why.
"""

from pipeline.evaluation.metric_file import read_metrics
from pipeline.reporting.figure3 import draw_figure
from pipeline.reporting.measured import read_measured
from pipeline.reporting.published import published_rows
from pipeline.reporting.ratings import read_ratings
from pipeline.reporting.rows import runs_of
from pipeline.reporting.table3 import csv_text, markdown_text


def add_arguments(parser):
    pass


def run(stage):
    controls_file, folder, study = stage.inputs
    runs = {name: run for name, run in runs_of(stage.params.runs).items() if run.group == folder.name}
    measured, controls = read_measured([folder], runs), read_metrics(controls_file)
    ratings = read_ratings(study / "ratings.csv")
    table, page, figure = stage.outputs
    table.write_text(csv_text(runs, measured, ratings))
    page.write_text(markdown_text(runs, measured, controls, ratings, published_rows()))
    draw_figure(figure, runs, measured, controls)
    stage.record.artifact(figure)
    stage.record.artifact(page)
