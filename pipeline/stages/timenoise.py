"""Join the ablations of the noise on the condition: csv, page, and a figure of its levels over the training times.

Reads metrics of the rows at the standard start; the levels are drawn from the parameters alone.
"""

from pipeline.reporting.measured import read_runs
from pipeline.reporting.methods import condition_noise_rows
from pipeline.reporting.noise_levels import draw_noise_levels, profiles_of, rise_table
from pipeline.reporting.rows import BACKBONES
from pipeline.reporting.sweep import sweep_csv, sweep_page

INTRO = (
    "Fine-tunings that differ in the noise on their condition alone, sampled from the standard start with a clean "
    "condition: TimeNoise (equation 6) with linear, convex and concave mu and several beta_m, and what the paper "
    "compares it with."
)
LEVELS = (
    "## Levels over the training times\n\nA level that does not rise with t is no TimeNoise. Medians over draws from "
    "each backbone's own training distribution of t; for SVD under every map from sigma to t."
)


def add_arguments(parser):
    pass


def run(stage):
    runs, measured, controls = read_runs(stage)
    trainings, backbones = stage.params.trainings, stage.params.backbones
    rows = condition_noise_rows(runs, trainings)
    profiles = {
        name: profiles_of(name, backbones[name].family, backbones[name].process, trainings)
        for name in BACKBONES
        if name in backbones
    }
    table, page, figure = stage.outputs
    table.write_text(sweep_csv(rows, measured))
    baseline = "the same backbone's naive fine-tune"
    text = sweep_page("Noise on the condition", INTRO, baseline, rows, measured, controls, [])
    page.write_text(f"{text}\n{LEVELS}\n\n{rise_table(profiles)}\n")
    draw_noise_levels(figure, backbones, trainings, profiles)
    stage.record.artifact(figure)
    stage.record.artifact(page)
