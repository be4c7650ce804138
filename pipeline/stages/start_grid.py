"""Join the metric files into the sweep of start times: csv, page and curves of both starts over M."""

from pipeline.reporting.measured import read_runs
from pipeline.reporting.methods import start_rows
from pipeline.reporting.published import published_rows
from pipeline.reporting.start_curves import draw_start_curves
from pipeline.reporting.sweep import sweep_csv, sweep_page

INTRO = (
    "Sampling begins at M < T (SVD: at a smaller sigma), from the standard start or from Analytic-Init. The "
    "paper's idea: a smaller M leaves out the times at which the condition is copied, and Analytic-Init mends the gap "
    "between the start and the noised clips that a smaller M opens."
)


def add_arguments(parser):
    pass


def run(stage):
    runs, measured, controls = read_runs(stage)
    rows = start_rows(runs)
    published = [row for row in published_rows() if row["table"] in ("naive_start", "start_grid")]
    table, page, figure = stage.outputs
    table.write_text(sweep_csv(rows, measured))
    baseline = "the same weights' standard start at the largest start"
    page.write_text(sweep_page("Start times", INTRO, baseline, rows, measured, controls, published))
    draw_start_curves(figure, rows, measured, controls)
    stage.record.artifact(figure)
    stage.record.artifact(page)
