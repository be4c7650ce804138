"""Both videos run in step: over loops, when one comes late, and when one stalls."""

import shutil
import threading
from contextlib import suppress
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import av
import numpy as np
import pytest

from tests.study.browser import IN_CHROMIUM, PLAYS, consent, wait_until

pytestmark = IN_CHROMIUM
GO_ON = "videos.every((v) => !v.paused && !v.seeking && v.readyState >= 3)"
WATCH = """
window.loops = 0; window.gaps = [];
videos[0].addEventListener("ended", () => { loops += 1; gaps.length = 0; });
setInterval(() => {
  if (!videos.every((v) => !v.paused && !v.seeking && v.currentTime > 0.2)) return;
  gaps.push(Math.abs(videos[0].currentTime - videos[1].currentTime));
}, 40);
"""


def in_step(page, samples: int = 15) -> bool:
    wait_until(page, f"gaps.length >= {samples}")
    return max(page.evaluate("gaps")) < 0.1


def test_videos_are_in_step_in_a_later_loop(visit):
    page = visit()
    consent(page, 3, "c")
    wait_until(page, PLAYS)
    page.evaluate(WATCH)
    wait_until(page, "loops >= 2")
    assert in_step(page)
    page.keyboard.press("r")
    page.evaluate("gaps.length = 0")
    assert in_step(page)


def test_who_ran_ahead_of_a_stalled_video_waits_and_comes_back(visit):
    page = visit()
    consent(page, 3, "c")
    wait_until(page, PLAYS)
    wait_until(page, "videos.every((v) => v.currentTime > 0.3 && v.currentTime < 0.8)")
    page.evaluate("videos[1].playbackRate = 0")
    page.wait_for_timeout(300)
    page.evaluate("Object.defineProperty(videos[1], 'readyState', { configurable: true, get: () => 2 })")
    page.evaluate("videos[1].dispatchEvent(new Event('waiting'))")
    assert page.evaluate("videos.map((v) => v.paused)") == [True, False]
    left, right = page.evaluate("videos.map((v) => v.currentTime)")
    assert left - right > 0.1
    page.wait_for_timeout(300)
    assert page.evaluate("videos[0].currentTime") == left
    page.evaluate("delete videos[1].readyState")
    page.evaluate("videos[1].playbackRate = 1")
    page.evaluate("videos[1].dispatchEvent(new Event('canplay'))")
    wait_until(page, GO_ON)
    left, now = page.evaluate("videos.map((v) => v.currentTime)")
    assert abs(left - now) < 0.1


class Slow(ThreadingHTTPServer):
    """Serves a folder; of the file ``late`` the first ``part``, and the rest once ``release`` is set."""

    late, part = "no file", 0.0

    def __init__(self, folder):
        self.release = threading.Event()
        super().__init__(("127.0.0.1", 0), lambda *args: _Handler(*args, directory=str(folder)))


class _Handler(SimpleHTTPRequestHandler):
    def copyfile(self, source, outputfile):
        content = source.read()
        if self.path.endswith(self.server.late):
            first = int(len(content) * self.server.part)
            outputfile.write(content[:first])
            outputfile.flush()
            self.server.release.wait(30)
            content = content[first:]
        with suppress(OSError):  # the browser wants no more of it
            outputfile.write(content)

    def log_message(self, *args):
        pass


def write_heavy(path, seed: int, frames: int = 40, size: int = 320) -> None:
    """Noise, 5 s, the index first: a browser plays what has come of it."""
    generator = np.random.default_rng(seed)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=8, options={"crf": "10", "preset": "ultrafast", "g": "8"})
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        for _ in range(frames):
            picture = generator.integers(0, 255, (size, size, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture
def served(chromium, study_folder, tmp_path):
    """The page from a slow host, with heavy videos; yields (page, server, foreign or failed requests)."""
    shutil.copytree(study_folder / "sheet", tmp_path / "sheet")
    for number, path in enumerate(sorted((tmp_path / "sheet" / "media").glob("*.mp4"))[:2]):
        write_heavy(path, number)
    server = Slow(tmp_path / "sheet")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    context, asked = chromium.new_context(), []
    page = context.new_page()
    page.on("request", lambda wanted: asked.append(wanted.url))
    page.goto(f"http://127.0.0.1:{server.server_port}/index.html")
    names = [f"media/{path.name}" for path in sorted((tmp_path / "sheet" / "media").glob("*.mp4"))[:2]]
    page.evaluate(f"for (const pair of data.pairs) [pair.left, pair.right] = {names}")
    yield page, server, names
    server.release.set()
    context.close()
    server.shutdown()
    server.server_close()
    assert not any("favicon" in url for url in asked)


def test_a_video_that_comes_late_is_waited_for(served):
    page, server, names = served
    server.late, server.part = names[1], 0.0
    consent(page, 1, "x")
    wait_until(page, "videos[0].readyState >= 3")
    page.wait_for_timeout(500)
    assert page.evaluate("videos[0].currentTime") < 0.1, "nobody sees one of them alone"
    page.evaluate(WATCH)
    server.release.set()
    assert in_step(page)


def test_a_video_that_stalls_on_its_way_is_waited_for(served):
    page, server, names = served
    server.late, server.part = names[1], 0.5
    consent(page, 1, "x")
    wait_until(page, "videos[1].currentTime > 0.5 && videos[1].readyState < 3")
    wait_until(page, "videos[0].paused", 2)
    left, right = page.evaluate("videos.map((v) => v.currentTime)")
    assert 0.5 < left < right + 0.5 < 4.5
    page.evaluate(WATCH)
    server.release.set()
    wait_until(page, GO_ON)
    assert in_step(page)
