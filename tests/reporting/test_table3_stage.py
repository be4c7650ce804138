"""The stage table3 on metric files: joins the rows of params.yaml, forgets others, and needs no torch."""

import logging
import subprocess
import sys
from types import SimpleNamespace

import pytest

from pipeline.errors import PipelineError
from pipeline.evaluation.metric_file import write_metrics
from pipeline.stages import table3


class Record:
    """Takes the artifacts and keeps nothing."""

    def artifact(self, path):
        assert path.exists()


@pytest.fixture
def stage(tmp_path, runs, measured, controls):
    folder, out = tmp_path / "metrics" / "table3", tmp_path / "reports"
    folder.mkdir(parents=True)
    out.mkdir()
    for name, measurement in measured.items():
        write_metrics(folder / f"{name}.json", {"": measurement})
    write_metrics(folder.parent / "controls.json", controls)
    (tmp_path / "ratings").mkdir()
    (tmp_path / "ratings" / "ratings.csv").write_text("run,rating,low,high,participants\n")
    rows = {
        name: SimpleNamespace(
            group=run.group,
            backbone=run.backbone,
            training=run.training,
            init=run.init,
            start=SimpleNamespace(ucf101=run.start),
            motion_bucket=None,
        )
        for name, run in runs.items()
    }
    return SimpleNamespace(
        inputs=[folder.parent / "controls.json", folder, tmp_path / "ratings"],
        outputs=[out / "table3.csv", out / "table3.md", out / "table3.png"],
        params=SimpleNamespace(runs=rows),
        record=Record(),
        log=logging.getLogger("test"),
    )


def test_the_table_is_written_and_is_the_same_when_written_again(stage):
    table3.run(stage)
    first = [path.read_bytes() for path in stage.outputs]
    table3.run(stage)
    assert [path.read_bytes() for path in stage.outputs] == first
    assert first[0].decode().count("\n") == 5


def test_files_of_rows_that_params_no_longer_has_do_not_count(stage):
    del stage.params.runs["svd-timenoise-analytic"]
    table3.run(stage)
    assert "svd-timenoise-analytic" not in stage.outputs[1].read_text()


def test_a_missing_metric_file_names_its_run(stage):
    (stage.inputs[1] / "svd-timenoise-analytic.json").unlink()
    with pytest.raises(PipelineError, match="metrics for svd-timenoise-analytic"):
        table3.run(stage)


def test_ratings_come_from_their_file_where_there_is_one(stage, tmp_path):
    line = "svd-finetune-standard,3.5,3.1,3.8,10\n"
    (tmp_path / "ratings" / "ratings.csv").write_text("run,rating,low,high,participants\n" + line)
    table3.run(stage)
    assert stage.outputs[0].read_text().splitlines()[1].endswith(",3.50")


@pytest.mark.parametrize("name", ["table3", "metrics", "pairs"])
def test_the_light_stages_start_without_torch(name):
    code = f"import sys, pipeline.stages.{name}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
