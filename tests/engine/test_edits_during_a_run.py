"""Edits made while a run is under way: a result counts for what it was made from, not for what is there later."""

import json
import os
import signal
from contextlib import contextmanager

import psutil
import pytest
from ruamel.yaml import YAML

from tests.engine.helpers import wait_for

ROW = "dynamicrafter-finetune-analytic"
SAMPLE, METRICS = f"sample_ucf101@{ROW}", f"metrics@{ROW}"
START = f"runs.{ROW}.start.ucf101"


@contextmanager
def held(workspace, address: str):
    """A run of Snakemake whose job ``address`` has begun and does not end before the block does."""
    acts = workspace.path.with_name("acts")
    acts.mkdir(exist_ok=True)
    workspace.environment["ACTS"] = str(acts)
    (acts / f"{address}.hold").touch()
    process = workspace.popen("snakemake", "--cores", "1", "reports/table3.csv", start_new_session=True)
    try:
        executed = workspace.executed_file
        wait_for(lambda: executed.exists() and address in executed.read_text().split())
        yield process
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        print(process.stdout.read())  # pytest shows it
        raise
    finally:
        (acts / f"{address}.hold").unlink()


def parts_of(workspace) -> list[str]:
    """Of the sampling, those made since the last look."""
    return [line for line in workspace.executed() if line.startswith(f"{SAMPLE}#")]


def test_parameters_edited_while_their_job_runs(workspace):
    workspace.set(START, 0.9)
    with held(workspace, SAMPLE) as process:
        workspace.set(START, 0.8)
    output, _ = process.communicate(timeout=300)
    assert process.returncode != 0
    log = (workspace.path / f"logs/sample_ucf101/{ROW}.log").read_text()
    assert f"{START} changed while it ran; run it again" in log, output
    workspace.executed()
    workspace.snakemake("reports/table3.csv")
    assert SAMPLE in workspace.executed()
    workspace.nothing_to_do()


def test_an_edit_that_is_taken_back_costs_nothing(workspace):
    workspace.set(START, 0.9)
    with held(workspace, SAMPLE) as process:
        workspace.set(START, 0.8)
    process.communicate(timeout=300)
    assert process.returncode != 0
    workspace.executed()
    workspace.set(START, 0.9)
    workspace.snakemake("reports/table3.csv")
    assert SAMPLE not in workspace.executed()
    workspace.nothing_to_do()


def executed_around_an_edit_of_code(workspace, address: str, log: str) -> tuple[list[str], list[str]]:
    """What ran before the edit was put back, and what runs then.

    It is made while ``address`` runs, which must say so in its log and fail.
    """
    workspace.set(START, 0.9)
    stage = workspace.path / "pipeline/stages/sample.py"
    code = stage.read_text()
    with held(workspace, address) as process:
        stage.write_text(code + "\n# an edit\n")
    process.communicate(timeout=300)
    assert process.returncode != 0
    assert "sample.py changed while it ran" in (workspace.path / f"logs/sample_ucf101/{log}").read_text()
    stage.write_text(code)
    before = workspace.executed()
    workspace.snakemake("reports/table3.csv")
    after = workspace.executed()
    workspace.nothing_to_do()
    return before, after


def test_code_edited_while_its_job_runs_leaves_nothing_of_either(workspace):
    """What was imported before the edit and what after cannot be told apart."""
    assert SAMPLE in executed_around_an_edit_of_code(workspace, SAMPLE, f"{ROW}.log")[1]


def test_code_edited_while_a_shard_runs_leaves_no_part_of_either(workspace):
    workspace.environment["PARTS"] = "1"
    workspace.set("runtime.shards.sample", 2)
    before, after = executed_around_an_edit_of_code(workspace, f"{SAMPLE}#2", f"{ROW}/shard-0-of-2.log")
    kept = {f"{SAMPLE}#{number}" for number in (1, 3)} & set(before)  # the other shard may have ended before the edit
    parts = [line for line in after if line.startswith(f"{SAMPLE}#")]
    assert sorted([*parts, *kept]) == [f"{SAMPLE}#{number}" for number in range(5)]


@pytest.mark.parametrize("ending", ["fails", "is killed"])
def test_code_edited_under_a_job_that_does_not_end_well(workspace, ending):
    """The edit is taken back before the next run, which finds parts that may be of both."""
    workspace.environment["PARTS"] = "1"
    workspace.set(START, 0.9)
    stage = workspace.path / "pipeline/stages/sample.py"
    code = stage.read_text()
    with held(workspace, f"{SAMPLE}#2") as process:
        stage.write_text(code + "\n# an edit\n")
        if ending == "is killed":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            (job,) = [each for each in psutil.Process(process.pid).children(recursive=True) if SAMPLE in each.cmdline()]
            job.terminate()
    process.communicate(timeout=300)
    assert process.returncode != 0
    stage.write_text(code)
    workspace.executed()
    if ending == "is killed":
        output = workspace.snakemake("reports/table3.csv", ok=False)
        assert "pipeline/stages/sample.py edited since a run began that was killed; start again" in output
    workspace.snakemake("reports/table3.csv")
    assert [f"{SAMPLE}#{number}" for number in range(5)] == parts_of(workspace)
    workspace.nothing_to_do()


