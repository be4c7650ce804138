"""Pointer files: what lies behind an address that DVC cannot watch is compared with what it was."""

import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pipeline.__main__ as command_line
from pipeline.data import pointers, remote
from pipeline.data.pointers import followed, pointer_to, read_pointer, require_unchanged, write_pointer
from pipeline.errors import PipelineError
from pipeline.urls import without_secret
from tests.helpers.ftp import FtpServer
from tests.helpers.web import Server

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


def pack(folder: Path, archive: Path, kind: str) -> None:
    """All members of one time: only the archive itself tells."""
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as file:
            for name in NAMES:
                file.writestr(zipfile.ZipInfo(name), (folder / name).read_bytes())
    else:
        with tarfile.open(archive, "w") as file:
            for name in NAMES:
                file.add(folder / name, name, filter=lambda info: info.replace(mtime=0, deep=False))


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("where", ["local", "ftp"])
def test_archive_counts_as_a_whole(data, tmp_path, kind, where):
    served = FtpServer(tmp_path)
    archive = tmp_path / f"clips.{kind}"
    url = f"{kind}://deep::{archive if where == 'local' else f'{served.url}/{archive.name}'}"
    pack(data, archive, kind)
    os.utime(archive, (1e9, 1e9))
    before = pointer_to(url, KEY)
    assert (before.files, before.bytes) == (1, archive.stat().st_size)
    assert pointer_to(url, KEY) == before
    (data / NAMES[0]).write_bytes(b"y")
    pack(data, archive, kind)
    after = pointer_to(url, KEY)
    assert after.bytes == before.bytes and after.digest != before.digest
    served.end()


@pytest.mark.parametrize(
    "chain", ["zip::file://{}", "simplecache::zip://deep::{}", "zip://deep::simplecache::file://{}"]
)
def test_archive_counts_as_a_whole_wherever_it_stands_in_a_chain(data, tmp_path, chain):
    pack(data, tmp_path / "clips.zip", "zip")
    found = pointer_to(chain.format(tmp_path / "clips.zip"), KEY)
    assert (found.files, found.bytes) == (1, (tmp_path / "clips.zip").stat().st_size)


def test_folder_that_is_not_listed_for_a_moment_is_asked_again(data, impatient):
    """fsspec's FTP takes it for empty."""
    served = FtpServer(data)
    whole = pointer_to(served.url, KEY)
    for failures in (1, 2):
        served.failures = failures
        assert pointer_to(served.url, KEY) == whole and served.failures == 0
    served.failures = 1000
    with pytest.raises(PipelineError, match=r"cannot be listed \(the server does not list"):
        pointer_to(served.url, KEY)
    served.end()


def test_root_of_a_server_is_its_root_and_not_this_folder(data):
    served = FtpServer(data)
    assert pointer_to(f"{served.url}/", KEY).files == pointer_to(served.url, KEY).files == 3
    served.end()


def test_page_of_a_web_server_cannot_be_compared(data):
    served = Server(data.parent)
    with pytest.raises(PipelineError, match="is a page of a web server"):
        pointer_to(f"{served.url}/data/", KEY)
    before = pointer_to(f"{served.url}/data/a.bin", KEY)
    edit(data)
    after = pointer_to(f"{served.url}/data/a.bin", KEY)
    assert after.bytes == before.bytes and after.digest != before.digest
    served.end()


def test_single_file_is_a_listing(url):
    one = pointer_to(f"{url}/{NAMES[2]}", KEY)
    assert (one.files, one.bytes) == (1, 3)


class Listed:
    """A file system that describes files in the order given."""

    def __init__(self, files: list[dict]):
        self.files = files

    def info(self, path):
        return {"type": "directory"}

    def walk(self, path, **_):
        for file in self.files:
            yield path, {}, {file["name"]: {**file, "name": f"{path}/{file['name']}"}}

    def pointer(self) -> pointers.Pointer:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(remote, "_system", lambda *_: (self, "root"))
            return pointer_to("some://root", KEY)


def test_time_that_an_old_server_prints_does_not_count(caplog):
    """`ls -l` prints the hour of a young file and the year of an old one."""
    young, old = (
        {"name": "x", "size": 4, "modify": time, "unix.mode": "-rw-r--r--"} for time in ("Jun 09 14:40", "Jun 09 2026")
    )
    assert Listed([young]).pointer() == Listed([old]).pointer()
    assert "only the size tells" in caplog.text
    exact = ({**young, "modify": time} for time in ("20260609144000.123", "20260609144001"))
    first, second = (Listed([file]).pointer() for file in exact)
    assert first.digest != second.digest


SIX = [{"name": str(k), "size": k, "mtime": 10 * k} for k in range(6)]


@given(st.permutations(SIX))
def test_order_in_which_a_server_lists_does_not_count(files):
    assert Listed(files).pointer() == Listed(SIX).pointer()


@given(st.integers(0, 5), st.sampled_from([("name", "other"), ("size", 9), ("mtime", 9)]))
def test_name_size_and_mark_of_every_file_count(number, change):
    files = [dict(file) for file in SIX]
    files[number].update([change])
    assert Listed(files).pointer().digest != Listed(SIX).pointer().digest


def test_file_without_a_mark_counts_by_its_size_and_that_is_told(caplog):
    assert Listed([*SIX, {"name": "x", "size": 4}, {"name": "y", "size": 4, "mtime": None}]).pointer().bytes == 23
    assert "of 2 of 8 files only the size tells" in caplog.text
    with pytest.raises(PipelineError, match=f"{KEY}: root tells neither size nor time of x"):
        Listed([*SIX, {"name": "x", "size": None}]).pointer()


def test_what_cannot_be_listed_says_so(url, data, pointer, impatient):
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
    (["a.pointer.yaml", "--url", "https://h/x.zip?v=1&X-Amz-Signature=ab"], "holds a password or token"),
])  # fmt: skip
def test_wrong_command_says_what_is_wrong(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert command_line.main(["pointer", *arguments]) == 1
    assert words in capsys.readouterr().err and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url", ["github://org:repo@main/videos", "git://repo:main@videos", "ftp://me@host/x", "s3://b/x?v=1"]
)
def test_commit_or_user_is_no_password(url):
    assert without_secret(url) == url


def test_password_in_a_pointer_is_refused_wherever_it_came_from(pointer):
    pointer.write_text(pointer.read_text().replace("ftp://", "ftp://me:secret@"))
    with pytest.raises(PipelineError, match="holds a password") as error:
        followed(pointer)
    assert "secret" not in str(error.value)


def test_pointer_is_written_whole_or_not_at_all(pointer, url, monkeypatch):
    before = pointer.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ruamel.yaml.YAML.dump", full)
    with pytest.raises(PipelineError, match=f"{pointer} cannot be written"):
        write_pointer(pointer, pointer_to(url, KEY))
    assert pointer.read_bytes() == before
