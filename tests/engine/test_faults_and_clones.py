"""Kills, a second pipeline, clones, a folder without git, a remote, experiments."""

import json
import os
import signal

import psutil
import pytest

from tests.engine.helpers import wait_for

START = "runs.dynamicrafter-finetune-analytic.start.ucf101"


def started(workspace, address: str):
    return lambda: workspace.executed_file.exists() and address in workspace.executed_file.read_text()


@pytest.mark.parametrize("engine", ["snakemake", "dvc"])
def test_sigkill_in_the_middle_then_either_engine_goes_on(workspace, engine):
    before = (workspace.path / "reports/table3.csv").read_bytes()
    workspace.set(START, 0.9)
    workspace.environment["STAGE_SECONDS"] = "30"
    workspace.environment.pop("SHELL", None)  # as in cron or a container: DVC then uses sh, which may stay as a parent
    command = (
        ["snakemake", "--cores", "2", "reports/table3.csv"] if engine == "snakemake" else ["dvc", "repro", "table3"]
    )
    process = workspace.popen(*command, start_new_session=engine == "dvc")
    wait_for(started(workspace, "sample_ucf101@dynamicrafter-finetune-analytic"))
    jobs = psutil.Process(process.pid).children(recursive=True)
    if engine == "snakemake":
        process.kill()  # Snakemake alone: its jobs must not write behind the next run
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    # DVC takes a dead process for a living one until the system has cleared it away.
    _, alive = psutil.wait_procs(jobs, timeout=20)
    assert jobs and not alive
    assert not (workspace.path / "samples/ucf101/dynamicrafter-finetune-analytic").exists()
    workspace.environment["STAGE_SECONDS"] = "0"
    workspace.executed()
    other = "dvc" if engine == "snakemake" else "snakemake"
    if other == "dvc":
        workspace.dvc("repro", "table3")
    else:
        workspace.snakemake("reports/table3.csv")
    assert workspace.executed()[0] == "sample_ucf101@dynamicrafter-finetune-analytic"
    workspace.nothing_to_do()
    assert (workspace.path / "reports/table3.csv").read_bytes() != before
    assert not list(workspace.path.rglob(".*.partial*"))


def test_second_snakemake_in_the_folder_is_refused(workspace):
    workspace.set(START, 0.9)
    workspace.environment["STAGE_SECONDS"] = "4"
    process = workspace.popen("snakemake", "--cores", "1", "reports/table3.csv")
    wait_for(started(workspace, "sample_ucf101@dynamicrafter-finetune-analytic"))
    message = workspace.snakemake("reports/table3.csv", ok=False)
    assert "another pipeline" in message and "wait for it" in message
    assert "Traceback" not in message
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    workspace.nothing_to_do()


def test_failed_stage_says_where_to_look_and_leaves_nothing(workspace):
    workspace.set(START, 0.9)
    stage = workspace.path / "pipeline/stages/features.py"
    stage.write_text(
        stage.read_text().replace(
            "def note(what):", "def note(what):\n    raise OSError(28, 'No space left on device')\n"
        )
    )
    output = workspace.snakemake("reports/table3.csv", ok=False)
    assert "no space left on the disk" in output
    assert not list(workspace.path.rglob(".*.partial*"))


def test_fresh_clone_with_remote_pulls_reports_and_reruns_nothing(workspace, tmp_path):
    workspace.dvc("remote", "add", "--default", "store", str(tmp_path / "store"))
    workspace.run("git", "commit", "-qam", "remote")
    workspace.dvc("push")
    second = workspace.clone(tmp_path / "second")
    report = (second.path / "reports/table3.csv").read_bytes()
    assert report == (workspace.path / "reports/table3.csv").read_bytes()
    second.dvc("pull")
    assert (second.path / "reports/pairs/dynamicrafter/part").exists()
    assert second.planned_by_dvc() == set()
    assert second.planned() == set()


def test_edit_in_a_clone_reaches_the_first_after_push_and_pull(workspace, tmp_path):
    workspace.dvc("remote", "add", "--default", "store", str(tmp_path / "store"))
    workspace.run("git", "commit", "-qam", "remote")
    workspace.dvc("push")
    second = workspace.clone(tmp_path / "second")
    second.dvc("pull")
    second.set(START, 0.9)
    second.snakemake("reports/table3.csv")
    second.run("git", "commit", "-qam", "other M")
    second.dvc("push")
    workspace.run("git", "pull", "--quiet", str(second.path), "main")
    workspace.dvc("pull")
    assert (workspace.path / "reports/table3.csv").read_bytes() == (second.path / "reports/table3.csv").read_bytes()
    workspace.nothing_to_do()


def test_folder_without_git(new_workspace, tmp_path):
    bare = new_workspace(tmp_path / "plain", git=False)
    message = bare.snakemake("-n", "reports/table3.csv", ok=False)
    assert "core.no_scm" in message
    bare.dvc("config", "--local", "core.no_scm", "true")
    bare.snakemake("moments/svd.safetensors")
    assert bare.planned("moments/svd.safetensors") == set()
    assert bare.planned_by_dvc("moments@svd") == set()


def test_metrics_diff_and_experiments(workspace):
    run = workspace.path / "metrics/table3/dynamicrafter-finetune-analytic.json"
    before = json.loads(run.read_text())["digest"]
    workspace.dvc("exp", "run", "-S", f"{START}=0.9", "table3")
    after = json.loads(run.read_text())["digest"]
    assert before != after
    difference = workspace.dvc("metrics", "diff", "HEAD")
    assert str(before) in difference and str(after) in difference
    workspace.nothing_to_do()
