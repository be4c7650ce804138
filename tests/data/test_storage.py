"""Listings and videos behind URLs, and data folders that go away: what cannot be reached is not taken for missing."""

import errno
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import fsspec
import numpy as np
import pytest

from pipeline.data import remote, storage
from pipeline.data.decode import Reject, decode_picture, decode_video
from pipeline.data.listings import read_listing
from pipeline.data.preprocess import take_clips
from pipeline.data.storage import Folder, exists, folder_at, local_file
from pipeline.data.workers import map_in_order
from pipeline.errors import PipelineError
from tests.helpers.ftp import FtpServer
from tests.helpers.web import Server

HEADER = ["videoid", "page_dir", "name"]
KEY = "clip_sets.own.videos"
ROWS = [["a", "page", "one"], ["gone", "page", "two"], ["b c", "page", "three"], ["empty", "page", "four"]]


@pytest.fixture(scope="module")
def data(tmp_path_factory, make) -> Path:
    """A listing and its videos; one name needs quoting in a URL."""
    folder = tmp_path_factory.mktemp("data")
    make.encode(folder / "videos/page/a.mp4", 40)
    make.encode(folder / "videos/page/b c.mp4", 40, seed=1)
    (folder / "videos/page/empty.mp4").touch()
    make.write_csv(folder / "listing.csv", HEADER, ROWS)
    return folder


@pytest.fixture(params=["http", "file", "memory", "ftp", "zip", "zip in ftp"])
def address(request, data, tmp_path):
    """URL of what lies at a path of the data."""
    if request.param == "http":
        running = Server(data)
        yield lambda path: f"{running.url}/{path}"
        running.end()
    elif request.param == "file":
        yield lambda path: f"file://{data}/{path}"
    elif request.param == "memory":
        memory = fsspec.filesystem("memory")
        memory.put(str(data), "/kept", recursive=True)
        yield lambda path: f"memory://kept/{path}"
        memory.rm("/kept", recursive=True)
    elif request.param == "ftp":
        running = FtpServer(data)
        yield lambda path: f"{running.url}/{path}"
        running.end()
    else:
        (tmp_path / "zips").mkdir()
        archive = shutil.make_archive(str(tmp_path / "zips/clips"), "zip", data)
        running = FtpServer(tmp_path / "zips")
        place = archive if request.param == "zip" else f"{running.url}/clips.zip"
        yield lambda path: f"zip://{path}::{place}"
        running.end()


def clips_of(listing, videos, make) -> list:
    """Every row's clips, or its reason."""
    folder = folder_at(videos, KEY)
    rows = read_listing("webvid", listing, folder, make.webvid, "clip_sets.own")
    return [take_clips(row, folder, make.clip_rule(), False) for row in rows]


def test_clips_from_a_url_are_those_of_the_folder(address, data, make, tmp_path, monkeypatch):
    fetched = tmp_path / "fetched"
    fetched.mkdir()
    monkeypatch.setattr(storage.tempfile, "tempdir", str(fetched))
    monkeypatch.setattr(remote, "PAUSES", ())  # what is missing is not asked for again
    local = clips_of(data / "listing.csv", data / "videos", make)
    assert [answer[0] if isinstance(answer, tuple) else len(answer) for answer in local] == [1, "missing", 1, "empty"]
    assert clips_of(address("listing.csv"), address("videos"), make) == local
    assert list(fetched.iterdir()) == []  # what was fetched is gone


def test_pictures_behind_a_url_are_found_without_a_listing_of_them(tmp_path, make):
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), np.full((40, 40, 3), 90, np.uint8))
    listing = make.write_csv(tmp_path / "p.csv", ["image", "prompt"], [["a.png", "x"]])
    columns = SimpleNamespace(id="image", caption="prompt", folder=None)
    folder = Folder(f"file://{tmp_path}", KEY)
    rows = list(read_listing("imagebench", listing, folder, columns, "clip_sets.own"))
    assert [(row.id, row.problem and row.problem[0]) for row in rows] == [("a.png", None), ("b.png", "no_prompt")]
    assert len(decode_picture(folder / "a.png", "a", make.clip_rule())) == 1