def test_an_input_that_goes_away_at_the_end_costs_no_part(workspace):
    """As when a disk is not mounted any more: nobody has edited anything."""
    workspace.environment["PARTS"] = "1"
    workspace.set(START, 0.9)
    clips, elsewhere = workspace.path / "clips/ucf101", workspace.path.with_name("unmounted")
    with held(workspace, f"{SAMPLE}#4") as process:
        clips.rename(elsewhere)
        clips.mkdir()
    process.communicate(timeout=300)
    assert process.returncode != 0
    log = (workspace.path / f"logs/sample_ucf101/{ROW}.log").read_text()
    assert "clips/ucf101 went away while it ran; mend that and run again" in log
    clips.rmdir()
    elsewhere.rename(clips)
    workspace.snakemake("reports/table3.csv")
    assert [f"{SAMPLE}#{number}" for number in range(5)] == parts_of(workspace)
    workspace.nothing_to_do()


def test_parameters_edited_after_their_job_and_before_the_end_of_the_run(workspace):
    workspace.set(START, 0.9)
    with held(workspace, METRICS) as process:
        workspace.set(START, 0.8)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert SAMPLE in workspace.planned("reports/table3.csv"), "0.9 gave what is there"


def test_the_same_bytes_after_an_edit_are_taken_where_dvc_was_killed_before_it_knew(workspace):
    """The receipt is there, dvc.lock holds the bytes, but for the code before."""
    stage = workspace.path / "pipeline/stages/table3.py"
    stage.write_text(stage.read_text() + "\n# an edit that changes no output\n")
    workspace.run("python", "-m", "pipeline.engine.job", "table3")
    assert workspace.executed() == ["table3"]
    workspace.dvc("repro", "table3")
    assert workspace.executed() == []
    workspace.nothing_to_do()


def test_a_job_that_is_done_again_keeps_its_state_until_then(workspace):
    """Its output was damaged: a receipt and dvc.lock agree, and what the new run has got so far must stay."""
    state = workspace.path / f".state/sample_ucf101/{ROW}"
    workspace.set(START, 0.9)
    workspace.snakemake("reports/table3.csv")
    (workspace.path / f"samples/ucf101/{ROW}/part").write_text("damaged")
    lock = YAML(typ="safe").load((workspace.path / "dvc.lock").read_text())
    name = lock["stages"][SAMPLE]["outs"][0]["md5"]
    cached = workspace.path / ".dvc/cache/files/md5" / name[:2] / name[2:]
    cached.rename(workspace.path.with_name("cached"))  # else DVC would mend it
    receipt = json.loads((workspace.path / f".state/receipts/{SAMPLE}.json").read_text())
    own = state / receipt["digest"][:16]
    workspace.executed()
    with held(workspace, SAMPLE) as process:
        own.mkdir(parents=True, exist_ok=True)
        (own / "progress").touch()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    workspace.path.with_name("cached").rename(cached)
    workspace.run("python", "-c", "from pipeline.engine.snakemake_rules import settle; settle('.')")
    assert (own / "progress").exists()


def test_a_look_beside_a_run_writes_nothing(workspace):
    workspace.set(START, 0.9)
    with held(workspace, SAMPLE) as process:
        watched = [*(workspace.path / ".snakemake/stale").iterdir(), workspace.path / "dvc.lock"]
        before = [path.stat().st_mtime_ns for path in watched]
        assert SAMPLE in workspace.planned("reports/table3.csv")
        refused = workspace.snakemake("--nolock", "reports/table3.csv", ok=False)
        assert "another pipeline" in refused
        assert [path.stat().st_mtime_ns for path in watched] == before
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    workspace.nothing_to_do()


def test_the_file_of_a_row_that_is_gone_is_removed_before_its_folder_is_read(workspace):
    """Removed later, it would look like an edit during the run, and make a fresh clone look stale."""
    folder = workspace.path / "metrics/table3"
    (folder / "old-row.json").write_text("{}")
    (folder / "notes.txt").write_text("a user's own")
    workspace.snakemake("reports/table3.csv")
    assert not (folder / "old-row.json").exists() and (folder / "notes.txt").exists()
    (folder / "notes.txt").unlink()
    workspace.snakemake("reports/table3.csv")
    workspace.nothing_to_do()
