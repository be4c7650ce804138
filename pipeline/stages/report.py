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
    from pipeline.params.declared import declared_values
    from pipeline.reporting.provenance import changed_files, foundation_hashes, stage_runs
    from pipeline.reporting.report import shown_samples, write_report
    from pipeline.reporting.report_sections import sections_of
    from pipeline.runner import git_commit
    from pipeline.tracking import job_costs

    inputs = {path.name: path for path in stage.inputs}
    ledger = Ledger()
    entry = ledger.entries[stage.address]
    values = io.StringIO()
    YAML().dump(declared_values(stage.params, GROUPS), values)
    clips, runs = stage.params.clips, stage.params.runs
    write_report(
        stage.outputs[0],
        demo="(demo)" in inputs["table3.md"].read_text(),
        size=f"{clips.height} x {clips.width}",
        sections=sections_of(inputs, runs),
        samples=shown_samples(inputs["pairs"], runs),
        commit=git_commit(ledger.root),
        changed=changed_files(ledger),
        stages=stage_runs(ledger.entries, job_costs(ledger.root)),
        hashes={
            "Clips, encoders, weights, moments and detectors": foundation_hashes(ledger),
            "Inputs of this page": ledger.hashes(entry, "inputs"),
            "Code of this page": ledger.hashes(entry, "code"),
        },
        packages={name: metadata.version(name) for name in PACKAGES},
        parameters=values.getvalue(),
    )
    stage.record.artifact(stage.outputs[0])
