"""Join the probes into the leakage table, its curves beside the perfect denoiser's, and strips of frames."""

from pipeline.probing.probe_file import read_probe
from pipeline.reporting.leakage import draw_leakage, draw_strips, leakage_csv


def add_arguments(parser):
    pass


def run(stage):
    folder = stage.inputs[0]
    found = [read_probe(folder / "weights" / name) for name in stage.params.probes]
    perfect = {name: read_probe(folder / "perfect" / name) for name in stage.params.backbones}
    curves = {name: probe for name, (probe, _) in perfect.items()}
    table, figure, strips = stage.outputs
    table.write_text(leakage_csv([probe for probe, _ in found], curves))
    draw_leakage(figure, [probe for probe, _ in found], curves)
    shown = [pair for name, pair in perfect.items() if any(probe.backbone == name for probe, _ in found)]
    draw_strips(strips, sorted(shown + found, key=lambda pair: list(perfect).index(pair[0].backbone)))
    for path in (figure, strips):
        stage.record.artifact(path)
