"""What the tests of the participants' page in Debian's Chromium share."""

import os
import time
from pathlib import Path

import pytest

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
QUESTIONS_ASKED = ("motion", "temporal consistency", "image alignment", "overall")
IN_CHROMIUM = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="Debian's chromium is not installed (apt-get install chromium)"),
]


def wait_until(page, condition, seconds=20):
    # Playwright's own wait_for_function needs eval, which the page's security policy forbids.
    deadline = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, f"not within {seconds} s: {condition}"
        page.wait_for_timeout(50)


def picture_of(page, name):
    if "SCREENSHOTS" in os.environ:
        page.screenshot(path=f"{os.environ['SCREENSHOTS']}/{name}.png", full_page=True)


def consent(page, number: int, code: str) -> None:
    page.fill("#participant", str(number))
    page.fill("#code", code)
    page.check("#consent")
    page.click("#begin")


def choices_of(page, key) -> list[str]:
    """What the scripted participant answers to the pair on the screen: checks right, else the first run by name."""
    pair = page.evaluate("ownPairs()[session.place].pair")
    if pair in key.checks:
        question, expected = key.checks[pair]
        return [expected if name == question else "same" for name in QUESTIONS_ASKED]
    left, right = key.runs[pair]
    return ["left" if left < right else "right"] * 4


def answer_by_keys(page, key) -> None:
    for choice in choices_of(page, key):
        page.keyboard.press({"left": "1", "same": "2", "right": "3"}[choice])
    page.keyboard.press("Enter")


def answer_by_mouse(page, key) -> None:
    for name, choice in zip(QUESTIONS_ASKED, choices_of(page, key), strict=True):
        page.locator(f'input[name="{name}"][value="{choice}"]').click()
    page.click("#next")


def saved(page, button, folder) -> Path:
    with page.expect_download() as download:
        page.click(button)
    target = folder / download.value.suggested_filename
    download.value.save_as(target)
    return target
