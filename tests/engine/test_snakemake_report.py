"""`snakemake --report`: every result with a caption and labels, made without network."""

import json
import re

from pipeline.engine.snakemake_rules import in_report

NO_NETWORK = "http://127.0.0.1:9"
WANTED = {
    "reports/table3.csv", "reports/table3.png", "reports/claims.csv", "reports/claims.png", "reports/leakage.png",
    "reports/start_grid.csv", "reports/timenoise.png", "reports/compute.csv", "reports/report.html",
}  # fmt: skip


def test_the_report_has_every_table_and_figure_with_caption_and_labels_and_needs_no_network(workspace):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        workspace.environment[name] = NO_NETWORK
    ratings = workspace.path / "reports/ratings"
    for name in ("ratings", "answers"):
        (ratings / f"{name}.csv").write_text("run\n")
    output = workspace.snakemake("--report", "snakemake.html", "reports/report.html")
    assert "downloading" not in output.lower(), output
    page = (workspace.path / "snakemake.html").read_text()
    results = json.loads(re.search(r"var results = (\{.*?\});?\n", page).group(1))
    assert set(results) >= WANTED | {"reports/ratings/ratings.csv"}
    assert "reports/ratings/answers.csv" not in results, "it names participants' files"
    assert not [path for path in results if path.endswith(".md")]
    for path, result in results.items():
        assert result["caption"].strip() and all(result["labels"].values()), path
        assert not any("{" in label for label in result["labels"].values()), path


def test_what_has_no_caption_or_is_markdown_is_not_shown(tmp_path):
    (tmp_path / "docs/captions").mkdir(parents=True)
    (tmp_path / "docs/captions/table3.rst").write_text("words")
    assert in_report(tmp_path, "table3", "reports/table3.md") is None
    assert in_report(tmp_path, "finetune", "models/{key}") is None
    assert in_report(tmp_path, "table3", "reports/table3.png") == {
        "caption": "docs/captions/table3.rst",
        "category": "Results",
        "labels": {"what": "table3", "kind": "png"},
    }
