"""The whole page from invented inputs: it loads nothing, holds every section, and fits phone and desktop."""

import csv
import os
import re
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from pipeline.engine.ledger import StageEntry
from pipeline.params.file import load_params
from pipeline.reporting.methods import ucf101_rows
from pipeline.reporting.published import published_rows
from pipeline.reporting.report_sections import LEAKAGE_COLUMNS
from pipeline.reporting.rows import ROWS
from pipeline.reporting.sweep import sweep_page
from pipeline.reporting.table3 import markdown_text
from pipeline.stages import report
from pipeline.tracking import Cost
from tests.study.conftest import write_video

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = Path("/usr/bin/chromium")
WIDTHS = {"phone": (390, 844), "desktop": (1280, 900)}
SECTIONS = [
    "reading", "claims", "leakage", "start", "ucf101", "table3", "timenoise", "motion", "study", "compute", "samples",
    "provenance",
]  # fmt: skip
FIGURES = ("claims", "leakage", "leakage_strips", "start_grid", "table3", "timenoise")
COMMIT = "c0ffee" * 6 + "c0ff"


def write_csv(path, *rows):
    with path.open("w", newline="") as out:
        csv.writer(out).writerows(rows)


def write_samples(folder):
    for name in ("key", "sheet"):
        (folder / "svd" / name).mkdir(parents=True)
    sheet = folder / "svd" / "sheet"
    write_video(sheet / "v.mp4", (200, 80, 60), size=64)
    cv2.imwrite(str(sheet / "c.png"), np.full((32, 32, 3), 90, dtype=np.uint8))
    rows = [
        [f"svd-{train}-{init}", picture, "v.mp4", "c.png", f"a <b>{picture}</b> ball"]
        for picture in ("red", "blue")
        for init, train in ROWS
    ]
    write_csv(folder / "svd" / "key" / "media.csv", ["run", "picture", "video", "condition", "prompt"], *rows)


@pytest.fixture(scope="module")
def invented(tmp_path_factory):
    """The folder of the page's inputs but for the tables, which need fixtures of one test."""
    folder = tmp_path_factory.mktemp("reports")
    for name in FIGURES:
        cv2.imwrite(str(folder / f"{name}.png"), np.full((500, 1100, 3), 200, dtype=np.uint8))
    readings = ("as the perfect denoiser", "moves less than the perfect denoiser")
    lines = [
        [f"{backbone}", f"{backbone}-{weights}", t, 40, 0.5, 0.7, 0.2, 0.01, 0.3, 0.4, readings[t > 0.7]]
        for backbone in ("dynamicrafter", "svd")
        for weights in ("initial", "finetune", "timenoise", "cdm")
        for t in (0.5, 0.7, 0.8, 0.9, 1.0)
    ]
    write_csv(folder / "leakage.csv", LEAKAGE_COLUMNS, *lines)
    write_csv(folder / "compute.csv", ["stage", "device_hours"], ["finetune", "1.5"], ["<script>x</script>", "# a"])
    ratings = folder / "ratings"
    ratings.mkdir()
    write_csv(ratings / "answers.csv", ["file", "verdict"], ["ada.json", "counted"])
    write_csv(ratings / "ratings.csv", ["run", "rating", "low", "high", "participants"],
              ["svd-finetune-standard", 2.31, 2.05, 2.6, 1])  # fmt: skip
    for name in ("ranking", "win_rates"):
        write_csv(ratings / f"{name}.csv", ["backbone", "run"])
    write_samples(folder / "pairs")
    return folder


@pytest.fixture
def page_file(invented, runs, measured, controls, tmp_path, monkeypatch):
    """The page as the stage makes it, of a made-up ledger and store."""
    rows, published = ucf101_rows(runs), published_rows()
    (invented / "table3.md").write_text(markdown_text(runs, measured, controls, {}, published))
    for name in ("ucf101", "start_grid", "timenoise", "motion_error"):
        own = [row for row in published if row["table"] == name]
        (invented / f"{name}.md").write_text(sweep_page(name, "Words.", "the first", rows, measured, controls, own))
    claim = "| statement | verdict |\n| --- | --- |\n| Motion rises | **holds** |\n"
    (invented / "claims.md").write_text(f"# Claims (demo)\n\n## In words\n\n- **(a) holds.**\n\n## (a) It\n\n{claim}")
    names = [f"{name}.png" for name in FIGURES] + ["leakage.csv", "compute.csv", "ratings", "pairs", "claims.md"]
    names += ["table3.md", "ucf101.md", "start_grid.md", "timenoise.md", "motion_error.md"]
    entries = {
        "report": StageEntry("report", None, "", tuple(names), ("pipeline/x.py",), (), ("reports/report.html",), {}),
        "finetune@svd": StageEntry("finetune", "svd", "", (), (), (), ("models/svd-finetune",), {}),
    }
    ledger = SimpleNamespace(
        root=tmp_path,
        entries=entries,
        producer=lambda path: None,
        hashes=lambda entry, kind: {path: f"md5-of-{path}" for path in getattr(entry, kind)},
    )
    monkeypatch.setattr("pipeline.engine.ledger.Ledger", lambda: ledger)
    monkeypatch.setattr("pipeline.runner.git_commit", lambda root: COMMIT)
    monkeypatch.setattr("pipeline.reporting.provenance.changed_files", lambda ledger: ["params.yaml"])
    monkeypatch.setattr("pipeline.tracking.job_costs", lambda root: [Cost("finetune", "svd", "cpu", 1, 1, "feed" * 10)])
    stage = SimpleNamespace(
        address="report",
        inputs=[invented / name for name in names],
        outputs=[tmp_path / "report.html"],
        params=load_params(ROOT / "params.yaml"),
        record=SimpleNamespace(artifact=lambda path: None),
    )
    report.run(stage)
    return stage.outputs[0]


