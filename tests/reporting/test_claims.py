"""Claims as a table, in words and as a figure; the stage that joins the seeds."""

import csv
import io
import logging
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline import presets
from pipeline.claims.seed_file import write_seed
from pipeline.params.file import load_params
from pipeline.probing.probe_file import Probe, write_probe
from pipeline.reporting.claims import claim_verdict
from pipeline.stages import claims
from tests.claims.conftest import invent
from tests.test_params import ROOT


@pytest.fixture
def stage(tmp_path):
    """Three seeds in which TimeNoise raises motion and worsens FVD."""
    folder, out = tmp_path / "metrics" / "claims", tmp_path / "reports"
    folder.mkdir(parents=True)
    out.mkdir()
    for seed in (10, 11, 12):
        worse = {"motion_px": 0.2 + seed / 1000, "fvd": 25.0}
        write_seed(folder / f"{seed}.json", invent(seed, runs={"timenoise-standard-standard": worse}))
    times, perfect = [0.7, 0.9, 1.0], tmp_path / "perfect"
    both = [1.0, 1.0], [[0.8, 0.8]] * 3
    probe = Probe("dynamicrafter", "perfect", "vp", times, [0.1] * 3, *both, *both, {})
    write_probe(perfect, probe, np.zeros(0))
    params = load_params(ROOT / "params.yaml")
    design = params.claims.design.model_copy(update={"probe_times": [0.7, 0.9]})
    return SimpleNamespace(
        inputs=[folder, perfect],
        outputs=[out / "claims.csv", out / "claims.md", out / "claims.png"],
        params=SimpleNamespace(claims=SimpleNamespace(seeds=[12, 10, 11], design=design)),
        record=SimpleNamespace(artifact=lambda path: None),
        log=logging.getLogger("test"),
    )


def test_claims_that_fail_stay_in_table_and_words(stage):
    claims.run(stage)
    rows = list(csv.DictReader(io.StringIO(stage.outputs[0].read_text())))
    by_line = {(row["claim"], row["regime"], row["measure"]): row for row in rows}
    assert set("abcde") == {row["claim"] for row in rows}
    moved = by_line["d", "all clips", "motion"]
    assert (moved["verdict"], moved["seeds"], moved["seeds_in_favour"]) == ("holds", "3", "3")
    assert float(moved["seed_10"]) == pytest.approx(0.11) and float(moved["effect"]) == pytest.approx(0.111)
    worse = by_line["d", "all clips", "FVD"]
    assert (worse["verdict"], float(worse["effect"]), worse["seeds_in_favour"]) == ("contradicted", -5.0, "0")
    page = stage.outputs[1].read_text()
    assert "TimeNoise against the naive fine-tune: holds in part" in page
    assert "Contradicted: FVD (all clips)" in page and "Holds: motion (all clips)" in page
    assert "3 seeds (10, 11, 12)" in page and page.startswith("# Claims of the paper (demo)")
    assert stage.outputs[2].read_bytes().startswith(b"\x89PNG")


def test_the_files_of_other_seeds_do_not_count_and_the_result_is_the_same_again(stage):
    claims.run(stage)
    first = [path.read_bytes() for path in stage.outputs]
    stage.params.claims.seeds.remove(11)
    claims.run(stage)
    assert stage.outputs[0].read_bytes() != first[0]
    write_seed(
        stage.inputs[0] / "11.json", invent(11, runs={"timenoise-standard-standard": {"motion_px": 0.211, "fvd": 25.0}})
    )
    stage.params.claims.seeds.append(11)
    claims.run(stage)
    assert [path.read_bytes() for path in stage.outputs] == first


def test_without_a_perfect_denoiser_the_leakage_lines_are_left_out(stage, tmp_path):
    write_probe(tmp_path / "none", Probe("dynamicrafter", "perfect", "vp", [], [], [], [], [], [], {}), np.zeros(0))
    stage.inputs[1] = tmp_path / "none"
    claims.run(stage)
    assert "(a)" not in stage.outputs[1].read_text()


def test_a_perfect_denoiser_of_one_scene_has_no_error_and_shows_nothing(stage, tmp_path):
    times, both = [0.7, 0.9], ([1.0], [[0.8]] * 2)
    write_probe(
        tmp_path / "one", Probe("dynamicrafter", "perfect", "vp", times, [0.1] * 2, *both, *both, {}), np.zeros(0)
    )
    stage.inputs[1] = tmp_path / "one"
    claims.run(stage)
    rows = [row for row in csv.DictReader(io.StringIO(stage.outputs[0].read_text())) if row["claim"] == "a"]
    assert {(row["low"], row["high"], row["verdict"]) for row in rows} == {("", "", "not shown")}
    assert "| unknown |" in stage.outputs[1].read_text()


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["holds", "holds"], "holds"),
        (["holds", "not shown"], "holds in part"),
        (["holds", "contradicted"], "holds in part"),
        (["not shown", "contradicted"], "does not hold"),
    ],
)
def test_a_claim_holds_only_where_every_line_does(lines, expected):
    def item(verdict, premise=False):
        return SimpleNamespace(verdict=verdict, line=SimpleNamespace(premise=premise))

    assert claim_verdict([item(each) for each in lines]) == expected
    assert claim_verdict([*map(item, lines), item("holds", premise=True)]) == expected, "a premise is no claim"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seeds": [1]}, "claims.seeds: List should have at least 2 items"),
        ({"seeds": [1, 2, 1]}, r"claims.seeds: \[1\] stand there twice"),
        ({"design": {"backbone": "sora"}}, "claims.design.backbone: 'sora' is not a key of backbones"),
        ({"design": {"latents": "none"}}, "claims.design.latents: 'none' is not a key of latents"),
        ({"design": {"starts": {"mend": 0.5}}}, "claims.design.starts: early must lie below mend"),
        ({"design": {"starts": {"mend": 1.5}}}, "claims.design.starts: .* mend at most at 1.0"),
        ({"design": {"probe_times": [0.33]}}, r"claims.design.probe_times: \[0.33\] are not among probe.vp_times"),
    ],
)
def test_wrong_parameters_are_named(changes, says):
    from pipeline.errors import PipelineError
    from pipeline.params.file import validate_params

    tree = presets.read(ROOT / "presets/demo.yaml")
    presets.overlay(tree, {"claims": changes})
    with pytest.raises(PipelineError, match=says):
        validate_params(tree, "params.yaml")
