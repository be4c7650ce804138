# Holds no stage of its own: dvc.yaml is the only list of stages and dvc.lock the only record of what ran.
# Here they get what DVC has no word for: parallel execution, resources, logs, benchmarks.
#   snakemake --cores all reports/table3.csv
import sys

sys.path.insert(0, workflow.basedir)

from pipeline import tracking
from pipeline.engine import snakemake_rules as rules_of
from pipeline.engine.ledger import Ledger
from pipeline.errors import PipelineError


report: "docs/captions/workflow.rst"


stale_jobs = set()
try:
    if workflow.is_main_process:
        alone = rules_of.hold()
        ledger, stale_jobs = rules_of.open_ledger(workflow.basedir, alone)
    else:
        ledger = Ledger(workflow.basedir, locked=False)
except PipelineError as error:
    sys.exit(f"error: {error}")


onstart:
    try:
        rules_of.require_alone(alone)
        tracking.prepare_store(ledger.root)
    except PipelineError as error:
        sys.exit(f"error: {error}")


onsuccess:
    rules_of.settle(workflow.basedir)


onerror:
    rules_of.settle(workflow.basedir)


rule all:
    default_target: True
    input:
        [path for entry in ledger.entries.values() for path in entry.outputs],


def inputs_of(spec, of_shard=False):
    def inputs(wildcards):
        entry = spec.entry(wildcards)
        paths = [up for path in entry.inputs for up in ledger.upstream_paths(path)]
        made_now = [
            path
            for path in paths
            if (owner := ledger.producer(path)) and owner.address in stale_jobs
        ]
        again = (
            [str(rules_of.marker(entry.address))]
            if entry.address in stale_jobs and not of_shard
            else []
        )
        if again:
            again += spec.shard_receipts(entry)
        return [
            path if path in made_now else ancient(path) for path in dict.fromkeys(paths)
        ] + again

    return inputs


def job_arguments(spec, of_shard=False):
    def arguments(wildcards):
        words = [spec.address(wildcards)]
        if of_shard:
            words += ["--shard", f"{wildcards.shard}-of-{spec.shards}"]
        elif spec.shards > 1:
            words += ["--joins", str(spec.shards)]
        return " ".join(words)

    return arguments


def shown(spec, path):
    made = directory(path) if rules_of.is_folder(path) else path
    words = rules_of.in_report(ledger.root, spec.stage, path)
    return report(made, **words) if words else made


for spec in rules_of.rule_specs(ledger):

    rule:
        name:
            spec.name
        input:
            inputs_of(spec),
        output:
            [shown(spec, path) for path in spec.outputs],
        log:
            spec.log,
        benchmark:
            spec.benchmark
        wildcard_constraints:
            key=spec.keys_pattern,
        priority: spec.meta["priority"]
        conda:
            "envs/pipeline.yaml"
        threads: spec.meta["threads"]
        resources:
            mem_mb=rules_of.growing(spec, "mem_mb"),
            runtime=rules_of.growing(spec, "minutes"),
            gpu=spec.gpus(of_shard=False),
        params:
            job=job_arguments(spec),
        shell:
            "exec python -m pipeline.engine.job {params.job} > {log} 2>&1"

    if spec.shards > 1:

        rule:
            name:
                f"{spec.name}_shard"
            input:
                inputs_of(spec, of_shard=True),
            output:
                spec.shard_receipt,
            log:
                spec.shard_log,
            wildcard_constraints:
                key=spec.keys_pattern,
                shard="[0-9]+",
            priority: spec.meta["priority"]
            conda:
                "envs/pipeline.yaml"
            threads: spec.meta["threads"]
            resources:
                mem_mb=rules_of.growing(spec, "mem_mb"),
                runtime=rules_of.growing(spec, "minutes"),
                gpu=spec.gpus(of_shard=True),
            params:
                job=job_arguments(spec, of_shard=True),
            shell:
                "exec python -m pipeline.engine.job {params.job} > {log} 2>&1"
