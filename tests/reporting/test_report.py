"""The parts of the report: text of data stays text, methods have one name, the study's results name nobody."""

import csv
import subprocess
from types import SimpleNamespace

import pytest

from pipeline.engine.ledger import StageEntry
from pipeline.reporting.methods import weights_name
from pipeline.reporting.provenance import changed_files, foundation_hashes, stage_runs
from pipeline.reporting.report import (
    after_first_part,
    csv_rows,
    markdown,
    method_names,
    rows_table,
    shown_samples,
)
from pipeline.reporting.report_sections import _leakage, _study
from pipeline.tracking import Cost

NAUGHTY = "<b>x</b> # no [heading](http://a.example) ![p](http://b.example/p.png) | **y**"


def spec(backbone, train, init):
    return SimpleNamespace(backbone=backbone, training=f"{backbone}-{train}", init=init)


RUNS = {
    "svd-finetune-standard": spec("svd", "finetune", "standard"),
    "svd-timenoise-analytic": spec("svd", "timenoise", "analytic"),
}


def test_markdown_keeps_tables_and_folds_how_numbers_were_made():
    text = "# Title\nBefore.\n\n## Part\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\n## Controls (demo)\n\n**bold**\n"
    rendered = markdown(text, "Section")
    assert "Title" not in rendered and "Before." in rendered
    assert '<h3>Part</h3><div class="wide" role="region" aria-label="Section: Part" tabindex="0"><table>' in rendered
    assert "<td>1</td>" in rendered and "</table></div>" in rendered
    assert "<details><summary>Controls (demo)</summary><p><strong>bold</strong></p>\n</details>" in rendered


def test_a_page_is_parted_after_its_first_part():
    first, rest = after_first_part("# T\n\nwords\n\n## A\n\na\n\n## B\n\nb\n")
    assert first == "# T\n\nwords\n\n## A\n\na\n\n"
    assert markdown(rest, "S") == "<h3>B</h3><p>b</p>\n"
    assert after_first_part("# T\n") == ("# T\n", "\n")


def test_html_links_and_pictures_in_a_page_stay_text():
    rendered = markdown(f"# T\n{NAUGHTY}\n## <i>{NAUGHTY}\n<script>x</script>", "S")
    assert not any(tag in rendered for tag in ("<script", "<a ", "<img", "<b>", "<i>"))
    assert "&lt;script&gt;" in rendered


def test_text_of_a_csv_file_is_no_markdown_and_no_html(tmp_path):
    with (tmp_path / "a.csv").open("w", newline="") as out:
        csv.writer(out).writerows([["device_hours", "y"], [NAUGHTY, "a\n# b"], ["2", "<i>"]])
    table = rows_table('Label "x"', csv_rows(tmp_path / "a.csv"))
    assert "**y**" in table and "[heading](http" in table and "# b</td>" in table and "&lt;i&gt;" in table
    assert not any(tag in table for tag in ("<a ", "<img", "<b>", "<i>", "<h", "<strong"))
    assert "<th scope='col'>device hours</th>" in table and 'aria-label="Label &#34;x&#34;"' in table
    assert "device hours" not in rows_table("x", csv_rows(tmp_path / "a.csv"), ["y"])
    (tmp_path / "b.csv").write_text("x,y\n")
    assert rows_table("x", csv_rows(tmp_path / "b.csv")) is None


def test_methods_have_the_names_of_the_tables_and_doubles_their_own_beside():
    assert method_names(RUNS, RUNS)["svd-timenoise-analytic"] == "CIL: TimeNoise + Analytic-Init"
    runs = {**RUNS, "early": spec("svd", "finetune", "standard"), "other": spec("svd", "cdm", "standard")}
    names = method_names([*runs, "forgotten"], runs)
    assert (names["early"], names["other"]) == ("fine-tuned (early)", "other") and "forgotten" not in names
    assert [weights_name(name) for name in ("svd-initial", "svd-timenoise", "dynamicrafter-cdm")] == [
        "original", "TimeNoise", "cdm",
    ]  # fmt: skip


@pytest.fixture
def pairs(tmp_path):
    """The study of one backbone, as the stage pairs leaves it."""
    folder = tmp_path / "pairs" / "svd"
    for name in ("key", "sheet/media"):
        (folder / name).mkdir(parents=True)
    rows = []
    for picture in "edcba":
        (folder / "sheet" / "media" / f"{picture}.png").write_bytes(b"png")
        for run in RUNS:
            (folder / "sheet" / "media" / f"{picture}{run}.mp4").write_bytes(b"mp4")
            rows.append([run, picture, f"media/{picture}{run}.mp4", f"media/{picture}.png", f"text <{picture}>"])
    with (folder / "key" / "media.csv").open("w", newline="") as out:
        csv.writer(out).writerows([["run", "picture", "video", "condition", "prompt"], *rows])
    return folder.parent


def test_samples_stand_side_by_side_by_picture(pairs):
    (found,) = shown_samples(pairs, RUNS)
    assert found.backbone == "SVD"
    assert [picture.prompt for picture in found.pictures] == ["text <a>", "text <b>", "text <c>", "text <d>"]
    assert [clip.method for clip in found.pictures[0].clips] == ["fine-tuned", "CIL: TimeNoise + Analytic-Init"]
    assert found.pictures[0].clips[0].video.startswith("data:video/mp4;base64,")


