"""One ledger, two engines: whichever ran last, the other has nothing to do, and both rerun the same jobs."""

import pytest

DOWNSTREAM_OF_ONE_SAMPLING = {
    "sample_ucf101@dynamicrafter-finetune-analytic",
    "features@dynamicrafter-finetune-analytic",
    "metrics@dynamicrafter-finetune-analytic",
    "table3",
}
START = "runs.dynamicrafter-finetune-analytic.start.ucf101"


def run_with(engine: str, workspace) -> list[str]:
    if engine == "snakemake":
        workspace.snakemake("reports/table3.csv")
    else:
        workspace.dvc("repro", "table3")
    return workspace.executed()


def test_nothing_to_do_after_snakemake(workspace):
    workspace.nothing_to_do(by_dvc=True)
    assert workspace.planned() == set()
    assert workspace.planned_by_dvc() == set()


@pytest.mark.parametrize(
    ("first", "second"), [("snakemake", "dvc"), ("dvc", "snakemake"), ("snakemake", "snakemake"), ("dvc", "dvc")]
)
def test_each_engine_after_each_with_an_edit_between(workspace, first, second):
    workspace.set(START, 0.9)
    assert workspace.planned("reports/table3.csv") == DOWNSTREAM_OF_ONE_SAMPLING
    assert set(run_with(first, workspace)) == DOWNSTREAM_OF_ONE_SAMPLING
    workspace.nothing_to_do(by_dvc=True)
    workspace.set(START, 0.8)
    assert set(run_with(second, workspace)) == DOWNSTREAM_OF_ONE_SAMPLING
    workspace.nothing_to_do(by_dvc=True)


def test_partial_target_then_the_rest(workspace):
    workspace.set("moments.clips", 11)
    workspace.snakemake("moments/svd.safetensors")
    assert workspace.executed() == ["moments@svd"]
    assert workspace.planned("moments/svd.safetensors") == set()
    assert workspace.planned_by_dvc("moments@svd") == set()
    workspace.dvc("repro", "moments@dynamicrafter")
    assert workspace.executed() == ["moments@dynamicrafter"]
    assert workspace.planned("moments/dynamicrafter.safetensors") == set()
    rest = set(run_with("snakemake", workspace))
    assert not rest & {"moments@svd", "moments@dynamicrafter"}
    assert "moments@videocrafter1" in rest
    workspace.nothing_to_do(by_dvc=True)


@pytest.mark.parametrize("engine", ["snakemake", "dvc"])
def test_output_above_one_megabyte_damaged_by_hand_is_mended(workspace, engine):
    big = workspace.path / "latents/webvid_fixed/part"
    good = big.read_bytes()
    assert len(good) > 1 << 20
    big.unlink()
    big.write_bytes(b"damaged")
    assert "latents@webvid_fixed" in workspace.planned("reports/table3.csv")
    assert "latents@webvid_fixed" in workspace.planned_by_dvc("table3")
    run_with(engine, workspace)
    assert big.read_bytes() == good
    workspace.nothing_to_do(by_dvc=True)


@pytest.mark.parametrize("engine", ["snakemake", "dvc"])
def test_damaged_report_is_mended(workspace, engine):
    report = workspace.path / "reports/table3.csv"
    good = report.read_bytes()
    report.write_text("typed in by hand")
    assert workspace.planned("reports/table3.csv") == {"table3"}
    assert run_with(engine, workspace) == [], "DVC has it"
    assert report.read_bytes() == good
    workspace.nothing_to_do(by_dvc=True)


@pytest.mark.parametrize("engine", ["snakemake", "dvc"])
def test_revert_to_earlier_parameters_gives_the_earlier_bytes(workspace, engine):
    before = (workspace.path / "reports/table3.csv").read_bytes()
    workspace.set(START, 0.9)
    run_with("snakemake", workspace)
    assert (workspace.path / "reports/table3.csv").read_bytes() != before
    workspace.set(START, 0.96)
    assert workspace.planned("reports/table3.csv") == DOWNSTREAM_OF_ONE_SAMPLING
    ran = set(run_with(engine, workspace))
    assert "sample_ucf101@dynamicrafter-finetune-analytic" not in ran, "DVC's run cache has this result already"
    assert (workspace.path / "reports/table3.csv").read_bytes() == before
    workspace.nothing_to_do(by_dvc=True)
