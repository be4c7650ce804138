"""Intervals, strengths and ratings against known answers."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize
from scipy.stats import binomtest

from pipeline.study.scores import PRIOR, Judgement, bootstrap, bradley_terry, ratings, wilson, win_matrix

RUNS = ["a", "b", "c", "d"]


@pytest.mark.parametrize("wins, count", [(0, 10), (7, 10), (10, 10), (50, 100), (1, 1)])
def test_wilson_is_scipys(wins, count):
    expected = binomtest(wins, count).proportion_ci(0.95, "wilson")
    assert wilson(wins, count) == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize("wins, count", [(0.5, 1), (3.5, 9), (9.5, 10)])
def test_wilson_with_ties_holds_what_the_score_test_does_not_reject(wins, count):
    def distance(chance: float) -> float:
        return (wins / count - chance) ** 2 / (chance * (1 - chance) / count) - 1.959963984540054**2

    share = wins / count
    low, high = brentq(distance, 1e-9, share), brentq(distance, share, 1 - 1e-9)
    assert wilson(wins, count) == pytest.approx((low, high), abs=1e-9)


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


def most_likely(wins: np.ndarray) -> np.ndarray:
    """Bradley-Terry by maximising the written-out likelihood, independent of the code under test."""
    count = len(wins)

    def loss(strength):
        total = 0.0
        for i in range(count):
            for j in range(count):
                if i != j:
                    total += (wins[i, j] + PRIOR / 2) * np.logaddexp(0, strength[j] - strength[i])
        return total + strength.mean() ** 2

    return minimize(loss, np.zeros(count), method="BFGS", options={"gtol": 1e-9}).x


@given(st.lists(st.integers(0, 30), min_size=16, max_size=16))
@settings(deadline=None, max_examples=25)
def test_bradley_terry_is_the_maximum_of_the_likelihood(counts):
    wins = np.array(counts, dtype=float).reshape(4, 4) * (1 - np.eye(4))
    assert bradley_terry(wins) == pytest.approx(most_likely(wins), abs=1e-4)


@pytest.mark.parametrize("games", [1, 60, 10_000])
def test_a_clean_sweep_is_solved_exactly_and_many_at_once_as_one_by_one(games):
    sweep = np.triu(np.full((4, 4), float(games)), 1)
    mixed = sweep + np.diag([games / 2] * 3, -1)
    together = bradley_terry(np.stack([sweep, mixed]))
    for wins, strength in zip((sweep, mixed), together, strict=True):
        assert strength == pytest.approx(bradley_terry(wins), abs=1e-9)
        prior = wins + PRIOR / 2 * (1 - np.eye(4))
        expected = (prior + prior.T) / (1 + np.exp(strength[None, :] - strength[:, None]))
        assert expected.sum(1) - np.diag(expected) == pytest.approx(prior.sum(1), rel=1e-8)


def test_the_bootstrap_of_a_clean_sweep_is_fast_and_that_of_one_person_gives_nothing():
    sweep = [
        Judgement(str(person), RUNS[i], RUNS[j], 1.0)
        for person in range(10) for i in range(4) for j in range(i + 1, 4) for _ in range(6)
    ]  # fmt: skip
    began = time.process_time()
    low, high = bootstrap(sweep, RUNS, bradley_terry, 2000, np.random.default_rng(0))
    assert time.process_time() - began < 3
    assert low == pytest.approx(most_likely(win_matrix(sweep, RUNS)), abs=1e-3) == high
    alone = [each for each in sweep if each.participant == "0"]
    for statistic in (bradley_terry, ratings):
        assert np.isnan(bootstrap(alone, RUNS, statistic, 10, np.random.default_rng(0))).all()


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
    assert np.isnan(ratings(win_matrix(order[1:], RUNS))).all()
    both = np.stack([win_matrix(order, RUNS), win_matrix(order[1:], RUNS)])
    assert np.isnan(ratings(both)).any(1).tolist() == [False, True]


def test_the_rating_is_the_mean_over_people_and_pictures_of_1_plus_the_pairs_lost():
    generator, found, by_hand = np.random.default_rng(0), [], []
    for person in range(5):
        for _ in range(3):
            lost = dict.fromkeys(RUNS, 1.0)
            for i in range(4):
                for j in range(i + 1, 4):
                    score = float(generator.choice([0.0, 0.5, 1.0]))
                    found.append(Judgement(str(person), RUNS[i], RUNS[j], score))
                    lost[RUNS[i]] += 1 - score
                    lost[RUNS[j]] += score
            by_hand.append(list(lost.values()))
    assert ratings(win_matrix(found, RUNS)) == pytest.approx(np.mean(by_hand, 0))
