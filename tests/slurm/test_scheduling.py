"""The pipeline through Slurm with stand-in stages: two nodes, what is asked for, faults. (make slurm)"""

import re

import pytest

from pipeline.engine.ledger import Ledger
from tests.slurm.conftest import OnCluster, memory_mb, submitted, wait_for

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]
START = "runs.dynamicrafter-finetune-analytic.start.ucf101"
SAMPLE = "sample_ucf101@dynamicrafter-finetune-analytic"
JOB = ["-m", "pipeline.engine.job", SAMPLE]
RERUN = [SAMPLE, "features@dynamicrafter-finetune-analytic", "metrics@dynamicrafter-finetune-analytic", "table3"]


def test_table_through_two_nodes_asks_for_what_dvc_yaml_says(new_project, table_made_here):
    """One run of the whole table: nodes, requests, logs, ledger."""
    output = new_project.snakemake("reports/table3.csv")
    jobs = submitted(output)
    executed = new_project.workspace.executed()
    assert sorted(job.address for job in jobs) == sorted(executed) and len(set(executed)) == len(executed)

    ended = {job["JobId"]: job for job in new_project.cluster.jobs()}
    assert {ended[job.slurm_id]["NodeList"] for job in jobs} == {"node1", "node2"}
    entries = Ledger(new_project.workspace.path).entries
    for job in jobs:
        meta, end = entries[job.address].meta, ended[job.slurm_id]
        given = {"gpu": new_project.cluster.gpus(job.slurm_id), "mem_mb": memory_mb(end),
                 "minutes": int(end["TimeLimit"]), "threads": int(end["ProcCnt"])}  # fmt: skip
        assert given == {key: meta[key] for key in given}, job.address
        name, _, key = job.address.partition("@")
        log = (new_project.workspace.path / "logs" / name / f"{key or 'all'}.log").read_text()
        assert log.startswith(f"{job.address} on {end['NodeList']}\n")

    new_project.workspace.nothing_to_do()
    for path in ("reports/table3.csv", "reports/table3.md", "metrics/controls.json"):
        there, here = (project.path / path for project in (new_project.workspace, table_made_here))
        assert there.read_bytes() == here.read_bytes()


def undisturbed(project: OnCluster, tmp_path) -> bytes:
    """The table of the edited project when nothing happens to its jobs."""
    other = project.workspace.copy(tmp_path / "undisturbed")
    other.dvc("repro", "table3")
    return (other.path / "reports/table3.csv").read_bytes()


def start_and_wait(project: OnCluster):
    """Snakemake with its first job running; the job goes on only when it is let go."""
    project.hold(SAMPLE)
    process = project.start("reports/table3.csv")
    project.wait_until_runs(SAMPLE)
    return process


def scancel(project: OnCluster) -> None:
    number, _ = project.running_job()
    project.cluster.run("scancel", number)


def kill_stage(project: OnCluster) -> None:
    (stage,) = [found for found in project.cluster.processes() if found.cmdline()[1:4] == JOB]
    stage.kill()


def power_cut(project: OnCluster) -> None:
    _, node = project.running_job()
    project.cluster.crash_node(node)
    project.cluster.start_node(node)


@pytest.mark.parametrize("fault", [scancel, kill_stage, power_cut])
def test_killed_job_is_tried_again_without_harm(project, tmp_path, fault):
    project.workspace.set(START, 0.9)
    expected = undisturbed(project, tmp_path)
    process = start_and_wait(project)
    first, _ = project.running_job()
    fault(project)
    wait_for(lambda: any(job["JobId"] == first for job in project.cluster.jobs()))
    assert not (project.workspace.path / "samples/ucf101/dynamicrafter-finetune-analytic").exists()
    project.let_go(SAMPLE)
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    assert project.workspace.executed() == [SAMPLE, *RERUN]
    jobs = {job["JobId"]: job for job in project.cluster.jobs()}
    tries = [jobs[job.slurm_id] for job in submitted(output) if job.address == SAMPLE]
    assert [job["JobState"] == "COMPLETED" for job in tries] == [False, True]
    assert [memory_mb(job) for job in tries] == [2500, 5000]
    first, second = (int(job["TimeLimit"]) for job in tries)
    assert second == 2 * first
    assert (project.workspace.path / "reports/table3.csv").read_bytes() == expected
    assert not list(project.workspace.path.rglob(".*.partial*"))
    project.workspace.nothing_to_do()


def test_job_that_takes_more_memory_than_it_asked_for_gets_more(project):
    project.workspace.set(START, 0.9)
    project.swell("table3", 1300)  # it asks for 1000 MB
    output = project.snakemake("reports/table3.csv")
    jobs = {job["JobId"]: job for job in project.cluster.jobs()}
    tries = [jobs[job.slurm_id] for job in submitted(output) if job.address == "table3"]
    assert [(memory_mb(job), job["JobState"] == "COMPLETED") for job in tries] == [(1000, False), (2000, True)]
    said = "\n".join(path.read_text() for path in project.workspace.path.glob("logs/slurm/rule_table3/*.log"))
    assert re.search(r"exceeded memory limit|Exceeded job memory limit", said)
    project.workspace.nothing_to_do()


def test_snakemake_killed_while_its_jobs_run_on(project, tmp_path):
    """Jobs on other hosts outlive it; the next run takes over what they make."""
    project.workspace.set(START, 0.9)
    expected = undisturbed(project, tmp_path)
    process = start_and_wait(project)
    process.kill()
    process.wait()
    process.stdout.close()
    number, _ = project.running_job()
    project.let_go(SAMPLE)
    wait_for(lambda: any(job["JobId"] == number for job in project.cluster.jobs()))
    project.snakemake("reports/table3.csv")
    assert project.workspace.executed() == RERUN  # the sampling once
    assert (project.workspace.path / "reports/table3.csv").read_bytes() == expected
    project.workspace.nothing_to_do()