@pytest.mark.parametrize("id", ["../listing", "a/../../listing", "/etc/passwd"])
def test_paths_out_of_the_folder_are_refused_behind_a_url_too(server, make, tmp_path, id):
    listing = make.write_csv(tmp_path / "a.csv", HEADER, [[id, "", "x"]])
    (row,) = read_listing("webvid", listing, f"{server.url}/videos", make.webvid, "clip_sets.own")
    assert row.problem[0] == "unsafe_path"


@pytest.mark.parametrize("what", ["listing", "videos"])
def test_url_without_anything_behind_it_is_named_by_its_key(server, data, make, what):
    places = {"listing": f"{server.url}/listing.csv", "videos": f"{server.url}/videos"}
    places[what] += "-none"
    with pytest.raises(PipelineError, match=rf"clip_sets\.own\.{what}: http://127.*-none does not exist"):
        list(read_listing("webvid", places["listing"], places["videos"], make.webvid, "clip_sets.own"))


@pytest.mark.parametrize(("url", "words"), [
    ("nosuch://x/y", "no address that fsspec knows"), ("s3://bucket/videos", "needs a package that is not installed"),
])  # fmt: skip
def test_protocol_that_is_not_known_or_not_installed_says_so(url, words):
    if url.startswith("s3") and "s3fs" in fsspec.available_protocols():
        try:
            import s3fs  # noqa: F401
        except ImportError:
            pass
        else:
            pytest.skip("s3fs is installed")
    with pytest.raises(PipelineError, match=rf"clip_sets\.own\.videos: {url}.*{words}"):
        exists(url, KEY)


# --- what goes away ---


def test_server_that_fails_for_a_moment_is_asked_again(server, make, impatient):
    statuses = iter([500, 503])
    server.fails = lambda path: next(statuses, None)
    assert len(decode_video(Folder(f"{server.url}/videos", KEY) / "page/a.mp4", "a", make.clip_rule())) == 1
    assert next(statuses, None) is None


def test_file_that_the_server_refuses_is_a_reject_and_does_not_end_the_run(server, make, impatient):
    server.fails = lambda path: 403 if "a.mp4" in path else None
    with pytest.raises(Reject) as reject:
        decode_video(Folder(f"{server.url}/videos", KEY) / "page/a.mp4", "a", make.clip_rule())
    assert reject.value.reason == "unreadable" and "403" in str(reject.value)


@pytest.mark.parametrize("status", [503, 403, 401, 429])
def test_server_that_fails_on_everything_is_an_error_and_no_reject(server, make, impatient, status):
    """A token that has run out, or too many requests, is no fault of the rows."""
    server.fails = lambda path: status
    with pytest.raises(PipelineError, match=r"clip_sets\.own\.videos: .*cannot be reached"):
        decode_video(Folder(f"{server.url}/videos", KEY) / "page/a.mp4", "a", make.clip_rule())


@pytest.mark.parametrize("kind", [Server, FtpServer])
def test_server_that_has_ended_is_an_error_and_no_reject(data, make, impatient, kind):
    running = kind(data)
    source = Folder(f"{running.url}/videos", KEY) / "page/a.mp4"
    assert len(decode_video(source, "a", make.clip_rule())) == 1
    running.end()
    with pytest.raises(PipelineError, match=r"clip_sets\.own\.videos: \w+://127.* is gone or cannot be reached"):
        decode_video(source, "a", make.clip_rule())
    with pytest.raises(PipelineError, match="cannot be reached"):
        exists(f"{running.url}/listing.csv", KEY)
    with pytest.raises(PipelineError, match="cannot be read"), local_file(f"{running.url}/listing.csv", KEY):
        pass
    with pytest.raises(PipelineError, match="cannot be reached"):
        folder_at(f"{running.url}/videos", KEY).names()


@pytest.fixture
def ftp(data, tmp_path):
    """The data behind FTP, in ``ftp.folder``, which a test may change."""
    shutil.copytree(data, tmp_path / "served")
    running = FtpServer(tmp_path / "served")
    running.folder = tmp_path / "served"
    yield running
    running.end()


