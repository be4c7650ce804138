"""Join the probes into the leakage table, its curves beside the perfect denoiser's, and strips of frames."""

from pipeline.probing.probe_file import read_probe
from pipeline.reporting.leakage import draw_leakage, draw_strips, leakage_csv, main_weights
from pipeline.reporting.rows import BACKBONES


def add_arguments(parser):
    pass


def run(stage):
    folder = stage.inputs[0]
    found = [read_probe(folder / "weights" / name) for name in stage.params.probes]
    probed = {probe.backbone for probe, _ in found}
    perfect = {name: read_probe(folder / "perfect" / name) for name in BACKBONES if name in probed}
    curves = {name: probe for name, (probe, _) in perfect.items()}
    table, figure, strips = stage.outputs
    table.write_text(leakage_csv([probe for probe, _ in found], curves))
    draw_leakage(figure, [probe for probe, _ in found], curves)
    shown = [pair for pair in found if main_weights(pair[0])]
    draw_strips(strips, sorted([*perfect.values(), *shown], key=lambda pair: list(perfect).index(pair[0].backbone)))
    for path in (figure, strips):
        stage.record.artifact(path)
