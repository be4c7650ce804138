"""Judge the paper's claims over the seeds. Reads the seeds' numbers, the perfect denoiser's; writes csv, page, figure.

A claim that fails stays in all three.
"""

from pipeline.claims.seed_file import read_seed
from pipeline.claims.verdicts import Reference, judge, lines_of
from pipeline.probing.probe_file import read_probe
from pipeline.probing.ratio import motion_ratio
from pipeline.reporting.claims import claims_csv, claims_page, draw_claims
from pipeline.reporting.page import is_demo


def add_arguments(parser):
    pass


def run(stage):
    folder, perfect_folder = stage.inputs
    claims = stage.params.claims
    seeds = [read_seed(folder / f"{seed}.json") for seed in sorted(claims.seeds)]
    perfect, _ = read_probe(perfect_folder)
    reference = None
    if perfect.times:
        places = [perfect.times.index(time) for time in claims.design.probe_times]
        found = motion_ratio(perfect.motion, perfect.truth), motion_ratio(perfect.along, perfect.truth_square)
        reference = Reference(*(values[places].tolist() for pair in found for values in pair))
    verdicts = [judge(line, seeds) for line in lines_of(reference)]
    table, page, figure = stage.outputs
    table.write_text(claims_csv(verdicts, seeds))
    page.write_text(claims_page(verdicts, seeds, claims.design, is_demo(seeds[0].provenance)))
    draw_claims(figure, verdicts)
    stage.record.artifact(page)
    stage.record.artifact(figure)
