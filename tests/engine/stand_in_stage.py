"""Stands in for every stage body in the engine tests: quick, deterministic, a digest of inputs and parameters.

dvc.yaml, Snakefile, runner, params.yaml and presets are the real ones.
"""

import hashlib
import json
import os
import time
from pathlib import Path


def add_arguments(parser):
    for flag in ("--set", "--name", "--backbone", "--training", "--run", "--data", "--of", "--seed"):
        parser.add_argument(flag)


def run(stage):
    note(stage.address)
    write_all(stage)


def note(what):
    with Path(os.environ["EXECUTED"]).open("a") as executed:
        executed.write(what + "\n")
    time.sleep(float(os.environ.get("STAGE_SECONDS", "0")))
    act(what)


def make_parts(stage):
    """A stage that is divided notes its parts, made by shards or by itself."""
    if stage.parts.shard.count == 1:
        note(stage.address)
    for number in stage.parts.missing(PARTS):
        if "PARTS" in os.environ:
            note(f"{stage.address}#{number}")
        with stage.parts.writing(number) as folder:
            (folder / "number").write_text(str(number))
    return PARTS


def merge(stage, total):
    assert [path.joinpath("number").read_text() for path in stage.parts.finished(total)] == ["0", "1", "2", "3", "4"]
    write_all(stage)


PARTS = 5
if Path(__file__).stem not in ("preprocess", "latents", "moments", "sample", "features"):
    del make_parts, merge


def write_all(stage):
    digest = hashlib.sha256(__doc__.encode())
    for path in stage.inputs:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                digest.update(file.read_bytes())
    for key in stage.params._declared:
        node = stage.params
        for part in key.split("."):
            node = node[part]
        digest.update(repr(node).encode())
    for out in stage.outputs:
        write(out, stage.address, digest.hexdigest())


def act(address):
    """What a test asks of one stage while it runs, by files in the folder that ACTS names."""
    acts = Path(os.environ.get("ACTS", "/nowhere"))
    if (acts / f"{address}.megabytes").exists():
        memory = bytearray(int((acts / f"{address}.megabytes").read_text()) << 20)
        memory[::4096] = b"1" * len(memory[::4096])
        time.sleep(5)  # a scheduler looks at memory now and then
    while (acts / f"{address}.hold").exists():
        time.sleep(0.1)


def write(out, address, digest):
    if out.suffix not in ("", ".partial"):  # folders have none of their own
        out.write_text(json.dumps({"digest": int(digest[:8], 16)}))
        return
    out.mkdir(parents=True)
    if address == "world":
        for part in (
            "webvid/results_2M_train.csv", "webvid/videos/1.mp4", "ucf101/ucfTrainTestlist/trainlist01.txt",
            "ucf101/ucfTrainTestlist/testlist01.txt", "ucf101/UCF-101/1.avi",
            "imagebench/prompts.csv", "imagebench/images/1.png",
        ):  # fmt: skip
            path = out / part
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(part + digest)
    else:
        size = (2 << 20) if address.startswith("latents") else 1  # Snakemake treats outs above 1 MB otherwise
        (out / "part").write_bytes(digest.encode() * size if size == 1 else digest.encode() + b"0" * size)