def test_ftp_folder_that_is_left_empty_is_gone(ftp, make, impatient):
    folder = folder_at(f"{ftp.url}/videos", KEY)
    assert len(decode_video(folder / "page/a.mp4", "a", make.clip_rule())) == 1
    shutil.rmtree(ftp.folder / "videos/page")
    with pytest.raises(PipelineError, match=r"clip_sets\.own\.videos: ftp://.* is gone .*it is empty"):
        decode_video(folder / "page/a.mp4", "a", make.clip_rule())


def test_ftp_that_fails_for_a_moment_is_asked_again_and_no_file_counts_as_missing(ftp, make, impatient):
    """fsspec's FTP takes a folder that cannot be listed just now for an empty one."""
    folder = folder_at(f"{ftp.url}/videos", KEY)
    ftp.failures = 2
    assert len(decode_video(folder / "page/a.mp4", "a", make.clip_rule())) == 1 and ftp.failures == 0
    ftp.failures = 1000
    with pytest.raises(PipelineError, match=r"clip_sets\.own\.videos: ftp://.* is gone"):
        decode_video(folder / "page/a.mp4", "a", make.clip_rule())


@pytest.mark.parametrize("failures", [1, 2])
def test_folder_that_ftp_does_not_list_for_a_moment_is_not_empty(ftp, impatient, failures):
    ftp.failures = failures
    assert exists(f"{ftp.url}/listing.csv", KEY)
    ftp.failures = failures
    assert folder_at(f"{ftp.url}/videos", KEY).names() == ["page"]
    ftp.disconnect()
    assert folder_at(f"{ftp.url}/videos", KEY).names() == ["page"]


def test_connection_that_is_refused_for_a_moment_is_made_again(ftp, make, impatient, monkeypatch):
    connect, left = remote.StrictFtp._connect, [1, 1]

    def refused(self):
        if left:
            left.pop()
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        connect(self)

    monkeypatch.setattr(remote.StrictFtp, "_connect", refused)
    assert len(decode_video(folder_at(f"{ftp.url}/videos", KEY) / "page/a.mp4", "a", make.clip_rule())) == 1


