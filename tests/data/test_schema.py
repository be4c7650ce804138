"""The clips contract: a round trip, shards, and readers and writers that refuse what does not follow it."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.data.schema import (
    CLIPS,
    ClipSet,
    ClipWriter,
    decode_frames,
    encode_frames,
    merge_rejects,
    read_rejects,
    write_rejects,
)
from pipeline.errors import PipelineError
from tests.helpers.parted import write_clips

NUMBERS = ("stride", "requested_stride", "start_frame", "window", "source_height", "source_width")


def row(number: int, frames=None) -> dict:
    texts = {
        "source": f"{number}.mp4",
        "caption": f'caption, "{number}"\nüß',
        "label": "",
        "decoder": "d",
        "transform": "t",
    }
    pictures = encode_frames(np.full((2, 8, 8, 3), number % 256, np.uint8)) if frames is None else frames
    rates = {"native_fps": 30.0, "fps": 10.0}
    return {"id": f"clip{number}", **texts, **rates, **dict.fromkeys(NUMBERS, number), "frames": pictures}


def write(folder, count: int, rows_per_part: int = 40):
    return write_clips(folder, [row(number) for number in range(count)], rows_per_part)


def rewrite(folder, change):
    """The first shard with another table, as an older or a foreign program would leave it."""
    path = folder / "part-00000.parquet"
    pq.write_table(change(pq.read_table(path)), path)


@pytest.mark.parametrize(("count", "shards"), [(1, 1), (16, 1), (39, 1), (40, 1), (41, 2), (120, 3)])
def test_clips_come_back_in_order_whatever_the_shards(tmp_path, count, shards):
    clips = ClipSet(write(tmp_path / "set", count))
    assert len(list((tmp_path / "set").glob("part-*.parquet"))) == shards
    assert clips.ids == [f"clip{number}" for number in range(count)] and len(clips) == count
    assert clips.captions[-1] == f'caption, "{count - 1}"\nüß' and clips.strides == list(range(count))
    order = np.random.default_rng(0).permutation(count).tolist()
    assert clips.frames(order)[:, 0, 0, 0, 0].tolist() == order


def test_png_frames_are_kept_to_the_pixel_and_in_rgb():
    frames = np.random.default_rng(0).integers(0, 256, (3, 10, 12, 3), dtype=np.uint8)
    assert np.array_equal(decode_frames(encode_frames(frames)), frames)
    red = np.zeros((1, 16, 16, 3), np.uint8)
    red[..., 0] = 250
    assert decode_frames(encode_frames(red, "jpeg", 95))[0, 8, 8].tolist()[0] > 200


def test_clips_reach_the_disk_as_they_come_and_one_row_group_waits(tmp_path):
    """Bounded memory: what is in a finished row group is in the file and nowhere else."""
    noise = np.random.default_rng(0)
    with ClipWriter(tmp_path / "clips.parquet") as writer:
        for number in range(200):
            writer.add(row(number, [noise.bytes(5000) for _ in range(2)]))
            assert len(writer._pending) < 16
            on_disk = (tmp_path / "clips.parquet").stat().st_size if number >= 16 else 0
            assert on_disk >= (number // 16 * 16 - 16) * 10_000
    assert writer.count == 200


def test_many_files_and_groups_are_read_with_few_open(tmp_path):
    clips = ClipSet(write(tmp_path / "set", 50, rows_per_part=1))
    assert clips.frames(list(range(50)))[:, 0, 0, 0, 0].tolist() == list(range(50))
    assert len(clips._handles) <= ClipSet._KEPT_FILES < 50
    assert clips.captions == [row(number)["caption"] for number in range(50)]


@pytest.mark.parametrize("rows", [range(0, 1), range(15, 17), range(38, 45), range(0, 60), range(59, 60)])
def test_fields_of_a_range_are_those_of_the_columns(tmp_path, rows):
    clips = ClipSet(write(tmp_path / "set", 60))
    assert clips.fields(rows, ("id", "stride")) == {
        "id": [clips.ids[k] for k in rows],
        "stride": [clips.strides[k] for k in rows],
    }


def test_folder_that_holds_no_clips_is_an_error(tmp_path):
    (tmp_path / "part-00000.txt").write_text("x")
    with pytest.raises(PipelineError, match=r"holds no part-\*\.parquet"):
        ClipSet(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not parquet", None])
def test_damaged_shard_is_an_error_that_names_the_file(tmp_path, content):
    path = write(tmp_path / "set", 60) / "part-00001.parquet"
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    with pytest.raises(PipelineError, match=r"part-00001\.parquet is not a whole Parquet file") as error:
        ClipSet(tmp_path / "set")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("change", "says"), [
    (lambda table: table.drop_columns(["caption", "fps"]), "missing: ['caption', 'fps']"),
    (lambda table: table.append_column("more", pa.array([0] * len(table))), "does not follow the clips schema"),
    (lambda table: table.set_column(5, "fps", pa.array(["10"] * len(table))), "types or version differ"),
    (lambda table: table.replace_schema_metadata({"clips_schema": "0"}), "does not follow the clips schema 1"),
    (lambda table: table.replace_schema_metadata(None), "does not follow the clips schema 1"),
])  # fmt: skip
def test_shard_of_another_schema_is_refused(tmp_path, change, says):
    rewrite(write(tmp_path / "set", 5), lambda table: table)
    ClipSet(tmp_path / "set")  # the same table again is fine
    rewrite(tmp_path / "set", change)
    with pytest.raises(PipelineError) as error:
        ClipSet(tmp_path / "set")
    assert says in str(error.value)


@pytest.mark.parametrize("change", [
    {"caption": None}, {"stride": "two"}, {"fps": None}, {"id": 5}, {"frames": [1, 2]},
])  # fmt: skip
def test_writer_refuses_rows_that_do_not_follow_the_schema(tmp_path, change):
    with pytest.raises((pa.ArrowException, TypeError)), ClipWriter(tmp_path / "clips.parquet") as writer:
        writer.add({**row(0), **change})


@pytest.mark.parametrize("name", [name for name in CLIPS.names if name != "frames"])
def test_writer_refuses_a_row_that_lacks_a_field(tmp_path, name):
    lacking = row(0)
    del lacking[name]
    with pytest.raises(pa.ArrowException), ClipWriter(tmp_path / "clips.parquet") as writer:
        writer.add(lacking)


def rejects(numbers) -> list[dict]:
    reasons = ("empty", "missing")
    return [{"row": k, "id": f"id{k}", "source": "a.mp4", "reason": reasons[k % 2], "detail": "why"} for k in numbers]


def test_rejects_of_several_parts_come_back_in_order_with_counts_by_reason(tmp_path):
    parts = [rejects(range(0, 1000)), [], rejects(range(1000, 2500))]
    paths = [tmp_path / f"{number}.parquet" for number in range(3)]
    for part, path in zip(parts, paths, strict=True):
        write_rejects(path, part)
    assert merge_rejects(paths, tmp_path / "rejects.parquet") == {"missing": 1250, "empty": 1250}
    rows = read_rejects(tmp_path)
    assert [item["row"] for item in rows] == list(range(2500))
    assert rows[1] == {"row": 1, "id": "id1", "source": "a.mp4", "reason": "missing", "detail": "why"}


def test_rejects_without_one_are_an_empty_table_with_columns(tmp_path):
    write_rejects(tmp_path / "part.parquet", [])
    assert merge_rejects([tmp_path / "part.parquet"], tmp_path / "rejects.parquet") == {}
    assert read_rejects(tmp_path) == []
    assert pq.read_schema(tmp_path / "rejects.parquet").names == ["row", "id", "source", "reason", "detail"]


def test_rejects_refuse_a_row_without_a_reason(tmp_path):
    with pytest.raises(pa.ArrowException):
        write_rejects(tmp_path / "rejects.parquet", [{**rejects([0])[0], "reason": None}])
