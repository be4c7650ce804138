"""Signs, intervals and verdicts of the claims, on results whose answer is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline.claims.plan import SAMPLINGS, TUNINGS, Sampling
from pipeline.claims.seed_file import ProbeResult, read_seed, write_seed
from pipeline.claims.verdicts import CONTRADICTED, HOLDS, NOT_SHOWN, PROBED, Line, Reference, judge, lines_of
from pipeline.errors import PipelineError

PERFECT = Reference([0.8, 0.6], [0.02, 0.02], [0.6, 0.4], [0.02, 0.02])


def verdicts(seeds) -> dict:
    return {(each.line.claim, each.line.regime, each.line.measure): each for each in judge_all(seeds)}


def judge_all(seeds):
    return [judge(line, seeds) for line in lines_of(PERFECT)]


def line_of(pair, **options) -> Line:
    return Line("b", "", "", "", "", "", pair, **options)


def test_equal_results_show_nothing_but_the_gap_to_the_perfect_denoiser(seed_result):
    for item in judge_all([seed_result(10), seed_result(11)]):
        if item.line.claim == "a":
            assert item.effect == pytest.approx(0.3)  # both measures
        else:
            assert (item.verdict, item.effect) == (NOT_SHOWN, 0.0)


EFFECTS = [
    # what one set of samples has, the lines that then hold and those that are contradicted
    ("naive-standard-mend", {"motion_px": 0.15}, {("b", "from T to M", "motion")},
     {("b", "from M to a far smaller M", "motion"), ("c", "at M", "motion error")}),
    ("naive-analytic-mend", {"fvd": 10.0}, {("c", "at M", "FVD")}, set()),
    ("naive-analytic-early", {"fd_pca": 50.0}, set(), {("c", "at a far smaller M", "Fréchet, PCA")}),
    ("naive-analytic-early", {"motion_px": 0.28}, {("c", "at a far smaller M", "motion error")}, set()),
    ("naive-analytic-early", {"motion_px": 0.31}, set(), {("c", "at a far smaller M", "motion error")}),
    ("naive-analytic-mend", {"first_frame": 22.0}, {("c", "at M", "first frame")}, set()),
    ("timenoise-standard-standard", {"motion_px": 0.2, "fvd": 25.0}, {("d", "all clips", "motion")},
     {("d", "all clips", "FVD")}),
    ("few-timenoise-standard-standard", {"fvd": 10.0}, {("d", "few clips", "FVD")}, set()),
    ("timenoise-analytic-mend", {"motion_px": 0.2}, {("e", "all clips", "motion")}, set()),
    ("few-timenoise-analytic-mend", {"fd_pca": 30.0}, {("e", "few clips", "Fréchet, PCA")}, set()),
]  # fmt: skip


@pytest.mark.parametrize(("run", "metrics", "holding", "contradicted"), EFFECTS)
def test_signs(seed_result, run, metrics, holding, contradicted):
    found = verdicts([seed_result(seed, runs={run: metrics}) for seed in (10, 11, 12)])
    decided = {key: item.verdict for key, item in found.items() if item.verdict != NOT_SHOWN and key[0] != "a"}
    assert {key for key, verdict in decided.items() if verdict == HOLDS} == holding
    assert {key for key, verdict in decided.items() if verdict == CONTRADICTED} == contradicted


def test_memorising_and_leaking_less(seed_result):
    changed = {
        "probes": {
            "few-naive": ProbeResult([0.3, 0.3], [0.0, 0.0], [0.1, 0.1], [0.0, 0.0], [0.9, 0.9]),
            "timenoise": ProbeResult([0.5, 0.5], [0.0, 0.0], [0.3, 0.3], [0.0, 0.0], [0.5, 0.5]),
        },
        "final_loss": {"few-naive": 0.1},
    }
    found = verdicts([seed_result(seed, **changed) for seed in (10, 11, 12)])
    for key in (
        ("d", "few clips", "squared error of one-step predictions of unseen clips"),
        ("d", "few clips", "final training loss"),
        *(("d", regime, measure) for regime in ("all clips", "few clips") for measure in PROBED),
    ):
        assert found[key].verdict == HOLDS, key
    assert found[("d", "few clips", "final training loss")].effect == pytest.approx(0.2)


def test_the_gap_interval_holds_the_errors_of_scenes_and_of_clips(seed_result):
    (naive, _, *_) = judge_all([seed_result(10, ratio=0.4), seed_result(11, ratio=0.4)])
    assert naive.effect == pytest.approx(0.3)
    half = stats.t.ppf(0.975, 1) * np.hypot(0.02, 0.01)
    assert (naive.low, naive.high) == pytest.approx((0.3 - half, 0.3 + half))


def test_lines_without_a_perfect_denoiser(seed_result):
    assert {line.claim for line in lines_of(None)} == set("bcde")
    assert {line.claim for line in lines_of(PERFECT)} == set("abcde")


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=9), st.booleans())
def test_the_interval_is_students(effects, lower_is_better):
    line = line_of(lambda value: (1.0, 1.0 + value), lower_is_better=lower_is_better)
    item = judge(line, effects)
    signed = np.array(effects) * (-1 if lower_is_better else 1)
    assert item.effect == pytest.approx(signed.mean(), abs=1e-9)
    if signed.std() > 1e-6:
        low, high = stats.t.interval(0.95, len(effects) - 1, signed.mean(), stats.sem(signed))
        assert (item.low, item.high) == pytest.approx((low, high), rel=1e-6, abs=1e-9)
        assert (item.verdict == NOT_SHOWN) == (low <= 0 <= high)


def test_intervals_cover_as_often_as_they_say():
    generator = np.random.default_rng(0)
    line = line_of(lambda value: (0.0, value))
    covered = [
        (item := judge(line, generator.normal(0.3, 1.0, 5))).low <= 0.3 <= item.high for _ in range(1000)
    ]  # fmt: skip
    assert 0.93 < np.mean(covered) < 0.97


def test_every_line_compares_samples_that_are_made(seed_result):
    names = {each.name for each in SAMPLINGS}
    assert len(names) == len(SAMPLINGS)
    assert {each.weights for each in SAMPLINGS} == set(TUNINGS)
    seen = set()

    class Seen(dict):
        def __getitem__(self, name):
            seen.add(name)
            return super().__getitem__(name)

    result = seed_result(1)
    object.__setattr__(result, "runs", Seen(result.runs))
    for line in lines_of(PERFECT):
        line.pair(result)
    assert seen == names, "sampled and never compared, or compared and never sampled"
    assert Sampling("naive", "standard", "standard").name in names


def test_a_seed_file_comes_back_and_a_damaged_one_is_named(seed_result, tmp_path):
    path = tmp_path / "10.json"
    write_seed(path, seed_result(10, ratio=1 / 3))
    assert read_seed(path).probes["naive"].ratio == [0.3333333333, 0.3333333333]
    assert read_seed(path).runs == seed_result(10).runs
    path.write_text(path.read_text()[:-20])
    with pytest.raises(PipelineError, match=r"10\.json holds no result of a seed .* run claims_seed@10"):
        read_seed(path)