def test_the_page_holds_every_section_and_loads_nothing(page_file):
    page = page_file.read_text()
    assert page.startswith("<!doctype html>")
    addresses = re.findall(r"(?<![\w-])(?:src|href|poster|srcset|action|data)=[\"']([^\"']*)", page)
    assert addresses and all(address.startswith(("data:", "#")) for address in addresses)
    assert "url(" not in page and "@import" not in page and "<script" not in page
    assert [f"#{name}" for name in SECTIONS] == [address for address in addresses if address.startswith("#")]
    assert re.findall(r'<h2 id="(\w+)"', page) == SECTIONS


def test_published_values_hashes_and_commits_are_there_and_nobodys_name(page_file):
    page = page_file.read_text()
    assert "460.3" in page, "a published value"
    assert page.index("(a) holds.") < page.index('alt="Dot plot of the effects') < page.index("(a) It"), (
        "findings first"
    )
    assert "md5-of-models/svd-finetune" in page and "md5-of-pipeline/x.py" in page and "md5-of-table3.md" in page
    assert COMMIT in page and "with uncommitted changes</b> in <code>params.yaml</code>" in page
    assert "<tr><td>finetune</td><td>1</td><td>1</td><td><code>feedfeedfeed</code></td></tr>" in page
    assert "clips of 32 x 32 pixels" in page and "ada.json" not in page
    assert "<td>&lt;script&gt;x&lt;/script&gt;</td><td># a</td>" in page
    assert 'aria-label="SVD, a &lt;b&gt;red&lt;/b&gt; ball, CIL: TimeNoise + Analytic-Init"' in page


def test_headings_do_not_jump_and_figures_have_short_words_of_their_own(page_file):
    page = page_file.read_text()
    levels = [int(level) for level in re.findall(r"<h(\d)", page)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(following <= level + 1 for level, following in pairwise(levels))
    figures = re.findall(r'<img(?: class="long")? src="[^"]*" alt="([^"]*)"></div><figcaption>([^<]*)<', page)
    assert len(figures) == len(FIGURES)
    assert all(0 < len(alt) < 90 and alt not in caption for alt, caption in figures)
    assert page.count('class="wide"') == page.count('class="wide" role="region" aria-label="')


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM.exists(), reason="Debian's chromium is not installed (apt-get install chromium)")
@pytest.mark.parametrize("size", WIDTHS)
def test_it_fits_the_window_and_nothing_moves_before_it_is_asked_for(page_file, size):
    from playwright.sync_api import sync_playwright

    width, height = WIDTHS[size]
    playing = "[...document.querySelectorAll('video')].filter((v) => v.checkVisibility() && v.currentTime > 0.2).length"
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=arguments)
        page = browser.new_page(viewport={"width": width, "height": height})
        complaints, requests = [], []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda wanted: requests.append(wanted.url))
        page.goto(page_file.as_uri())
        page.wait_for_timeout(1000)
        assert page.evaluate(playing) == 0
        for summary in page.query_selector_all("summary"):
            summary.click()
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        page.locator("video").first.scroll_into_view_if_needed()
        deadline = time.monotonic() + 30
        while not page.evaluate(playing):
            assert time.monotonic() < deadline, "videos play once they are opened"
            page.wait_for_timeout(100)
        widths = page.evaluate("[...document.querySelectorAll('.wide > img')].map((i) => i.clientWidth)")
        assert len(widths) == len(FIGURES) and min(widths) >= 700, "labels stay readable; the figure scrolls"
        if "SCREENSHOTS" in os.environ:
            page.screenshot(path=f"{os.environ['SCREENSHOTS']}/report-{size}.png", full_page=True)
        browser.close()
    assert complaints == []
    assert all(url.startswith(("file://", "data:")) for url in requests)
