"""The report: text of data stays text, tables and pictures are in it, and it loads nothing."""

import csv

import pytest

from pipeline.reporting.report import Clip, Shown, csv_table, markdown, shown_samples, write_report


class Spec:
    def __init__(self, training, init):
        self.training, self.init = training, init


def test_markdown_keeps_tables_and_shows_html_as_text():
    rendered = markdown("# Title\n## Part\n\n| a | b |\n| --- | --- |\n| 1 | <script>x</script> |\n\n**bold**")
    assert "<h4>Part</h4>" in rendered and "Title" not in rendered
    assert "<td>1</td>" in rendered and "<strong>bold</strong>" in rendered
    assert "<script>" not in rendered and "&lt;script&gt;" in rendered


def test_a_csv_file_is_a_table_and_an_empty_one_is_none(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,a|b\n2,<i>\n")
    (tmp_path / "b.csv").write_text("x,y\n")
    table = csv_table(tmp_path / "a.csv", ["y"])
    assert "a|b" in table and "&lt;i&gt;" in table and "<th>x</th>" not in table
    assert csv_table(tmp_path / "b.csv") is None


@pytest.fixture
def pairs(tmp_path):
    """The study of one backbone, as the stage pairs leaves it."""
    folder = tmp_path / "pairs" / "svd"
    for name in ("key", "sheet/media"):
        (folder / name).mkdir(parents=True)
    rows = []
    for picture in "edcba":
        (folder / "sheet" / "media" / f"{picture}.png").write_bytes(b"png")
        for run in ("svd-finetune-standard", "svd-timenoise-analytic"):
            (folder / "sheet" / "media" / f"{picture}{run}.mp4").write_bytes(b"mp4")
            rows.append([run, picture, f"media/{picture}{run}.mp4", f"media/{picture}.png", f"text <{picture}>"])
    with (folder / "key" / "media.csv").open("w", newline="") as out:
        csv.writer(out).writerows([["run", "picture", "video", "condition", "prompt"], *rows])
    return folder.parent


def test_samples_stand_side_by_side_by_picture(pairs):
    runs = {
        "svd-finetune-standard": Spec("svd-finetune", "standard"),
        "svd-timenoise-analytic": Spec("svd-timenoise", "analytic"),
    }
    found = shown_samples(pairs, {"svd": "SVD", "dynamicrafter": "DynamiCrafter"}, runs)
    assert [shown.prompt for shown in found] == ["text <a>", "text <b>", "text <c>", "text <d>"]
    assert [clip.method for clip in found[0].clips] == ["fine-tuned", "TimeNoise + Analytic-Init"]
    assert found[0].clips[0].video.startswith("data:video/mp4;base64,")


def test_the_page_holds_everything_and_names_no_address(tmp_path):
    shown = Shown("SVD", "data:image/png;base64,", "a <b>ball</b>", [Clip("TimeNoise", "data:video/mp4;base64,")])
    write_report(
        tmp_path / "report.html", demo=True, contents=[("a", "A & B")], sections=[], samples=[shown], commit="abc",
        hashes={"reports/x": "123"}, packages={"torch": "2"}, parameters="world: {seed: 0} # <script>",
    )  # fmt: skip
    page = (tmp_path / "report.html").read_text()
    assert "a &lt;b&gt;ball&lt;/b&gt;" in page and "A &amp; B" in page and "# &lt;script&gt;" in page
    assert "<script" not in page and "http" not in page.replace('http-equiv="', "")
    assert "Demo scale." in page and "abc" in page
