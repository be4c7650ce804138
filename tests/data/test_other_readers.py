"""Clips read by pandas, DuckDB, PyArrow and Hugging Face datasets are ClipSet's; docs/data.md shows how."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.data.schema import ClipSet

ROOT = Path(__file__).resolve().parents[2]
HEADER = ["videoid", "page_dir", "name"]
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}


@pytest.fixture(scope="module", params=["png", "jpeg"])
def folder(request, tmp_path_factory, make) -> Path:
    """Five clips in parts of two rows of the listing, one reject."""
    base = tmp_path_factory.mktemp(request.param)
    for number in range(5):
        make.encode(base / f"videos/page/{number}.mp4", 40, seed=number)
    rows = [[str(number), "page", f'a "clip", {number} é'] for number in range(6)]
    listing = make.write_csv(base / "listing.csv", HEADER, rows)
    make.take("webvid", listing, base / "videos", base / "clips", rows_per_part=2, codec=request.param)
    assert len(list((base / "clips").glob("part-*.parquet"))) == 3
    return base / "clips"


def pictures(encoded) -> np.ndarray:
    """uint8 RGB (F, H, W, 3) of a clip's ``frames``, by Pillow."""
    return np.stack([np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")) for picture in encoded])


def assert_same(folder: Path, rows: list[dict]) -> None:
    """PNG to the bit; JPEG as near as two builds of its library are."""
    clips = ClipSet(folder)
    assert [row["id"] for row in rows] == clips.ids == ["0", "1", "2", "3", "4"]
    assert [row["caption"] for row in rows] == clips.captions
    assert [row["stride"] for row in rows] == clips.strides and [row["fps"] for row in rows] == clips.fps
    allowed = 0 if rows[0]["frames"][0][:4] == b"\x89PNG" else 3
    for number, row in enumerate(rows):
        found, expected = pictures(row["frames"]), clips.frames([number])[0]
        assert found.shape == expected.shape == (16, 32, 32, 3)
        assert np.abs(found.astype(int) - expected).max() <= allowed


def test_pandas(folder):
    import pandas

    table = pandas.concat(pandas.read_parquet(path) for path in sorted(folder.glob("part-*.parquet")))
    assert_same(folder, table.to_dict("records"))
    rejects = pandas.read_parquet(folder / "rejects.parquet")
    assert rejects[["row", "id", "reason"]].to_numpy().tolist() == [[5, "5", "missing"]]


def test_duckdb(folder):
    import duckdb

    columns = ("id", "caption", "stride", "fps", "frames")
    found = duckdb.sql(f"select {', '.join(columns)} from '{folder}/part-*.parquet' order by id").fetchall()
    assert_same(folder, [dict(zip(columns, row, strict=True)) for row in found])
    reasons = duckdb.sql(f"select reason, count(*) from '{folder}/rejects.parquet' group by reason").fetchall()
    assert reasons == [("missing", 1)]


def test_arrow_dataset(folder):
    import pyarrow.dataset

    parts = [str(path) for path in sorted(folder.glob("part-*.parquet"))]
    assert_same(folder, pyarrow.dataset.dataset(parts).to_table().to_pylist())


@pytest.fixture(scope="module")
def hugging_face(tmp_path_factory):
    """Runs code with the library in a process of its own, without network and telemetry; returns what it prints."""
    home = tmp_path_factory.mktemp("hf")

    def run(code: str) -> str:
        environment = {**os.environ, **OFFLINE, "HF_HOME": str(home)}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run


@pytest.mark.parametrize("streaming", [True, False])
def test_hugging_face_datasets(folder, hugging_face, tmp_path, streaming):
    out = tmp_path / "rows.parquet"
    hugging_face(
        "import datasets, pyarrow as pa, pyarrow.parquet as pq\n"
        f"clips = datasets.load_dataset('parquet', data_files='{folder}/part-*.parquet', split='train',"
        f" streaming={streaming})\n"
        f"pq.write_table(pa.Table.from_pylist(list(clips)), {str(out)!r})"
    )
    assert_same(folder, pq.read_table(out).to_pylist())


def test_examples_of_the_docs_run(folder, hugging_face, tmp_path):
    """Each Python block under the heading of other tools, with its folder replaced."""
    text = (ROOT / "docs/data.md").read_text()
    section = text.split("## Reading clips with other tools")[1].split("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, flags=re.S)
    assert len(blocks) >= 3
    for block in blocks:
        assert "clips/webvid_fixed" in block
        printed = hugging_face(block.replace("clips/webvid_fixed", str(folder)))
        assert "(16, 32, 32, 3)" in printed
