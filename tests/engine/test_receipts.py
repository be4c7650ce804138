"""Receipts, and what enters them into dvc.lock: faults, edits and reverts in between."""

import os
import signal
import threading

import pytest

from pipeline.engine.ledger import Ledger
from pipeline.errors import PipelineError
from tests.engine.helpers import wait_for

ROW = "dynamicrafter-finetune-analytic"
SAMPLE = f"sample_ucf101@{ROW}"
START = f"runs.{ROW}.start.ucf101"


def stop_after(workspace, address: str) -> None:
    """Start a run and kill it, jobs included, when the receipt of ``address`` is there."""
    receipt = workspace.path / f".state/receipts/{address}.json"
    old = receipt.read_bytes() if receipt.exists() else b""
    process = workspace.popen("snakemake", "--cores", "1", "reports/table3.csv", start_new_session=True)
    wait_for(lambda: receipt.exists() and receipt.read_bytes() != old)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


def test_what_was_receipted_before_a_kill_is_entered_at_the_next_start(workspace):
    workspace.set(START, 0.9)
    stop_after(workspace, SAMPLE)
    workspace.executed()
    workspace.snakemake("reports/table3.csv")
    assert SAMPLE not in workspace.executed()
    workspace.nothing_to_do()


def test_a_receipt_of_other_parameters_enters_nothing(workspace):
    workspace.set(START, 0.9)
    stop_after(workspace, SAMPLE)
    workspace.executed()
    workspace.set(START, 0.8)
    workspace.snakemake("reports/table3.csv")
    assert workspace.executed().count(SAMPLE) == 1
    workspace.nothing_to_do()


def test_a_revert_puts_back_what_dvc_has(workspace):
    before = (workspace.path / "reports/table3.csv").read_bytes()
    workspace.set(START, 0.9)
    workspace.snakemake("reports/table3.csv")
    assert (workspace.path / "reports/table3.csv").read_bytes() != before
    workspace.executed()
    workspace.set(START, 0.96)
    workspace.snakemake("reports/table3.csv")
    assert workspace.executed() == [], "DVC has it all"
    assert (workspace.path / "reports/table3.csv").read_bytes() == before
    workspace.nothing_to_do()


def test_a_job_that_gives_the_same_bytes_again_is_entered_too(workspace):
    stage = workspace.path / "pipeline/stages/table3.py"
    stage.write_text(stage.read_text() + "\n# an edit that changes no output\n")
    workspace.snakemake("reports/table3.csv")
    assert workspace.executed() == ["table3"]
    workspace.nothing_to_do()


def test_shards_make_every_part_once(workspace):
    workspace.environment["PARTS"] = "1"
    workspace.set("runtime.shards.sample", 3)
    workspace.set(START, 0.9)
    workspace.snakemake("reports/table3.csv")
    parts = sorted(line for line in workspace.executed() if line.startswith(f"{SAMPLE}#"))
    assert parts == [f"{SAMPLE}#{number}" for number in range(5)]
    workspace.nothing_to_do()


def test_two_of_one_job_at_once_wait_for_each_other_and_work_once(workspace):
    """As when a scheduler has two copies of one job after a restart."""
    workspace.set(START, 0.9)
    workspace.environment["STAGE_SECONDS"] = "3"
    command = ("python", "-m", "pipeline.engine.job", SAMPLE)
    first, second = workspace.popen(*command), workspace.popen(*command)
    outputs = [process.communicate(timeout=120)[0] for process in (first, second)]
    assert first.returncode == second.returncode == 0, outputs
    assert workspace.executed() == [SAMPLE]
    assert sum("done already" in output for output in outputs) == 1


def test_a_kill_while_receipts_are_entered_leaves_a_whole_ledger(workspace):
    """DVC writes dvc.lock in place."""
    workspace.set(START, 0.9)
    stop_after(workspace, SAMPLE)
    workspace.executed()
    entering = """
import os
from dvc.dvcfile import Lockfile
from pipeline.engine.snakemake_rules import settle
real = Lockfile.dump_stages
def killed(self, stages, **options):
    real(self, stages, **options)
    with open(self.path, "r+") as file:
        file.truncate(1000)
    os._exit(9)
Lockfile.dump_stages = killed
settle(".")
"""
    workspace.run("python", "-c", entering, ok=False)
    workspace.snakemake("reports/table3.csv")
    assert SAMPLE not in workspace.executed()
    workspace.nothing_to_do()


def test_a_dvc_lock_that_another_host_is_writing_is_read_again(workspace):
    """DVC's own lock does not reach a job on another host."""
    lock = workspace.path / "dvc.lock"
    whole = lock.read_text()
    entries = Ledger(workspace.path).entries
    lock.write_text(whole[: len(whole) // 2].rsplit("\n", 1)[0] + "\n  half: [")
    with pytest.raises(PipelineError, match=r"dvc\.yaml or params\.yaml cannot be read"):
        Ledger(workspace.path)
    writer = threading.Timer(0.5, lock.write_text, [whole])
    writer.start()
    assert Ledger(workspace.path, locked=False).entries == entries
    writer.join()
