"""Join the metric files into the UCF101 table: original and fine-tuned weights, each with and without the two mends."""

from pipeline.reporting.measured import read_runs
from pipeline.reporting.methods import ucf101_rows
from pipeline.reporting.published import published_rows
from pipeline.reporting.sweep import sweep_csv, sweep_page

INTRO = (
    "Samples from the first frames of UCF101 test clips. *original*: the weights that fine-tuning starts from; *CIL*: "
    "both of the paper's mends together. Motion is worth something only while consistency, alignment and first frame "
    "hold: the condition image repeated has all of these and no motion."
)


def add_arguments(parser):
    pass


def run(stage):
    runs, measured, controls = read_runs(stage)
    rows = ucf101_rows(runs)
    published = [row for row in published_rows() if row["table"] in ("ucf101", "table3")]
    table, page = stage.outputs
    table.write_text(sweep_csv(rows, measured))
    baseline = "the same backbone's naive fine-tune at the standard start"
    page.write_text(sweep_page("UCF101", INTRO, baseline, rows, measured, controls, published))
    stage.record.artifact(page)
