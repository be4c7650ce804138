"""Small sample folders as the stage sample writes them, with real H.264 files."""

import json

import cv2
import numpy as np
import pytest

from pipeline.evaluation.samples import read_manifest
from tests.study.browser import CHROMIUM, QUIET, WIDTHS

RUNS = ("b-finetune-standard", "b-finetune-analytic", "b-timenoise-standard", "b-timenoise-analytic")
PROMPTS = {"red.png": 'a red <b>ball</b> & "friends" </script>', "blue.png": "a blue ball", "green.png": ""}


def write_video(path, colour, frames=16, size=128, fps=8):
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        for index in range(frames):
            picture = np.full((size, size, 3), 40, dtype=np.uint8)
            cv2.circle(picture, (20 + 5 * index, size // 2), 14, colour, -1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def write_samples(folder, shade, seeds=(0,)):
    (folder / "videos").mkdir(parents=True)
    (folder / "conditions").mkdir()
    lines = []
    for place, (picture, prompt) in enumerate(PROMPTS.items()):
        condition = np.full((128, 128, 3), 60 * place, dtype=np.uint8)
        cv2.circle(condition, (20, 64), 14, (200, 80 * place, 120), -1)
        cv2.imwrite(str(folder / "conditions" / picture), condition)
        for seed in seeds:
            write_video(folder / "videos" / f"{place}-{seed}.mp4", (shade, 80 * place, 200))
            entry = {"id": picture, "condition_id": picture, "prompt": prompt, "seed": seed}
            lines.append({**entry, "condition": f"conditions/{picture}", "video": f"videos/{place}-{seed}.mp4"})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture(scope="session")
def survey():
    """The group of params.yaml, small."""
    from pipeline.params.evaluation import Survey

    return Survey(seed=0, participants=3, pairs_per_participant=6, checks=2, failed_checks_allowed=0, answers="answers")


@pytest.fixture(scope="session")
def samples(tmp_path_factory):
    """(folder, manifest) by run."""
    root = tmp_path_factory.mktemp("samples")
    for place, run in enumerate(RUNS):
        write_samples(root / run, 60 * place)
    return {run: (root / run, read_manifest(root / run)) for run in RUNS}


@pytest.fixture(scope="module")
def study_folder(samples, survey, tmp_path_factory):
    from pipeline.study.sheet import write_sheet

    folder = tmp_path_factory.mktemp("study")
    write_sheet(folder, samples, 0, survey)
    return folder


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, study_folder):
    """Opens the page of one person (a browser profile of their own); tells of complaints and foreign requests."""
    contexts, complaints, requests = {}, [], []

    def open_page(person: str = "ada", size: str = "desktop", address: str = ""):
        width, height = WIDTHS[size]
        if person not in contexts:
            contexts[person] = chromium.new_context(viewport={"width": width, "height": height}, accept_downloads=True)
        page = contexts[person].new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda wanted: requests.append(wanted.url))
        page.goto((study_folder / "sheet" / "index.html").as_uri() + address)
        return page

    open_page.complaints = complaints
    yield open_page
    for context in contexts.values():
        context.close()
    assert complaints == []
    assert requests and all(url.startswith(("file://", "blob:")) for url in requests)
