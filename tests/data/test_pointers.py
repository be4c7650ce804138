"""Pointer files: what lies behind an address that DVC cannot watch is compared with what it was."""

import os
import shutil
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pipeline.__main__ as command_line
from pipeline.data import storage
from pipeline.data.pointers import followed, pointer_to, read_pointer, require_unchanged, write_pointer
from pipeline.errors import PipelineError
from tests.helpers.ftp import FtpServer

KEY = "clip_sets.own.videos"
NAMES = ["a.bin", "deep/er/b.bin", "deep/c d.bin"]


@pytest.fixture
def data(tmp_path) -> Path:
    folder = tmp_path / "data"
    for number, name in enumerate(NAMES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x" * (number + 1))
        os.utime(folder / name, (1e9, 1e9))
    return folder


@pytest.fixture
def url(data):
    running = FtpServer(data.parent)
    yield f"{running.url}/data"
    running.end()


@pytest.fixture
def pointer(url, tmp_path) -> Path:
    path = tmp_path / "inputs/data.pointer.yaml"
    write_pointer(path, pointer_to(url, KEY))
    return path


def edit(data: Path) -> None:
    (data / NAMES[0]).write_bytes(b"y")
    os.utime(data / NAMES[0], (2e9, 2e9))


def add(data: Path) -> None:
    (data / "new.bin").touch()


def remove(data: Path) -> None:
    (data / NAMES[1]).unlink()


def rename(data: Path) -> None:
    (data / NAMES[0]).rename(data / "z.bin")


def empty(data: Path) -> None:
    shutil.rmtree(data)
    data.mkdir()


def test_pointer_says_what_lies_there_and_where(pointer, url):
    found = read_pointer(pointer)
    assert (found.url, found.files, found.bytes) == (url, 3, 6)
    assert followed(pointer) == followed(str(pointer)) == url
    require_unchanged(pointer, KEY)
    for place in ("data/world/videos", url, Path("x.yaml")):
        assert followed(place) is place
        require_unchanged(place, KEY)


@pytest.mark.parametrize("change", [edit, add, remove, rename])
def test_every_change_is_told_until_the_pointer_is_renewed(pointer, data, change, capsys):
    assert command_line.main(["pointer", str(pointer)]) == 0
    assert "3 files, 6 B: as it was" in capsys.readouterr().out
    before = pointer.read_bytes()
    change(data)
    with pytest.raises(
        PipelineError, match=rf"{KEY}: what lies at ftp://.* is not what {pointer} says .*pipeline pointer"
    ):
        require_unchanged(pointer, KEY)
    assert command_line.main(["pointer", str(pointer)]) == 0
    assert "changed" in capsys.readouterr().out and pointer.read_bytes() != before
    require_unchanged(pointer, KEY)


@pytest.mark.parametrize("where", ["the same process", "a new one"])
def test_archive_that_is_exchanged_is_another(data, tmp_path, where):
    """fsspec keeps the table of contents of an archive for the process."""
    url = f"zip://::{shutil.make_archive(str(tmp_path / 'clips'), 'zip', data)}"
    before = pointer_to(url, KEY)
    assert (before.files, before.bytes) == (3, 6)
    (data / NAMES[0]).write_bytes(b"y")
    shutil.make_archive(str(tmp_path / "clips"), "zip", data)
    if where == "a new one":
        fsspec.get_filesystem_class("zip").clear_instance_cache()
    after = pointer_to(url, KEY)
    assert (after.files, after.bytes) == (3, 6) and after.digest != before.digest


def test_single_file_is_a_listing(url):
    one = pointer_to(f"{url}/{NAMES[2]}", KEY)
    assert (one.files, one.bytes) == (1, 3)


class Listed:
    """A file system that describes files in the order given."""

    def __init__(self, files: list[dict]):
        self.files = files

    def invalidate_cache(self):
        pass

    def info(self, path):
        return {"type": "directory"}

    def walk(self, path, **_):
        for file in self.files:
            yield path, {}, {file["name"]: {**file, "name": f"{path}/{file['name']}"}}

    def look_at(self) -> storage.Contents:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(storage, "_system", lambda *_, **__: (self, "root"))
            return storage.look_at("some://root", KEY)


SIX = [{"name": str(k), "size": k, "mtime": 10 * k} for k in range(6)]


@given(st.permutations(SIX))
def test_order_in_which_a_server_lists_does_not_count(files):
    assert Listed(files).look_at() == Listed(SIX).look_at()


@given(st.integers(0, 5), st.sampled_from([("name", "other"), ("size", 9), ("mtime", 9)]))
def test_name_size_and_mark_of_every_file_count(number, change):
    files = [dict(file) for file in SIX]
    files[number].update([change])
    assert Listed(files).look_at().digest != Listed(SIX).look_at().digest


def test_file_without_a_mark_counts_by_its_size_and_that_is_told(caplog):
    assert Listed([*SIX, {"name": "x", "size": 4}, {"name": "y", "size": 4, "mtime": None}]).look_at().bytes == 23
    assert "of 2 of 8 files only the size tells" in caplog.text
    with pytest.raises(PipelineError, match=f"{KEY}: some://root tells neither size nor time of x"):
        Listed([*SIX, {"name": "x", "size": None}]).look_at()


def test_what_cannot_be_listed_says_so(url, data, pointer):
    with pytest.raises(PipelineError, match=rf"{KEY}: {url}-none cannot be listed"):
        pointer_to(f"{url}-none", KEY)
    empty(data)
    with pytest.raises(PipelineError, match=f"{KEY}: there is nothing at {url}"):
        require_unchanged(pointer, KEY)


@pytest.mark.parametrize("text", ["", "- a\n", "url: [", "url: ftp://x\nfiles: 0\nbytes: 1\ndigest: abc\n", "\x00"])
def test_file_that_is_no_pointer_is_named(tmp_path, text):
    path = tmp_path / "x.pointer.yaml"
    path.write_text(text)
    with pytest.raises(PipelineError, match=rf"{path} is no pointer file .*pipeline pointer {path} --url URL"):
        followed(path)


def test_missing_pointer_says_how_to_write_it(tmp_path, capsys):
    path = tmp_path / "x.pointer.yaml"
    assert command_line.main(["pointer", str(path)]) == 1
    assert f"{path} does not exist; `python -m pipeline pointer {path} --url URL` writes it" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "words"), [
    (["x.yaml", "--url", "ftp://h/x"], "a pointer's name ends with .pointer.yaml"),
    (["x.yaml"], "a pointer's name ends with .pointer.yaml"),
    (["a.pointer.yaml", "b.pointer.yaml", "--url", "ftp://h/x"], "--url takes one FILE, found 2"),
    (["a.pointer.yaml", "--url", "videos"], "is no URL"),
    (["a.pointer.yaml", "--url", "nosuch://x"], "no address that fsspec knows"),
    (["a.pointer.yaml", "--url", "ftp://me:secret@h/x"], "holds a password"),
    (["a.pointer.yaml", "--url", "zip://x::ftp://me:secret@h/x"], "holds a password"),
])  # fmt: skip
def test_wrong_command_says_what_is_wrong(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert command_line.main(["pointer", *arguments]) == 1
    assert words in capsys.readouterr().err and list(tmp_path.iterdir()) == []
