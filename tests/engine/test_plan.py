"""What would run and why; what nobody needs any more."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from pipeline.engine.forecast import forecast
from pipeline.engine.ledger import Ledger

START = "runs.dynamicrafter-finetune-analytic.start.ucf101"
ROW = "dynamicrafter-finetune-analytic"
KEY = """
from pipeline.engine import receipts
from pipeline.engine.ledger import Ledger
from pipeline.params.file import load_params
ledger = Ledger()
print(receipts.job_key(ledger, ledger.entries["{address}"], load_params(ledger.root / "params.yaml")).digest[:16])
"""


def plan(workspace, *arguments: str) -> dict[str, str]:
    """Lines of the plan by their first word."""
    output = workspace.run("python", "-m", "pipeline", "plan", *arguments)
    return {line.split()[0]: line for line in output.splitlines() if line.strip()}


def test_plan_names_jobs_reasons_and_targets(workspace):
    assert "up to date" in workspace.run("python", "-m", "pipeline", "plan")
    workspace.set(START, 0.9)
    workspace.set("moments.clips", 11)
    jobs = plan(workspace, "--jobs", "reports/table3.csv")
    assert f"{START} modified" in jobs[f"sample_ucf101@{ROW}"]
    assert f"follows sample_ucf101@{ROW}" in jobs[f"features@{ROW}"]
    assert "moments.clips modified" in jobs["moments@svd"] or "moments modified" in jobs["moments@svd"]
    one = plan(workspace, "--jobs", f"metrics/table3/{ROW}.json")
    assert f"metrics@{ROW}" in one and "moments@svd" not in one and "table3" not in one
    assert set(plan(workspace, "--jobs", f"metrics@{ROW}")) == set(one)
    stages = plan(workspace, "moments")
    assert stages["moments"].split()[1] == "3"
    message = workspace.run("python", "-m", "pipeline", "plan", "no/such.csv", ok=False)
    assert "'no/such.csv' is no stage, no job and no output" in message


def test_plan_agrees_with_what_runs(workspace):
    workspace.set(START, 0.9)
    jobs = set(plan(workspace, "--jobs", "table3")) - {"job", "4"}
    workspace.snakemake("reports/table3.csv")
    assert jobs == set(workspace.executed())


def grow(folder: Path, size: int) -> None:
    """Let a folder's only file have that many bytes."""
    (file,) = (path for path in folder.rglob("*") if path.is_file() and path.name != ".snakemake_timestamp")
    with file.open("r+b") as content:
        content.truncate(size)


def test_plan_estimates_from_records_and_recorded_sizes(workspace):
    """Records: those of the jobs themselves, else the mean of their stage's; none: a question mark."""
    workspace.set(START, 0.9)
    assert plan(workspace, "--jobs", "table3")[f"features@{ROW}"].split()[3] == "?"
    workspace.environment["PIPELINE_TRACKING"] = "on"
    workspace.environment["STAGE_SECONDS"] = "0.5"
    workspace.snakemake(f"features/{ROW}")
    with sqlite3.connect(workspace.path / "mlruns.db") as records:
        records.execute("update metrics set value = 7200 where key = 'wall_s'")
        records.execute("update latest_metrics set value = 7200 where key = 'wall_s'")
    grow(workspace.path / f"features/{ROW}", 3 << 20)
    workspace.dvc("commit", "--force", "--quiet", f"features@{ROW}")
    workspace.set(START, 0.8)
    jobs = plan(workspace, "--jobs", "table3")
    assert jobs[f"features@{ROW}"].split()[3] == "2.00"
    assert "3.0 MiB" in jobs[f"features@{ROW}"]
    assert jobs[f"metrics@{ROW}"].split()[3] == "?"
    workspace.set("evaluation.seed", 3)
    others = plan(workspace, "--jobs", "table3")
    assert others["features@dynamicrafter-timenoise-analytic"].split()[3].startswith("~")


def test_clean_old_shows_then_drops_what_no_row_needs_and_nothing_else(workspace):
    root = workspace.path
    assert "nothing to drop" in workspace.run("python", "-m", "pipeline", "clean-old", "--yes")
    (root / "samples/ucf101/old-row").mkdir()
    (root / "samples/ucf101/old-row/part-00000.parquet").write_bytes(b"x" * 3000)
    (root / "models/old-training").mkdir()
    (root / ".state/finetune/old-training/0123").mkdir(parents=True)
    (root / "logs/features").mkdir(parents=True, exist_ok=True)
    (root / "logs/features/old-row.log").write_text("log")
    own = root / f".state/finetune/{'dynamicrafter-finetune'}/0123"
    own.mkdir(parents=True)
    workspace.set(START, 0.9)
    workspace.snakemake("reports/table3.csv")
    before = {path for path in root.rglob("*") if ".dvc" not in path.parts}
    shown = workspace.run("python", "-m", "pipeline", "clean-old", ok=False)
    for name in (
        "samples/ucf101/old-row",
        "models/old-training",
        ".state/finetune/old-training",
        "logs/features/old-row",
    ):
        assert name in shown
    assert "2.9 KiB" in shown and "files of DVC's cache" in shown and "nothing was dropped" in shown
    assert before == {path for path in root.rglob("*") if ".dvc" not in path.parts}
    workspace.run("python", "-m", "pipeline", "clean-old", "--yes")
    gone = {str(path.relative_to(root)) for path in before if not path.exists()}
    assert gone == {
        "samples/ucf101/old-row", "samples/ucf101/old-row/part-00000.parquet", "models/old-training",
        ".state/finetune/old-training", ".state/finetune/old-training/0123", "logs/features/old-row.log",
    }  # fmt: skip
    workspace.nothing_to_do()
    shutil.rmtree(root / "samples/ucf101" / ROW)
    workspace.dvc("checkout")  # what the current row needs is still in the cache
    assert (root / "samples/ucf101" / ROW).exists()


def test_clean_old_leaves_a_users_own_folders_and_the_schedulers_logs(workspace):
    videos = workspace.path / "clips/own-videos"
    videos.mkdir()
    (videos / "a.mp4").touch()
    (workspace.path / "logs/slurm/rule_table3/all").mkdir(parents=True)
    workspace.set("clip_sets.webvid_fixed.videos", "clips/own-videos")
    assert "nothing to drop" in workspace.run("python", "-m", "pipeline", "clean-old")


def test_clean_old_keeps_the_states_of_the_last_run_and_of_todays_parameters(workspace):
    """Edited and edited back: what the first run had got so far is needed again."""
    state = workspace.path / f".state/sample_ucf101/{ROW}"
    digests = []
    for value in (0.9, 0.8, 0.7):
        workspace.set(START, value)
        key = workspace.run("python", "-c", KEY.format(address=f"sample_ucf101@{ROW}")).split()[-1]
        (state / key).mkdir(parents=True)
        digests.append(key)
    workspace.set(START, 0.9)
    workspace.run("python", "-m", "pipeline", "clean-old", "--yes")
    assert {path.name for path in state.iterdir()} == {digests[0], digests[2]}


@pytest.mark.parametrize(("stage", "devices"), [("finetune", 3), ("initialise", 3), ("sample_ucf101", 1), ("world", 1)])
def test_only_trainings_take_a_device_for_each_process(workspace, stage, devices):
    workspace.set("world.seed", 12)
    planned = forecast(Ledger(workspace.path), [stage], [], processes=3)
    assert {job.devices for job in planned if job.entry.name == stage} == {devices}
