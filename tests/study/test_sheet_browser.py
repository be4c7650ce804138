"""The sheet in Debian's Chromium, opened from a folder as a file: both videos play, nothing comes from elsewhere."""

import os
import time
from pathlib import Path

import pytest

from pipeline.study.sheet import write_sheet

CHROMIUM = Path("/usr/bin/chromium")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
WIDTHS = {"phone": (390, 844), "desktop": (1280, 900)}
PLAYS = "[...document.querySelectorAll('video')].every((v) => v.readyState >= 3 && v.currentTime > 0.3 && !v.error)"
SIDES = "[...document.querySelectorAll('video')].map((v) => v.currentTime)"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="Debian's chromium is not installed (apt-get install chromium)"),
]


@pytest.fixture(scope="module")
def page_file(samples, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sheets")
    write_sheet(folder, samples, seed=0)
    return folder / "sheet" / "index.html"


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=QUIET)
        yield chromium
        chromium.close()


@pytest.fixture(params=WIDTHS)
def watched(request, browser, page_file):
    """An open sheet, with what it complained about and what it asked for."""
    width, height = WIDTHS[request.param]
    page = browser.new_page(viewport={"width": width, "height": height})
    complaints, requests = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda wanted: requests.append(wanted.url))
    page.goto(page_file.as_uri())
    yield page, request.param
    page.close()
    assert complaints == []
    assert requests and all(url.startswith("file://") for url in requests)


def wait_until(page, condition, seconds=20):
    # Playwright's own wait_for_function needs eval, which the page's security policy forbids.
    deadline = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, f"not within {seconds} s: {condition}"
        page.wait_for_timeout(50)


def test_both_videos_play_in_step_and_again(watched):
    page, name = watched
    wait_until(page, PLAYS)
    left, right = page.evaluate(SIDES)
    assert abs(left - right) < 0.1
    if "SCREENSHOTS" in os.environ:
        page.screenshot(path=f"{os.environ['SCREENSHOTS']}/{name}.png", full_page=True)
    # Two seconds of video: they end, and both start again from the beginning.
    wait_until(page, "[...document.querySelectorAll('video')].every((v) => v.ended)")
    wait_until(page, PLAYS)
    page.click("#restart")
    assert max(page.evaluate(SIDES)) < 0.3
    wait_until(page, PLAYS)


def test_every_pair_can_be_reached_and_shows_its_own_picture_and_text(watched):
    page, _ = watched
    pairs = page.evaluate("pairs")
    assert len(pairs) == 18
    for number, pair in enumerate(pairs, 1):
        assert page.inner_text("#place") == f"Pair {number} of 18"
        assert page.evaluate("document.getElementById('prompt').textContent") == (pair["prompt"] or "(no text)")
        wait_until(page, "[...document.querySelectorAll('video')].every((v) => v.readyState >= 3)")
        wait_until(page, "document.getElementById('condition').naturalWidth > 0")
        if number < len(pairs):
            page.click("#next")
    assert page.is_disabled("#next") and not page.is_visible("#problem")


def test_nothing_is_wider_than_the_window_and_buttons_are_large_enough_to_touch(watched):
    page, _ = watched
    wait_until(page, PLAYS)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    for button in page.query_selector_all("button"):
        assert button.bounding_box()["height"] >= 40


def test_a_video_that_is_gone_is_said_so(browser, page_file):
    page = browser.new_page()
    page.goto(page_file.as_uri())
    page.evaluate("pairs[1].left = 'media/gone.mp4'")
    page.click("#next")
    page.wait_for_selector("#problem:not([hidden])")
    assert "media/gone.mp4 cannot be played" in page.inner_text("#problem")
    page.close()
