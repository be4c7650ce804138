"""Put every table and figure, the study's results, samples, parameters and hashes into one page that needs no other."""

GROUPS = (
    "world", "clips", "clip_sets", "encoders", "latents", "backbones", "moments", "trainings", "runs", "evaluation",
    "detectors", "motion", "probe", "probes", "claims", "sheets", "study", "survey",
)  # fmt: skip
PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "numpy", "opencv-python-headless", "dvc", "snakemake")


def add_arguments(parser):
    pass


def run(stage):
    import io
    from importlib import metadata

    from ruamel.yaml import YAML

    from pipeline.engine.ledger import Ledger
    from pipeline.reporting.report import shown_samples, write_report
    from pipeline.reporting.report_sections import sections_of
    from pipeline.reporting.rows import BACKBONES
    from pipeline.runner import declared_values, git_commit

    inputs = {path.name: path for path in stage.inputs}
    ledger = Ledger()
    entry = ledger.entries[stage.address]
    values = io.StringIO()
    YAML().dump(declared_values(stage.params, GROUPS), values)
    sections = sections_of(inputs)
    write_report(
        stage.outputs[0],
        demo="(demo)" in inputs["table3.md"].read_text(),
        contents=[(section.id, section.title) for section in sections]
        + [("samples", "Sample videos"), ("provenance", "Where it comes from")],
        sections=sections,
        samples=shown_samples(inputs["pairs"], BACKBONES, stage.params.runs),
        commit=git_commit(ledger.root),
        hashes=ledger.hashes(entry, "inputs"),
        packages={name: metadata.version(name) for name in PACKAGES},
        parameters=values.getvalue(),
    )
    stage.record.artifact(stage.outputs[0])
