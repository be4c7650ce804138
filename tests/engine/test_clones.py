"""Two clones that share a DVC remote: the second gets everything, to the byte, and runs nothing."""

from pathlib import Path

from pipeline.engine.ledger import Ledger
from tests.helpers.parted import files_of


def share(workspace, store: Path) -> None:
    """A remote, and all outputs in it, as docs/data.md tells."""
    workspace.dvc("remote", "add", "--default", "store", str(store))
    workspace.run("git", "commit", "-qam", "remote")
    workspace.dvc("push")


def contents(path: Path) -> dict[str, bytes]:
    """Without what Snakemake leaves in folders (.dvcignore names it)."""
    return {name: content for name, content in files_of(path).items() if Path(name).name != ".snakemake_timestamp"}


def test_repro_with_pull_in_a_second_clone_runs_nothing_and_every_output_is_there(workspace, tmp_path):
    share(workspace, tmp_path / "store")
    second = workspace.clone(tmp_path / "second")
    second.dvc("repro", "--pull")
    assert second.executed() == []
    outputs = [path for entry in Ledger(workspace.path).entries.values() for path in entry.outputs]
    reports = [path for path in outputs if path.startswith("reports/")]
    assert {"reports/table3.csv", "reports/claims.png", "reports/ratings", "reports/report.html"} <= set(reports)
    for path in outputs:
        assert contents(second.path / path) == contents(workspace.path / path) != {}, path
    assert second.planned() == second.planned_by_dvc() == set()


def test_reports_that_dvc_does_not_keep_are_in_git(workspace):
    """They are in no remote: a clone has them from git alone, and DVC would not notice that they lack."""
    tracked = set(workspace.run("git", "ls-files").splitlines())
    uncached = [out for stage in Ledger(workspace.path)._stages for out in stage.outs if not out.use_cache]
    assert len(uncached) > 20
    for out in uncached:
        path = Path(out.fs_path).relative_to(workspace.path)
        files = [path / name for name in contents(workspace.path / path)] if out.isdir() else [path]
        assert files and {str(file) for file in files} <= tracked, path


def test_what_git_keeps_is_not_made_again_in_a_clone_that_makes_the_same_inputs(workspace, tmp_path):
    """Hours of claims_seed in a few bytes, say; Snakemake removes them before the job, whose inputs were missing."""
    second = workspace.clone(tmp_path / "second")
    second.snakemake()
    kept = {
        address for address, entry in Ledger(second.path).entries.items()
        if all(path.startswith(("metrics/", "reports/")) and "pairs" not in path for path in entry.outputs)
    }  # fmt: skip
    executed = second.executed()
    assert {"claims_seed@10", "table3", "metrics_controls"} <= kept
    assert "world" in executed and set(executed) & kept <= {"report", "compute"}, "those tell of the runs themselves"
    assert contents(second.path / "metrics") == contents(workspace.path / "metrics")
    second.nothing_to_do(by_dvc=True)


def test_a_result_that_git_keeps_of_other_inputs_is_made_again(workspace, tmp_path):
    second = workspace.clone(tmp_path / "second")
    second.set("world.seed", 77)
    second.snakemake("reports/table3.csv")
    assert {"metrics_controls", "table3"} <= set(second.executed())
    second.nothing_to_do(by_dvc=True)
