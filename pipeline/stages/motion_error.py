"""Join the runs that ask for a motion: how far the motion score of what comes out is from the one asked for."""

from pipeline.reporting.measured import read_runs
from pipeline.reporting.methods import motion_error_rows
from pipeline.reporting.sweep import sweep_csv, sweep_page

INTRO = (
    "SVD is told a motion bucket, which is meant as a motion score. Motion score error: mean over clips of the "
    "distance of the motion score from the one asked for, in the unit of the motion score at this protocol's size. "
    "Only a model whose training saw clips of several buckets can follow: the released SVD did; the demo's was told "
    "one bucket for all clips, as the paper's fine-tunings are, and so shows how far its motion is from each, not that "
    "it listens."
)


def add_arguments(parser):
    pass


def run(stage):
    runs, measured, controls = read_runs(stage)
    rows = motion_error_rows(runs, measured)
    table, page = stage.outputs
    table.write_text(sweep_csv(rows, measured))
    page.write_text(sweep_page("Motion score error", INTRO, "", rows, measured, controls, []))
    stage.record.artifact(page)
