"""Intervals, strengths and ratings against known answers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from pipeline.study.scores import Judgement, bootstrap, bradley_terry, ratings, wilson, win_matrix

RUNS = ["a", "b", "c", "d"]


@pytest.mark.parametrize("wins, count", [(0, 10), (7, 10), (10, 10), (50, 100), (1, 1)])
def test_wilson_is_scipys(wins, count):
    expected = binomtest(wins, count).proportion_ci(0.95, "wilson")
    assert wilson(wins, count) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_wilson_without_judgements_says_nothing():
    assert wilson(0, 0) == (0.0, 1.0)


def judged(strengths, each: int, participants: int, seed: int = 0) -> list[Judgement]:
    generator, found = np.random.default_rng(seed), []
    for person in range(participants):
        for i in range(4):
            for j in range(i):
                chance = 1 / (1 + np.exp(strengths[j] - strengths[i]))
                found += [
                    Judgement(str(person), RUNS[i], RUNS[j], float(generator.random() < chance)) for _ in range(each)
                ]
    return found


def test_bradley_terry_finds_the_strengths_that_made_the_judgements():
    strengths = np.array([0.8, 0.1, -0.2, -0.7])
    found = bradley_terry(win_matrix(judged(strengths, 400, 10), RUNS))
    assert found == pytest.approx(strengths, abs=0.1)
    assert found.sum() == pytest.approx(0, abs=1e-6)


def test_bradley_terry_of_two_is_the_log_odds_and_a_clean_sweep_is_finite():
    two = bradley_terry(np.array([[0.0, 300.0], [100.0, 0.0]]))
    assert two[0] - two[1] == pytest.approx(np.log(3), abs=0.01)
    sweep = bradley_terry(np.array([[0.0, 5.0], [0.0, 0.0]]))
    assert np.isfinite(sweep).all() and sweep[0] > sweep[1]


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    strengths, held = np.array([0.5, 0.2, -0.1, -0.6]), 0
    for trial in range(60):
        found = judged(strengths, 3, 12, seed=trial)
        low, high = bootstrap(found, RUNS, bradley_terry, 200, np.random.default_rng(trial))
        held += ((low < strengths) & (strengths < high)).sum()
    assert held / 240 > 0.85


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=6, max_size=6))
def test_four_ratings_sum_to_ten_whatever_is_answered(scores):
    pairs = [(a, b) for place, a in enumerate(RUNS) for b in RUNS[place + 1 :]]
    found = [Judgement("p", a, b, score) for (a, b), score in zip(pairs, scores, strict=True)]
    values = ratings(win_matrix(found, RUNS))
    assert values.sum() == pytest.approx(10)
    lost = {
        run: sum(1 - j.score if j.first == run else j.score for j in found if run in (j.first, j.second))
        for run in RUNS
    }
    assert values == pytest.approx([1 + lost[run] for run in RUNS]), "the mean of 1 plus the pairs lost"


def test_the_best_is_1_the_worst_4_and_unjudged_pairs_give_no_rating():
    order = [Judgement("p", RUNS[i], RUNS[j], 1.0) for i in range(4) for j in range(i + 1, 4)]
    assert ratings(win_matrix(order, RUNS)).tolist() == [1, 2, 3, 4]
    assert ratings(win_matrix(order[1:], RUNS)) is None
