"""The smoke preset with its real stages, through both engines: it ends, agrees, uses only what dvc.yaml declares."""

import csv
import os
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline import presets
from pipeline.engine.journal import read_journal
from pipeline.engine.ledger import Ledger
from pipeline.runner import INFRASTRUCTURE

pytestmark = [pytest.mark.smoke, pytest.mark.timeout(1800)]
ROOT = Path(__file__).resolve().parents[2]
DIVIDED = {"preprocess": 2, "latents": 2, "moments": 2}
JOINED = ("table3", "ucf101", "start_grid", "timenoise", "motion_error", "claims")


def begin(folder: Path, *command: str, **environment: str) -> subprocess.Popen:
    settings = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **environment}
    output = tempfile.TemporaryFile("w+")  # noqa: SIM115 (``end`` closes it)
    process = subprocess.Popen(command, cwd=folder, env=settings, text=True, stdout=output, stderr=subprocess.STDOUT)
    process.output = output
    return process


def end(process: subprocess.Popen) -> str:
    """Wait until it is over; returns what it printed."""
    code = process.wait()
    with process.output as output:
        output.seek(0)
        printed = output.read()
    assert code == 0, f"{' '.join(process.args)}\n{printed[-8000:]}"
    return printed


def run(folder: Path, *command: str, **environment: str) -> str:
    return end(begin(folder, *command, **environment))


def project(folder: Path) -> Path:
    """What git holds (and what is new beside it), with the smoke preset."""
    files = run(ROOT, "git", "ls-files", "--cached", "--others", "--exclude-standard").split("\n")
    for name in filter(None, files):
        source = ROOT / name
        if source.is_file() and name.split("/")[0] not in ("reports", "metrics") and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / name)
    run(folder, "git", "init", "--quiet")
    run(folder, sys.executable, "-m", "pipeline", "preset", "smoke")
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """Both engines beside each other: DVC works at one job at a time. Snakemake's first stages are divided."""
    folders = [project(tmp_path_factory.mktemp(engine) / "project") for engine in ("snakemake", "dvc")]
    params = folders[0] / "params.yaml"
    tree = presets.read(params)
    tree["runtime"]["shards"].update(DIVIDED)
    presets.write(tree, params)
    trace = {"TRACE_FILE": str(folders[1].with_name("trace.tsv")), "PYTHONPATH": str(Path(__file__).parent)}
    runs = [
        begin(folders[0], "snakemake", "--cores", "all"),
        begin(folders[1], "dvc", "repro", PIPELINE_TRACKING="off", **trace),
    ]
    try:
        for process in runs:
            end(process)
        yield folders
    finally:
        for process in runs:
            process.kill()


@pytest.fixture(scope="session")
def by_snakemake(finished):
    return finished[0]


@pytest.fixture(scope="session")
def by_dvc(finished):
    return finished[1]


def notes(trace: Path) -> dict[str, dict[str, set[str]]]:
    """By stage command: what it imported and what it opened."""
    found: dict = defaultdict(lambda: defaultdict(set))
    for line in trace.read_text().splitlines():
        command, event, what = line.split("\t")
        found[command][event].add(what)
    return found


def test_table_has_the_rows_and_the_cells_of_the_smoke_runs(by_snakemake):
    folder = by_snakemake
    rows = list(csv.DictReader((folder / "reports/table3.csv").open()))
    assert [(row["inference"], row["train"]) for row in rows] == [
        ("standard", "finetune"), ("analytic", "finetune"), ("standard", "timenoise"), ("analytic", "timenoise"),
    ]  # fmt: skip
    assert all(float(row["dynamicrafter_fvd"]) > 0 and float(row["dynamicrafter_is"]) >= 1 for row in rows)
    assert rows[0]["videocrafter1_fvd"] and not rows[1]["videocrafter1_fvd"]
    assert rows[3]["svd_fvd"] and not rows[0]["svd_fvd"]


def test_both_engines_give_the_same_ledger_and_reports(by_snakemake, by_dvc):
    folder = by_snakemake
    by_snakemake_says, by_dvc_says = (YAML(typ="safe").load(path / "dvc.lock") for path in (folder, by_dvc))
    for ledger in (by_snakemake_says, by_dvc_says):
        del ledger["stages"]["compute"], ledger["stages"]["report"]  # they tell the time that jobs took
    assert by_snakemake_says == by_dvc_says
    reports = [f"{name}.{kind}" for name in JOINED for kind in ("csv", "md")]
    for report in (*reports, "leakage.csv", "leakage.png", "start_grid.png", "timenoise.png", "claims.png"):
        assert (folder / "reports" / report).read_bytes() == (by_dvc / "reports" / report).read_bytes()


def test_shards_made_the_parts(by_snakemake):
    began = [event["address"] for event in read_journal(by_snakemake) if event["event"] == "begun"]
    for name, number in DIVIDED.items():
        shards = [address for address in began if address.split("@")[0] == name and "#" in address]
        whole = [address for address in began if address.split("@")[0] == name and "#" not in address]
        assert len(shards) == number * len(whole) > 0


def test_nothing_to_do_for_either_engine(by_snakemake, by_dvc):
    for folder in (by_snakemake, by_dvc):
        assert "Nothing to be done" in run(folder, "snakemake", "-n", "--cores", "1")
        assert "Running stage" not in run(folder, "dvc", "repro", "--dry")


def test_no_stage_imports_a_module_of_ours_that_dvc_yaml_does_not_declare(by_dvc):
    folder, trace = by_dvc, by_dvc.with_name("trace.tsv")
    ledger = Ledger(folder)
    found = notes(trace)
    undeclared = []
    for entry in ledger.entries.values():
        command = " ".join(entry.command.split()[3:])
        assert found[command]["import"], f"{entry.address} left no trace"
        for module in found[command]["import"]:
            path = Path(*module.split("."))
            file = path / "__init__.py" if (folder / path).is_dir() else path.with_suffix(".py")
            if file.name == "__init__.py" or str(file) in INFRASTRUCTURE:
                continue
            if not any(file.is_relative_to(code) for code in entry.code):
                undeclared.append(f"{entry.address}: {file}")
    assert not undeclared, "\n".join(sorted(undeclared))


def test_no_stage_reads_a_file_that_dvc_yaml_does_not_declare(by_dvc):
    folder, trace = by_dvc, by_dvc.with_name("trace.tsv")
    ledger = Ledger(folder)
    data = {output for entry in ledger.entries.values() for output in entry.outputs}
    undeclared = []
    for entry in ledger.entries.values():
        for name in notes(trace)[" ".join(entry.command.split()[3:])]["open"]:
            path = Path(name)
            if not path.is_relative_to(folder):
                continue
            path = path.relative_to(folder)
            owned = any(path.is_relative_to(output) for output in data)
            declared = any(path.is_relative_to(item) for item in (*entry.inputs, *entry.outputs))
            if owned and not declared:
                undeclared.append(f"{entry.address}: {path}")
    assert not undeclared, "\n".join(sorted(undeclared))


def test_every_stage_run_is_tracked(by_snakemake):
    folder = by_snakemake
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlruns.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, max_results=1000)
    ran = {f"{run.data.tags['pipeline.stage']}@{run.data.tags['pipeline.item']}".removesuffix("@") for run in runs}
    assert ran == set(Ledger(folder).entries)
    assert {run.info.status for run in runs} == {"FINISHED"}
