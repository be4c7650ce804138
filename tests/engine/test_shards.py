"""A job divided into shards: Snakemake makes a job of each, nothing is made twice, and DVC sees one stage."""

import os
import shutil
import signal

import pytest

from pipeline.engine.ledger import Ledger
from pipeline.engine.snakemake_rules import rule_specs
from tests.engine.helpers import stop_after, wait_for

STAGE = "sample_ucf101@dynamicrafter-finetune-analytic"
START = "runs.dynamicrafter-finetune-analytic.start.ucf101"


@pytest.fixture
def divided(workspace):
    """Sampling in three shards, features in two, an edit that reruns one row."""
    workspace.environment["PARTS"] = "1"
    workspace.set("runtime.shards.sample", 3)
    workspace.set("runtime.shards.features", 2)
    workspace.nothing_to_do()  # into how many jobs a job is divided cannot change a result
    workspace.set(START, 0.9)
    return workspace


def parts_of(executed: list[str], stage: str = STAGE) -> list[int]:
    return [int(line.split("#")[1]) for line in executed if line.startswith(f"{stage}#")]


def test_shards_are_jobs_that_make_every_part_once(divided):
    output = divided.snakemake("-n", "reports/table3.csv")
    assert output.count("rule sample_ucf101_shard:") == 3 and output.count("rule features_shard:") == 2
    divided.snakemake("reports/table3.csv")
    executed = divided.executed()
    assert (
        sorted(parts_of(executed))
        == [0, 1, 2, 3, 4]
        == sorted(parts_of(executed, STAGE.replace("sample_ucf101", "features")))
    )
    assert executed.count(STAGE) == 1
    divided.nothing_to_do()
    for number in range(3):
        log = divided.path / f"logs/sample_ucf101/dynamicrafter-finetune-analytic/shard-{number}-of-3.log"
        assert log.exists()


def test_dvc_does_all_parts_in_one_go_and_gives_the_same(divided, tmp_path):
    other = divided.copy(tmp_path / "other")
    other.environment["PARTS"] = "1"
    divided.snakemake("reports/table3.csv")
    other.dvc("repro", "table3")
    assert parts_of(other.executed()) == [0, 1, 2, 3, 4]
    assert (other.path / "dvc.lock").read_text() == (divided.path / "dvc.lock").read_text()
    other.nothing_to_do()


def test_a_kill_among_shards_costs_only_what_was_not_finished(divided):
    divided.environment["STAGE_SECONDS"] = "1.5"
    process = divided.popen("snakemake", "--cores", "1", "reports/table3.csv", start_new_session=True)
    wait_for(lambda: divided.executed_file.exists() and len(parts_of(divided.executed_file.read_text().split())) >= 3)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    before = parts_of(divided.executed())
    divided.environment["STAGE_SECONDS"] = "0"
    divided.set("runtime.shards.sample", 2)  # another number goes on with the same parts
    divided.snakemake("reports/table3.csv")
    after = parts_of(divided.executed())
    assert 3 <= len(before) < 5 or (len(before) == 5 and len(after) == 1)
    finished = set(before[:-1])  # the last one noted was under way
    assert finished.isdisjoint(after) and finished | set(after) == {0, 1, 2, 3, 4}
    divided.nothing_to_do()
    assert not list((divided.path / ".state").rglob("parts"))


def test_shards_that_are_done_are_not_jobs_again(divided):
    divided.snakemake(f".state/shards/sample_ucf101/{STAGE.split('@')[1]}/1-of-3")
    assert parts_of(divided.executed()) == [1, 4]
    assert "done already" in divided.run("python", "-m", "pipeline.engine.job", STAGE, "--shard", "1-of-3")
    output = divided.snakemake("-n", "reports/table3.csv")
    assert output.count("rule sample_ucf101_shard:") == 2
    divided.set(START, 0.8)  # other parameters: what was made is of no use
    assert divided.snakemake("-n", "reports/table3.csv").count("rule sample_ucf101_shard:") == 3


def test_a_shard_whose_parts_are_gone_is_a_job_again(divided):
    divided.snakemake(f".state/shards/sample_ucf101/{STAGE.split('@')[1]}/1-of-3")
    shutil.rmtree(divided.path / ".state/sample_ucf101")
    divided.executed()
    divided.snakemake("reports/table3.csv")
    assert sorted(parts_of(divided.executed())) == [0, 1, 2, 3, 4]
    divided.nothing_to_do()


