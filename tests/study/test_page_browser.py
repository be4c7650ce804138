"""A scripted participant in Debian's Chromium, from the folder as a file: consent to the saved answers."""

import json

import pytest

from pipeline.study.answers import read_answers, read_key
from tests.study.browser import (
    IN_CHROMIUM,
    PLAYS,
    SIDES,
    WIDTHS,
    answer_by_keys,
    answer_by_mouse,
    consent,
    picture_of,
    saved,
    wait_until,
)

pytestmark = IN_CHROMIUM


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


def test_an_answer_can_be_changed(visit, study_folder):
    key = read_key(study_folder / "key", "b")
    page = visit("ada")
    consent(page, 1, "ada")
    answer_by_keys(page, key)
    page.click("#back")
    assert page.inner_text("#place") == "Pair 1 of 8" and page.is_enabled("#next")
    page.locator('input[name="overall"][value="same"]').click()
    assert page.evaluate("session.answers[ownPairs()[0].pair].overall") == "same"


def test_a_key_held_down_answers_once_and_enter_after_a_mouse_click_means_the_next_pair(visit, study_folder):
    key = read_key(study_folder / "key", "b")
    page = visit()
    consent(page, 1, "x")
    assert page.evaluate("document.activeElement.id") == "place", "focus is at the task's heading"
    for _ in range(5):
        page.keyboard.down("1")
    page.keyboard.up("1")
    assert page.evaluate("Object.values(session.answers)[0].overall") is None
    assert page.evaluate("current()") == 1
    page.evaluate("delete session.answers[ownPairs()[0].pair]")
    page.evaluate("show(0)")
    page.click("#restart")
    answer_by_keys(page, key)
    assert page.inner_text("#place") == "Pair 2 of 8"
    for choice in ("1", "2", "3", "1"):
        page.keyboard.press(choice)
    page.focus("#restart")
    page.keyboard.press("Enter")
    assert page.inner_text("#place") == "Pair 2 of 8", "with the keyboard's focus on it, Enter presses the button"
    page.focus("#back")
    for _ in range(3):
        page.keyboard.down("Enter")
    assert page.inner_text("#place") == "Pair 1 of 8"


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