def test_waiting_for_a_server_ends_before_a_worker_is_taken_for_dead(monkeypatch):
    clock, asked = [0.0], []

    def silent(*_):
        clock[0] += 10  # its connection's patience
        asked.append(clock[0])
        raise TimeoutError("timed out")

    monkeypatch.setattr(remote.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(remote.time, "sleep", lambda pause: clock.__setitem__(0, clock[0] + pause))
    with pytest.raises(TimeoutError):
        remote.asked("memory://x", KEY, silent)
    assert len(asked) == 3 and clock[0] < 40


@pytest.mark.parametrize("chain", ["zip://x::file://FOLDER/c.zip", "simplecache::file://FOLDER/videos"])
def test_retry_connects_every_link_of_a_chain_anew(ftp, chain):
    url = chain.replace("FOLDER", str(ftp.folder))
    shutil.make_archive(str(ftp.folder / "c"), "zip", ftp.folder / "videos")
    first, _ = remote._system(url, KEY)
    remote.forget(url)
    again, _ = remote._system(url, KEY)
    inner = [getattr(system, "fs", None) or system.fo.fs for system in (first, again)]
    assert first is not again and inner[0] is not inner[1]
    remote.forget(url)


def test_file_that_ftp_refuses_is_unreadable_and_not_missing(ftp, make, impatient):
    ftp.refused = {"a.mp4"}
    with pytest.raises(Reject) as reject:
        decode_video(folder_at(f"{ftp.url}/videos", KEY) / "page/a.mp4", "a", make.clip_rule())
    assert reject.value.reason == "unreadable" and "550" in str(reject.value)


def test_connection_that_the_server_has_ended_is_made_anew(ftp, make, impatient):
    folder = folder_at(f"{ftp.url}/videos", KEY)
    assert len(decode_video(folder / "page/a.mp4", "a", make.clip_rule())) == 1
    ftp.disconnect()
    assert len(decode_video(folder / "page/b c.mp4", "b", make.clip_rule())) == 1


@pytest.mark.parametrize("how", ["removed", "empty", "file"])
def test_folder_that_vanishes_is_an_error_and_no_reject(tmp_path, data, make, how):
    """An empty folder is what stays where a disk was mounted."""
    shutil.copytree(data / "videos", tmp_path / "videos")
    folder = Folder(str(tmp_path / "videos"), KEY)
    assert len(decode_video(folder / "page/a.mp4", "a", make.clip_rule())) == 1
    with pytest.raises(Reject):
        decode_video(folder / "page/gone.mp4", "gone", make.clip_rule())
    shutil.rmtree(tmp_path / "videos")
    if how == "empty":
        (tmp_path / "videos").mkdir()
    if how == "file":
        (tmp_path / "videos").touch()
    with pytest.raises(PipelineError, match=r"clip_sets\.own\.videos: .*videos is gone or cannot be reached"):
        decode_video(folder / "page/a.mp4", "a", make.clip_rule())


def test_folder_that_vanishes_while_a_file_is_decoded_is_an_error_too(tmp_path, data, make, monkeypatch):
    """What could not be read then says nothing about the file."""
    from pipeline.data import decode

    shutil.copytree(data / "videos", tmp_path / "videos")
    folder = Folder(str(tmp_path / "videos"), KEY)

    def vanish(*_):
        shutil.rmtree(tmp_path / "videos")
        raise decode.Undecodable("Input/output error")

    monkeypatch.setattr(decode.Video, "read", vanish)
    with pytest.raises(PipelineError, match="is gone"):
        decode_video(folder / "page/a.mp4", "a", make.clip_rule())


def gone(task: int) -> int:
    """For a worker process."""
    if task == 5:
        raise PipelineError("the folder is gone")
    return task


def test_error_of_a_worker_ends_the_work_and_is_no_lost_task():
    seen = []
    with pytest.raises(PipelineError, match="the folder is gone"):
        for task, answer in map_in_order(gone, range(100), 2, 60.0):
            seen.append((task, answer))
    assert seen == [(k, k) for k in range(len(seen))] and len(seen) <= 5


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_of_this_machine_is_an_error_and_no_reject(server, make, monkeypatch, number):
    def full(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(remote._system(f"{server.url}/videos", KEY)[0], "get_file", full)
    with pytest.raises(PipelineError, match=r"no space left in .*TMPDIR"):
        decode_video(Folder(f"{server.url}/videos", KEY) / "page/a.mp4", "a", make.clip_rule())


def test_temporary_folder_that_is_gone_is_an_error_and_no_reject(server, make, monkeypatch, tmp_path):
    monkeypatch.setattr(storage.tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(PipelineError, match=r"no folder for what is fetched .*TMPDIR"):
        decode_video(Folder(f"{server.url}/videos", KEY) / "page/a.mp4", "a", make.clip_rule())


def test_file_that_may_not_be_read_is_called_unreadable(data, make, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)  # root may read everything
    with pytest.raises(Reject) as reject:
        decode_video(data / "videos/page/a.mp4", "a", make.clip_rule())
    assert reject.value.reason == "unreadable"


def test_names_of_a_web_folder_are_those_of_its_files(server, data):
    assert Folder(f"{server.url}/videos/page", KEY).names() == ["a.mp4", "b c.mp4", "empty.mp4"]


def test_listing_is_fetched_once_and_removed(server, make, tmp_path, monkeypatch):
    monkeypatch.setattr(storage.tempfile, "tempdir", str(tmp_path))
    with local_file(f"{server.url}/listing.csv", "x") as path:
        assert path.read_text().count("\n") == 5
    assert list(tmp_path.iterdir()) == []
    with (
        pytest.raises(PipelineError, match=r"clip_sets\.own\.listing: http://.*none\.csv cannot be read"),
        local_file(f"{server.url}/none.csv", "clip_sets.own.listing"),
    ):
        pass