def test_a_revert_needs_no_shard(divided):
    """DVC's run cache has the result: shards see that, and make nothing."""
    divided.snakemake("reports/table3.csv")
    divided.executed()
    divided.set(START, 0.96)
    divided.snakemake("reports/table3.csv")
    executed = divided.executed()
    assert parts_of(executed) == [] and STAGE not in executed
    divided.nothing_to_do()


def test_what_joins_parts_does_not_make_those_of_shards_that_worked_for_other_parameters(divided):
    """Edited between shards: the joining job has no GPU, and hours of work."""
    shards = [f".state/shards/sample_ucf101/{STAGE.split('@')[1]}/{number}-of-3" for number in range(3)]
    divided.snakemake(*shards)
    divided.executed()
    divided.set(START, 0.8)
    output = divided.run("python", "-m", "pipeline.engine.job", STAGE, "--joins", "3", ok=False)
    assert "of its shards 0-of-3, 1-of-3, 2-of-3 have made nothing of what is to be joined now" in output
    assert parts_of(divided.executed()) == []
    divided.snakemake("reports/table3.csv")
    assert sorted(parts_of(divided.executed())) == [0, 1, 2, 3, 4]
    divided.nothing_to_do()


def test_shards_make_nothing_of_what_was_finished_and_not_entered(divided):
    """The parts are gone by then; what came of them is kept for a revert."""
    stop_after(divided, STAGE)
    divided.set(START, 0.8)
    divided.snakemake(f".state/shards/sample_ucf101/{STAGE.split('@')[1]}/0-of-3")
    divided.set(START, 0.9)
    divided.executed()
    divided.snakemake("reports/table3.csv")
    executed = divided.executed()
    assert STAGE not in executed and parts_of(executed) == []
    divided.nothing_to_do()


def test_the_number_of_shards_may_change_while_they_run(divided):
    shards = [f".state/shards/sample_ucf101/{STAGE.split('@')[1]}/{number}-of-3" for number in range(3)]
    divided.snakemake(*shards)
    divided.set("runtime.shards.sample", 5)
    divided.run("python", "-m", "pipeline.engine.job", STAGE, "--joins", "3")
    assert sorted(parts_of(divided.executed())) == [0, 1, 2, 3, 4]


def test_code_touched_after_the_joining_job_was_killed_costs_no_part(divided):
    """The shards had looked at the code themselves, at their end."""
    shards = [f".state/shards/sample_ucf101/{STAGE.split('@')[1]}/{number}-of-3" for number in range(3)]
    divided.snakemake(*shards)
    divided.executed()
    (parts,) = (divided.path / f".state/sample_ucf101/{STAGE.split('@')[1]}").glob("*/parts")
    parts.with_name("begun.join").touch()
    os.utime(parts.with_name("begun.join"), (1, 1))
    output = divided.snakemake("reports/table3.csv", ok=False)
    assert "sample.py edited since a run began that was killed; start again" in output
    divided.snakemake("reports/table3.csv")
    assert parts_of(divided.executed()) == []
    divided.nothing_to_do()


def test_shards_whose_parts_are_lost_are_jobs_again(divided):
    """Else what joins them would make the parts."""
    shards = [f".state/shards/sample_ucf101/{STAGE.split('@')[1]}/{number}-of-3" for number in range(3)]
    divided.snakemake(*shards)
    (parts,) = (divided.path / f".state/sample_ucf101/{STAGE.split('@')[1]}").glob("*/parts")
    shutil.rmtree(parts / "000001")
    output = divided.snakemake("-n", "reports/table3.csv")
    assert output.count("rule sample_ucf101_shard:") == 1 and "shard=1" in output


def test_shards_ask_for_what_their_stage_does_and_what_joins_them_for_no_gpu(divided):
    specs = {spec.name: spec for spec in rule_specs(Ledger(divided.path))}
    sample = specs["sample_ucf101"]
    assert sample.shards == 3 and sample.meta["gpu"] == 1
    assert sample.gpus(of_shard=True) == 1 and sample.gpus(of_shard=False) == 0
    assert specs["finetune"].gpus(of_shard=False) == specs["finetune"].meta["gpu"] == 8
