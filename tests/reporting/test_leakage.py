"""The leakage table and figures from invented probes."""

import csv
import logging
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.probing.probe_file import Probe, read_probe, write_probe
from pipeline.probing.ratio import motion_ratio
from pipeline.reporting.leakage import leakage_csv, reading
from pipeline.stages import leakage


def invent(
    weights: str, share: float, backbone="dynamicrafter", times=(0.5, 0.9), clips=40, trained=0.1, followed=0.2
) -> Probe:
    """Predictions that move ``share`` as much as the clips, about, and follow ``followed`` of their motion."""
    rng = np.random.default_rng(len(weights))
    truth = rng.uniform(0.1, 0.5, clips)
    motion = [(truth * share * rng.uniform(0.9, 1.1, clips)).tolist() for _ in times]
    process = "ve" if backbone == "svd" else "vp"
    square, along = np.square(truth).tolist(), (followed * np.square(truth)).tolist()
    shares = [trained] * len(times)
    moved = (truth.tolist(), motion, square, [along for _ in times])
    return Probe(backbone, weights, process, list(times), shares, *moved, {})


def rows(probes, perfect):
    return list(csv.DictReader(leakage_csv(probes, perfect).splitlines()))


def test_a_ratio_of_means_with_its_standard_error():
    probe = invent("x", 0.5)
    ratio, error = motion_ratio(probe.motion, probe.truth)
    assert ratio == pytest.approx([0.5, 0.5], abs=0.02)
    rng, draws = np.random.default_rng(0), []
    probe = invent("x", 0.5)
    for _ in range(2000):
        chosen = rng.integers(0, 40, 40)
        draws.append(np.array(probe.motion[0])[chosen].mean() / np.array(probe.truth)[chosen].mean())
    assert error[0] == pytest.approx(np.std(draws), rel=0.15)


def test_the_table_says_what_is_leakage_what_a_posterior_mean_and_what_never_trained():
    perfect = {"dynamicrafter": invent("perfect", 0.7)}
    probes = [invent("dynamicrafter-initial", 0.3), invent("dynamicrafter-finetune", 0.7, clips=41)]
    probes.append(invent("dynamicrafter-timenoise", 0.3, trained=1e-5))
    readings = [row["reading"] for row in rows(probes, perfect)]
    assert readings[:2] == ["moves less than the perfect denoiser"] * 2
    assert set(readings[2:4]) == {"as the perfect denoiser"}
    assert readings[4:] == ["hardly trained there"] * 2
    first = rows(probes, perfect)[0]
    assert (first["followed"], first["perfect_followed"]) == ("0.2", "0.2")
    assert float(first["gap"]) == pytest.approx(0.4, abs=0.03) and first["clips"] == "40"
    assert reading(-0.3, 0.01, 0.1) == "moves more than the perfect denoiser"


def test_one_scene_is_too_few_to_tell():
    perfect = {"dynamicrafter": invent("perfect", 0.7, clips=1)}
    row = rows([invent("dynamicrafter-initial", 0.3)], perfect)[0]
    assert (row["gap_error"], row["reading"]) == ("", "too few clips")


def test_without_a_reference_the_gap_is_empty():
    empty = Probe("dynamicrafter", "perfect", "vp", [], [], [], [], [], [], {})
    row = rows([invent("dynamicrafter-initial", 0.3)], {"dynamicrafter": empty})[0]
    assert (row["gap"], row["reading"]) == ("", "no reference")


def test_the_stage_draws_the_same_pictures_twice(tmp_path):
    folder, strip = tmp_path / "probes", np.zeros((3, 8, 16, 16, 3), np.uint8)
    strip[1:] = 200
    for name in ("dynamicrafter-initial", "dynamicrafter-timenoise"):
        write_probe(folder / "weights" / name, invent(name, 0.4), strip)
    write_probe(
        folder / "weights" / "svd-initial", invent("svd-initial", 0.4, "svd", (1.0, 300.0), trained=1e-6), strip
    )
    for name in ("dynamicrafter", "svd"):
        write_probe(
            folder / "perfect" / name,
            invent("perfect", 0.7, name, (1.0, 300.0) if name == "svd" else (0.5, 0.9)),
            strip,
        )
    outputs = [tmp_path / name for name in ("leakage.csv", "leakage.png", "strips.png")]
    stage = SimpleNamespace(
        inputs=[folder], outputs=outputs, log=logging.getLogger("test"),
        params=SimpleNamespace(
            probes=["dynamicrafter-initial", "dynamicrafter-timenoise", "svd-initial"],
        ),
        record=SimpleNamespace(artifact=lambda path: None),
    )  # fmt: skip
    leakage.run(stage)
    first = [path.read_bytes() for path in outputs]
    leakage.run(stage)
    assert [path.read_bytes() for path in outputs] == first
    assert first[0].decode().count("\n") == 7


def test_a_damaged_probe_is_said_so(tmp_path):
    (tmp_path / "probe.json").write_text("{}")
    with pytest.raises(PipelineError, match="holds no probe"):
        read_probe(tmp_path)
