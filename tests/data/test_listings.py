"""Listings of the three layouts: columns by parameter, duplicates and paths that climb out marked, pairs by name."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from pipeline.data import listings
from pipeline.data.decode import decode_picture
from pipeline.data.listings import class_caption, read_listing
from pipeline.data.schema import decode_frames
from pipeline.errors import PipelineError

HEADER = ["videoid", "contentUrl", "duration", "page_dir", "name"]
PICTURES = SimpleNamespace(id="image", caption="prompt", folder=None)


def read(layout, listing, videos, columns):
    return list(read_listing(layout, listing, videos, columns, "clip_sets.own"))


@pytest.fixture
def videos(tmp_path):
    (tmp_path / "videos").mkdir()
    return tmp_path / "videos"


def test_columns_are_mapped_by_parameters_in_any_order(tmp_path, videos, make):
    listing = make.write_csv(
        tmp_path / "a.csv", ["text", "extra", "clip"], [["a cat", "x", "7"], ["a dog", "y", "8.avi"]]
    )
    rows = read("webvid", listing, videos, SimpleNamespace(id="clip", caption="text", folder=None))
    assert [(row.number, row.id, row.source, row.caption) for row in rows] == [
        (0, "7", "7.mp4", "a cat"),
        (1, "8.avi", "8.avi", "a dog"),
    ]


@pytest.mark.parametrize(("header", "role", "column"), [
    (["id", "contentUrl", "duration", "page_dir", "name"], "id", "videoid"),
    (["videoid", "contentUrl", "duration", "page_dir", "Name"], "caption", "name"),
    (["videoid", "contentUrl", "duration", "name"], "folder", "page_dir"),
])  # fmt: skip
def test_csv_without_a_needed_column_is_an_error_that_names_column_and_key(
    tmp_path, videos, make, header, role, column
):
    listing = make.write_csv(tmp_path / "a.csv", header, [["1"] * len(header)])
    with pytest.raises(PipelineError) as error:
        read("webvid", listing, videos, make.webvid)
    message = str(error.value)
    assert repr(column) in message and f"clip_sets.own.columns.{role}" in message and header[0] in message
    assert "\n" not in message


@pytest.mark.parametrize("content", ["", "\n\n", "\x00\x01binary"])
def test_file_that_is_no_csv_of_ours_is_an_error(tmp_path, videos, make, content):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(PipelineError, match=r"a\.csv"):
        read("webvid", tmp_path / "a.csv", videos, make.webvid)


def test_missing_listing_and_folder_are_named_by_their_keys(tmp_path, videos, make):
    with pytest.raises(PipelineError, match=r"clip_sets\.own\.listing: .*none\.csv does not exist"):
        read("webvid", tmp_path / "none.csv", videos, make.webvid)
    listing = make.write_csv(tmp_path / "a.csv", HEADER, [])
    with pytest.raises(PipelineError, match=r"clip_sets\.own\.videos: .*gone does not exist"):
        read("webvid", listing, tmp_path / "gone", make.webvid)


def test_byte_order_mark_windows_lines_quotes_and_newlines_in_captions(tmp_path, videos, make):
    (tmp_path / "a.csv").write_bytes('﻿videoid,page_dir,name\r\n1,p,"a ""b"", <c>,\r\nd"\r\n2,p,\xe9\r\n'.encode())
    one, two = read("webvid", tmp_path / "a.csv", videos, make.webvid)
    assert one.caption == 'a "b", <c>,\r\nd' and (two.number, two.caption) == (1, "é")


def test_of_duplicate_ids_the_first_stays(tmp_path, videos, make):
    rows = [
        ["1", "", "", "a", "first"],
        ["2", "", "", "a", "x"],
        ["1", "", "", "b", "second"],
        ["1", "", "", "a", "third"],
    ]
    found = read("webvid", make.write_csv(tmp_path / "a.csv", HEADER, rows), videos, make.webvid)
    assert [row.problem and row.problem[0] for row in found] == [None, None, "duplicate_id", "duplicate_id"]
    assert found[0].caption == "first"


@pytest.mark.parametrize(("id", "folder"), [
    ("../secret", ""), ("../../secret", "page"), ("a/../../secret", ""), ("secret", ".."),
    ("/secret", ""), ("secret", "/"), ("secret", "out"), ("link", ""),
])  # fmt: skip
def test_ids_that_climb_out_of_the_data_folder_are_refused(tmp_path, videos, make, id, folder):
    make.encode(tmp_path / "secret.mp4", 16)
    (videos / "out").symlink_to(tmp_path)
    (videos / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    listing = make.write_csv(tmp_path / "a.csv", HEADER, [[id, "", "", folder, "x"]])
    (row,) = read("webvid", listing, videos, make.webvid)
    assert row.problem[0] == "unsafe_path" and "out of the data folder" in row.problem[1]


def test_links_that_stay_inside_are_fine(tmp_path, videos, make):
    make.encode(videos / "a.mp4", 16)
    (videos / "b.mp4").symlink_to(videos / "a.mp4")
    (row,) = read("webvid", make.write_csv(tmp_path / "a.csv", HEADER, [["b", "", "", "", "x"]]), videos, make.webvid)
    assert row.problem is None


@pytest.mark.parametrize("id", ["", "   ", "a\0b"])
def test_row_without_a_usable_id_is_marked_and_not_dropped(tmp_path, videos, make, id):
    (tmp_path / "a.csv").write_text(f"videoid,page_dir,name\n{id},p,x\n5,p,y\n")
    bad, good = read("webvid", tmp_path / "a.csv", videos, make.webvid)
    assert bad.problem[0] == "bad_row" and good.problem is None and good.number == 1


def test_row_cut_short_has_no_folder_or_caption_but_is_kept(tmp_path, videos, make):
    (tmp_path / "a.csv").write_text("videoid,page_dir,name\n5\n")
    (row,) = read("webvid", tmp_path / "a.csv", videos, make.webvid)
    assert (row.source, row.caption, row.problem) == ("5.mp4", "", None)


def test_ucf101_rows_take_label_and_caption_from_the_class(tmp_path, videos):
    lines = [
        "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi 1",
        "",
        "YoYo/v_YoYo_g02_c01.avi",
        "v_Lost.avi",
        "../x/v_Up.avi",
    ]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    first, second, lost, climbing = read("ucf101", tmp_path / "list.txt", videos, None)
    assert (first.id, first.label, first.caption) == ("v_ApplyEyeMakeup_g01_c01", "ApplyEyeMakeup", "Apply Eye Makeup")
    assert (second.number, second.caption) == (1, "Yo Yo")
    assert lost.problem[0] == "bad_row" and climbing.problem[0] == "unsafe_path"


@pytest.mark.parametrize(("name", "caption"), [
    ("ApplyEyeMakeup", "Apply Eye Makeup"), ("HandstandPushups", "Handstand Pushups"), ("TaiChi", "Tai Chi"),
    ("Archery", "Archery"), ("RedDisc", "Red Disc"),
])  # fmt: skip
def test_class_names_become_words(name, caption):
    assert class_caption(name) == caption


def test_prompts_and_pictures_are_paired_by_name_not_by_order(tmp_path, make):
    """Names whose order differs between the file, the folder and a sort by number."""
    colours = {"10.png": (255, 0, 0), "9.png": (0, 255, 0), "b.png": (0, 0, 255), "a.png": (255, 255, 0)}
    (tmp_path / "images").mkdir()
    for name, colour in colours.items():
        cv2.imwrite(str(tmp_path / "images" / name), np.full((8, 8, 3), colour[::-1], np.uint8))
    listing = make.write_csv(tmp_path / "p.csv", ["prompt", "image"], [[str(colours[name]), name] for name in colours])
    rows = read("imagebench", listing, tmp_path / "images", PICTURES)
    assert len(rows) == 4
    for row in rows:
        (clip,) = decode_picture(tmp_path / "images" / row.source, row.id, make.clip_rule())
        assert str(tuple(int(value) for value in decode_frames(clip["frames"])[0, 0, 0])) == row.caption


def test_picture_without_prompt_and_prompt_without_picture_are_both_accounted_for(tmp_path, make):
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.JPG", "notes.txt"):
        (tmp_path / "images" / name).write_bytes(b"x")
    listing = make.write_csv(tmp_path / "p.csv", ["image", "prompt"], [["gone.png", "x"], ["a.png", "  "]])
    rows = read("imagebench", listing, tmp_path / "images", PICTURES)
    assert [(row.number, row.id, row.problem and row.problem[0]) for row in rows] == [
        (0, "gone.png", None),  # the decoder will not find it
        (1, "a.png", "no_prompt"),
        (2, "b.JPG", "no_prompt"),
    ]


@pytest.mark.parametrize("shards", [1, 3])
def test_shards_that_each_look_at_their_own_rows_see_what_one_reader_sees(tmp_path, videos, make, shards):
    """Rows of others come too, unlooked at, and count for duplicates."""
    (videos / "out").symlink_to(tmp_path)
    rows = [[str(number % 7), "", "", "out" if number == 5 else "p", "x"] for number in range(9)]
    listing = make.write_csv(tmp_path / "a.csv", HEADER, [*rows, ["../up", "", "", "", "x"]])
    whole = read("webvid", listing, videos, make.webvid)
    assert [row.problem and row.problem[0] for row in whole[5:]] == [
        "unsafe_path", None, "duplicate_id", "duplicate_id", "unsafe_path",
    ]  # fmt: skip
    for shard in range(shards):
        mine = lambda number, shard=shard: number % shards == shard  # noqa: E731
        part = list(read_listing("webvid", listing, videos, make.webvid, "clip_sets.own", mine))
        assert [row.number for row in part] == [row.number for row in whole]
        assert [row for row in part if mine(row.number)] == [row for row in whole if mine(row.number)]


def test_paths_of_rows_that_are_not_wanted_cost_no_system_call(tmp_path, videos, make, monkeypatch):
    listing = make.write_csv(tmp_path / "a.csv", HEADER, [[str(number), "", "", "p", "x"] for number in range(50)])
    looked_at = []
    monkeypatch.setattr(listings, "_unsafe", lambda root, source: looked_at.append(source))
    rows = list(read_listing("webvid", listing, videos, make.webvid, "x", lambda number: number in (3, 40)))
    assert len(rows) == 50 and looked_at == ["p/3.mp4", "p/40.mp4"]


def test_two_ids_that_share_a_hash_are_no_duplicates(tmp_path, videos, make):
    """Hashes only say where to look."""

    class Id(str):
        def __hash__(self):
            return 7

    rows = [listings.Row(number, Id(id), id, "") for number, id in enumerate(("a", "b", "a"))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(listings.LAYOUTS, "webvid", lambda *_: iter(rows))
        found = read("webvid", make.write_csv(tmp_path / "a.csv", HEADER, []), videos, make.webvid)
    assert [row.problem and row.problem[0] for row in found] == [None, None, "duplicate_id"]


def test_reading_is_lazy(tmp_path, videos, make):
    """A listing of millions of rows must not be held in memory."""
    rows = [[str(number), "", "", "p", "x"] for number in range(2000)]
    listing = make.write_csv(tmp_path / "a.csv", HEADER, rows)
    reader = read_listing("webvid", listing, videos, make.webvid, "x")
    next(reader)
    with listing.open("a") as file:
        file.write("last,,,p,added while reading\n")
    assert [row.id for row in reader][-1] == "last"
