"""Several people, and several tabs, at one browser: each has their own answers, and nobody loses theirs."""

import pytest

from pipeline.study.answers import read_key
from tests.study.browser import IN_CHROMIUM, answer_by_keys, consent, saved, wait_until

pytestmark = IN_CHROMIUM


@pytest.fixture(scope="module")
def key(study_folder):
    return read_key(study_folder / "key", "b")


def stored(page) -> list[str]:
    return sorted(page.evaluate("Object.keys(localStorage).map((name) => name.replace(`study-${data.study}`, ''))"))


def test_another_persons_link_is_theirs_and_the_first_persons_answers_stay(visit, key):
    first = visit("lab", address="#1")
    consent(first, 1, "ada")
    answer_by_keys(first, key)
    first.close()
    second = visit("lab", address="#2")
    assert second.is_visible("#welcome") and second.input_value("#code") == ""
    assert second.input_value("#participant") == "2"
    consent(second, 2, "bo")
    assert second.inner_text("#place") == "Pair 1 of 8"
    assert "number 2, bo" in second.inner_text("#task")
    second.close()
    assert visit("lab").inner_text("#task .who") == "number 2, bo", "without a number, who came last goes on"
    again = visit("lab", address="#1")
    assert again.inner_text("#place") == "Pair 2 of 8" and again.inner_text("#task .who") == "number 1, ada"
    assert stored(again) == ["", "-1", "-2"]


def test_another_link_opened_in_the_same_tab_is_another_persons(visit):
    page = visit("lab", address="#1")
    consent(page, 1, "ada")
    page.evaluate("location.hash = '#3'")
    page.wait_for_selector("#welcome:not([hidden])")
    assert page.input_value("#participant") == "3"


def test_who_is_somebody_else_starts_anew_and_the_code_brings_the_answers_back(visit, key):
    page = visit("lab", address="#1")
    consent(page, 1, "ada")
    answer_by_keys(page, key)
    page.click("#task .other")
    page.wait_for_selector("#welcome:not([hidden])")
    assert page.input_value("#participant") == page.input_value("#code") == ""
    assert not page.is_checked("#consent")
    page.reload()
    assert page.is_visible("#welcome")
    consent(page, 1, "somebody else")  # the question whether to delete is answered with no
    assert page.is_visible("#welcome") and "check your number" in page.inner_text("#problem")
    consent(page, 1, "ada")
    assert page.inner_text("#place") == "Pair 2 of 8"


def test_after_saving_the_answers_can_be_deleted(visit, key, tmp_path):
    page = visit("lab")
    consent(page, 1, "ada")
    for _ in range(8):
        answer_by_keys(page, key)
    assert page.is_visible("#done") and not page.is_visible("#delete")
    saved(page, "#save", tmp_path)
    page.reload()
    assert page.is_visible("#delete"), "saved is saved"
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("#delete")
    assert page.is_visible("#gone") and stored(page) == []
    page.reload()
    assert page.is_visible("#welcome")


def test_of_two_tabs_the_older_one_stops_and_overwrites_nothing(visit, key):
    older = visit("lab", address="#1")
    consent(older, 1, "ada")
    answer_by_keys(older, key)
    newer = visit("lab", address="#1")
    assert newer.inner_text("#place") == "Pair 2 of 8"
    wait_until(older, "!document.getElementById('stopped').hidden")
    assert "another tab" in older.inner_text("#why")
    answer_by_keys(newer, key)
    older.click("#here")
    older.wait_for_selector("#task:not([hidden])")
    assert older.inner_text("#place") == "Pair 3 of 8", "with what the other tab has got"
    wait_until(newer, "!document.getElementById('stopped').hidden")


def test_a_tab_that_missed_the_news_still_overwrites_nothing(visit, key):
    page = visit("lab")
    consent(page, 1, "ada")
    page.evaluate(
        "localStorage.setItem(place(1), JSON.stringify({ ...session, place: 5, tab: 'another' }))"
    )  # as a frozen tab finds it: the event does not come in the tab that writes
    page.keyboard.press("1")
    assert page.is_visible("#stopped")
    assert page.evaluate("kept(1).place") == 5
