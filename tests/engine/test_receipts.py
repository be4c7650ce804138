"""Receipts, and what enters them into dvc.lock: faults, edits and reverts in between."""

import json
import threading

import pytest

from pipeline.engine.ledger import Ledger
from pipeline.errors import PipelineError
from tests.engine.helpers import stop_after

ROW = "dynamicrafter-finetune-analytic"
SAMPLE = f"sample_ucf101@{ROW}"
START = f"runs.{ROW}.start.ucf101"


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


def test_an_edit_while_receipts_are_entered_is_not_taken_for_what_was_run(workspace):
    """DVC reads parameters, code and inputs anew when it enters a job."""
    workspace.set(START, 0.9)
    stop_after(workspace, SAMPLE)
    workspace.executed()
    entering = f"""
from pathlib import Path
from dvc.stage import Stage
from pipeline import presets
from pipeline.engine.snakemake_rules import settle
real = Stage.save
def edited(self, *arguments, **options):
    tree = presets.read(Path("params.yaml"))
    tree["runs"]["{ROW}"]["start"]["ucf101"] = 0.8
    presets.write(tree, Path("params.yaml"))
    real(self, *arguments, **options)
Stage.save = edited
settle(".")
"""
    workspace.run("python", "-c", entering)
    assert SAMPLE in workspace.planned("reports/table3.csv"), "0.9 gave what is there"
    workspace.set(START, 0.9)
    workspace.snakemake("reports/table3.csv")
    assert SAMPLE not in workspace.executed(), "what is there is what 0.9 gave"
    workspace.nothing_to_do()


def test_a_job_whose_output_moves_is_done_again(workspace):
    """The file of a row's metrics lies in the folder of its group, which is no parameter of the stage."""
    workspace.dvc("repro")
    workspace.set(f"runs.{ROW}.group", "ucf101")
    workspace.snakemake("reports/ucf101.csv")
    assert (workspace.path / f"metrics/ucf101/{ROW}.json").exists()
    assert workspace.planned() & {f"metrics@{ROW}", "ucf101"} == set()


def test_a_cache_without_room_is_said_and_nothing_is_entered(workspace):
    """DVC logs it and goes on."""
    workspace.set(START, 0.9)
    stop_after(workspace, SAMPLE)
    lock = (workspace.path / "dvc.lock").read_bytes()
    full = """
from dvc.stage import Stage
from pipeline.engine.snakemake_rules import settle
Stage.commit = lambda self, *arguments, **options: None
settle(".")
"""
    output = workspace.run("python", "-c", full)
    assert f"DVC's cache lacks outputs of {SAMPLE}; is its disk full?" in output
    assert (workspace.path / "dvc.lock").read_bytes() == lock
    workspace.executed()
    workspace.snakemake("reports/table3.csv")
    assert SAMPLE not in workspace.executed()
    workspace.nothing_to_do()


def test_a_data_folder_of_ones_own_is_hashed_by_the_process_that_starts_the_jobs(workspace):
    """Not by each of its jobs and shards; what is edited meanwhile shows at the end."""
    videos, listing = workspace.path / "own/videos", workspace.path / "own/list.csv"
    videos.mkdir(parents=True)
    (videos / "1.mp4").write_text("one")
    listing.write_bytes(b"id\r\n1\r\n")
    workspace.set("clip_sets.webvid_strided.videos", "own/videos")
    workspace.set("clip_sets.webvid_strided.listing", "own/list.csv")
    workspace.set("runtime.shards.preprocess", 2)
    clips = "clips/webvid_strided"
    workspace.snakemake(*(f".state/shards/preprocess/webvid_strided/{number}-of-2" for number in range(2)))
    told = json.loads((workspace.path / ".state/outside.json").read_text())
    assert {"own/videos", "own/list.csv"} <= set(told) and "data/world" not in told
    (videos / "1.mp4").write_text("another")
    output = workspace.run("python", "-m", "pipeline.engine.job", "preprocess@webvid_strided", "--joins", "2", ok=False)
    assert "own/videos changed while it ran; run it again" in output
    workspace.snakemake(clips)
    key = json.loads((workspace.path / ".state/receipts/preprocess@webvid_strided.json").read_text())["key"]
    assert key["inputs"]["own/list.csv"] == told["own/list.csv"]
    assert key["inputs"]["own/videos"] != told["own/videos"]
    assert workspace.planned(clips) == workspace.planned_by_dvc("preprocess@webvid_strided") == set()


def test_a_kill_that_tears_dvcs_list_of_readers_and_writers_stops_nobody(workspace):
    (workspace.path / ".dvc/tmp/rwlock").write_text('{"write": {}, "read": {"/a": [{"pid": 1, "cm')
    workspace.set(START, 0.9)
    workspace.snakemake("reports/table3.csv")
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