def write_study(folder, answers=(), ratings=(), rates=()):
    """The folder of the stage ratings; a ranking without lines."""
    folder.mkdir()
    tables = {
        "answers": ["file,backbone,participant,verdict,reason", *answers],
        "ratings": ["run,rating,low,high,participants", *ratings],
        "win_rates": ["backbone,question,run_a,run_b,wins_a,ties,wins_b,rate_a,low,high", *rates],
        "ranking": ["backbone,question,run,rank,strength,low,high"],
    }
    for name, lines in tables.items():
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_a_study_without_answers_says_so(tmp_path):
    assert "No answers that count yet" in _study(write_study(tmp_path / "none"), RUNS)
    left_out = _study(write_study(tmp_path / "out", ["ada.json,svd,1,left out,partial: 1 of 6"]), RUNS)
    assert "No answers that count yet" in left_out and "Answer files: 1 left out." in left_out


def test_the_studys_results_name_methods_and_no_files(tmp_path):
    answers = ["ada.json,svd,1,counted,", "bo.json,svd,2,counted,", "<b>eve</b>.json,,,left out,stranger"]
    rates = ["svd,overall,svd-finetune-standard,svd-timenoise-analytic,1,2,3,0.3333,0.1,0.6"]
    runs = {**RUNS, "not-in-the-study": spec("svd", "finetune", "standard")}
    page = _study(write_study(tmp_path / "s", answers, ["svd-finetune-standard,2.3,2.0,2.6,2"], rates), runs)
    assert "Answer files: 2 counted, 1 left out." in page
    assert not any(name in page for name in ("ada", "bo.json", "eve", "stranger"))
    assert "<td>SVD</td><td>fine-tuned</td><td>2.3</td>" in page
    assert "<td>overall</td><td>fine-tuned</td><td>CIL: TimeNoise + Analytic-Init</td>" in page
    assert page.count("<h3>") == 2, "a table without lines has no heading"


def test_leakage_is_told_by_weights_and_its_lines_are_folded():
    line = {"backbone": "svd", "clips": "8", "ratio": "1", "perfect_ratio": "1", "gap": "0", "gap_error": "0",
            "followed": "0", "perfect_followed": "0"}  # fmt: skip
    rows = [
        {**line, "weights": weights, "t": t, "reading": reading}
        for weights, t, reading in (
            ("svd-finetune", "0.5", "as the perfect denoiser"), ("svd-finetune", "3.5", "moves less"),
            ("svd-finetune", "8", "moves less"), ("svd-cdm", "8", "as the perfect denoiser"),
        )
    ]  # fmt: skip
    page = _leakage(rows)
    assert "<td>SVD</td><td>fine-tuned</td><td>0.5</td><td>3.5, 8</td>" in page
    assert "<td>SVD</td><td>cdm</td><td>8</td><td>–</td>" in page
    assert page.index("<details>") > page.index("3.5, 8") and "All 4 lines" in page
    assert "No weights were probed" in _leakage([])


def entry(name, key, *outputs):
    return StageEntry(name, key, "", (), (), (), outputs, {})


def test_a_stage_lists_the_commits_of_its_own_jobs():
    entries = {"a@x": entry("a", "x"), "a@y": entry("a", "y"), "a@z": entry("a", "z"), "b": entry("b", None)}
    costs = [Cost("a", item, "cpu", 1, 1, commit) for item, commit in (("x", "1"), ("y", "2"), ("gone", "3"))]
    first, second = stage_runs(entries, costs)
    assert (first.stage, first.jobs, first.recorded, first.commits) == ("a", 3, 2, {"1": 1, "2": 1})
    assert (second.jobs, second.recorded, second.commits) == (1, 0, {})


def test_changes_that_no_commit_has_are_named_but_not_what_stages_write(tmp_path):
    def ledger():
        return SimpleNamespace(root=tmp_path, producer=lambda path: path.startswith("reports/") or None)

    assert changed_files(ledger()) == [], "no git, nothing known"
    (tmp_path / "reports").mkdir()
    for name in ("params.yaml", "dvc.lock", "reports/table3.md"):
        (tmp_path / name).write_text("before")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=T", "-c", "user.email=t@example.invalid"]
    for arguments in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "x"]):
        subprocess.run([*git, *arguments], check=True)
    for name in ("dvc.lock", "reports/table3.md", "untracked"):
        (tmp_path / name).write_text("after")
    assert changed_files(ledger()) == []
    (tmp_path / "params.yaml").write_text("after")
    assert changed_files(ledger()) == ["params.yaml"]


def test_hashes_are_of_what_every_number_rests_on():
    entries = {"m": entry("finetune", "m", "models/m"), "t": entry("table3", None, "reports/table3.csv")}
    ledger = SimpleNamespace(entries=entries, hashes=lambda own, kind: {own.outputs[0]: "h"})
    assert foundation_hashes(ledger) == {"models/m": "h"}
