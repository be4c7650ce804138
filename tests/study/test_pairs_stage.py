"""The stage pairs names its inputs by the sheet's runs, in their order."""

import csv
import logging
from types import SimpleNamespace

from pipeline.stages import pairs


def test_the_key_names_the_runs_of_params(samples, survey, tmp_path):
    recorded = {}
    stage = SimpleNamespace(
        args=SimpleNamespace(backbone="b"),
        params=SimpleNamespace(
            sheets={"b": SimpleNamespace(runs=list(samples))}, study=SimpleNamespace(fps=8), survey=survey
        ),
        inputs=[folder for folder, _ in samples.values()],
        outputs=[tmp_path / "reports" / "b"],
        record=SimpleNamespace(metrics=recorded.update),
        log=logging.getLogger("test"),
    )
    pairs.run(stage)
    with (tmp_path / "reports" / "b" / "key" / "key.csv").open(newline="") as lines:
        key = list(csv.DictReader(lines))
    assert {row[side] for row in key if not row["check"] for side in ("left_run", "right_run")} == set(samples)
    assert recorded == {"pairs": len(key) - 2} == {"pairs": 18}
