"""Jobs as on other hosts, on this one: they leave receipts, and Snakemake's own process alone writes the ledger."""

START = "runs.dynamicrafter-finetune-analytic.start.ucf101"


def test_receipts_of_a_run_end_in_the_ledger(workspace, tmp_path):
    workspace.set(START, 0.9)
    here = workspace.copy(tmp_path / "here")
    here.snakemake("reports/table3.csv")
    workspace.snakemake("reports/table3.csv", "--config", "ledger=receipts")
    assert (workspace.path / "dvc.lock").read_text() == (here.path / "dvc.lock").read_text()
    workspace.nothing_to_do()
