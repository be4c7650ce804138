"""A scripted participant in Debian's Chromium, from the folder as a file: consent to the saved answers."""

import json
import os
import time
from pathlib import Path

import pytest

from pipeline.study.answers import read_answers, read_key
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
def study_folder(samples, survey, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    write_sheet(folder, samples, 0, survey)
    return folder


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, study_folder):
    """Opens the page of one person (a browser profile of their own); tells of complaints and foreign requests."""
    contexts, complaints, requests = {}, [], []

    def open_page(person: str = "ada", size: str = "desktop", address: str = ""):
        width, height = WIDTHS[size]
        if person not in contexts:
            contexts[person] = chromium.new_context(viewport={"width": width, "height": height}, accept_downloads=True)
        page = contexts[person].new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda wanted: requests.append(wanted.url))
        page.goto((study_folder / "sheet" / "index.html").as_uri() + address)
        return page

    open_page.complaints = complaints
    yield open_page
    for context in contexts.values():
        context.close()
    assert complaints == []
    assert requests and all(url.startswith(("file://", "blob:")) for url in requests)


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


QUESTIONS_ASKED = ("motion", "temporal consistency", "image alignment", "overall")


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


@pytest.mark.parametrize("size", WIDTHS)
def test_a_participant_from_consent_to_the_saved_file(visit, study_folder, tmp_path, size):
    key = read_key(study_folder / "key", "b")
    page = visit("ada", size, "#2")
    assert page.input_value("#participant") == "2", "the invitation's link has it"
    picture_of(page, f"{size}-welcome")
    consent(page, 2, "blå hest")
    assert page.inner_text("#place") == "Pair 1 of 8"
    wait_until(page, PLAYS)
    left, right = page.evaluate(SIDES)
    assert abs(left - right) < 0.1
    picture_of(page, f"{size}-task")
    assert page.is_disabled("#next")
    for _ in range(3):
        answer_by_keys(page, key)
    page.close()
    page = visit("ada", size)
    assert page.inner_text("#place") == "Pair 4 of 8", "goes on where it was closed"
    partial = saved(page, "#early", tmp_path)
    assert len(json.loads(partial.read_text())["answers"]) == 3
    for _ in range(5):
        answer_by_mouse(page, key)
    assert page.is_visible("#done")
    picture_of(page, f"{size}-done")
    whole = tmp_path / "whole"
    whole.mkdir()
    file = saved(page, "#save", whole)
    content = json.loads(file.read_text())
    assert (content["participant"], content["code"]) == (2, "blå hest")
    assert all(answer["milliseconds"] > 0 for answer in content["answers"])
    verdict = read_answers(whole, [key], 0)[0]
    assert verdict.reason == "" and len(verdict.answers) == 6
    for pair, choices in verdict.answers.items():
        left, right = key.runs[pair]
        assert set(choices.values()) == {"left" if left < right else "right"}
    assert read_answers(tmp_path, [key], 0)[0].reason.startswith("partial: 3 of 8")


def test_without_consent_number_or_code_nothing_begins(visit):
    page = visit()
    for number, code, tick, says in (
        ("9", "x", True, "from 1 to 3"), ("a", "x", True, "from 1 to 3"), ("1", " ", True, "choose a code"),
        ("1", "x", False, "tick"),
    ):  # fmt: skip
        page.fill("#participant", number)
        page.fill("#code", code)
        page.set_checked("#consent", tick)
        page.click("#begin")
        assert says in page.inner_text("#problem") and not page.is_visible("#task")


def test_an_answer_can_be_changed_and_another_person_starts_anew(visit, study_folder):
    key = read_key(study_folder / "key", "b")
    page = visit("ada")
    consent(page, 1, "ada")
    answer_by_keys(page, key)
    page.click("#back")
    assert page.inner_text("#place") == "Pair 1 of 8" and page.is_enabled("#next")
    page.locator('input[name="overall"][value="same"]').click()
    assert page.evaluate("session.answers[ownPairs()[0].pair].overall") == "same"
    other = visit("bo")
    assert other.is_visible("#welcome")


def test_videos_loop_in_step(visit):
    page = visit()
    consent(page, 3, "c")
    wait_until(page, PLAYS)
    wait_until(page, "[...document.querySelectorAll('video')].every((v) => v.ended)")
    wait_until(page, PLAYS)
    page.keyboard.press("r")
    assert max(page.evaluate(SIDES)) < 0.3


@pytest.mark.parametrize("size", WIDTHS)
def test_nothing_is_wider_than_the_window_and_what_is_pressed_is_large_enough(visit, size):
    page = visit("ada", size)
    for place in ("welcome", "task"):
        if place == "task":
            consent(page, 1, "x")
            wait_until(page, PLAYS)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        for pressed in page.query_selector_all(f"#{place} button, #{place} .choices label"):
            assert pressed.bounding_box()["height"] >= 40


def test_a_video_that_is_gone_is_said_so_and_text_from_data_stays_text(visit):
    page = visit()
    consent(page, 1, "x")
    texts = set()
    for _ in range(8):
        texts.add(page.inner_text("#prompt"))
        assert page.evaluate("document.querySelector('#prompt').children.length") == 0
        page.evaluate("show(session.place + 1)")
    assert 'a red <b>ball</b> & "friends" </script>' in texts
    page.evaluate("ownPairs()[1].left = 'media/gone.mp4'")
    page.evaluate("show(1)")
    page.wait_for_selector("#problem:not([hidden])")
    assert "media/gone.mp4 cannot be played" in page.inner_text("#problem")
    visit.complaints.clear()  # the browser's own, on the missing file
