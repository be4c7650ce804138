"""Memory of converting a released checkpoint at full size: python benchmarks/conversion_memory.py [FAMILY]

Writes a checkpoint with the names and shapes of the official one and random weights (10 GB on the disk, removed at the
end), converts its encoders and its backbone, each in a process of its own, and prints the largest memory that each held
for itself (RssAnon: pages of the mapped file can be dropped at any time and do not count).
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from project import ROOT

from pipeline import presets
from pipeline.backbones.registry import build_empty
from pipeline.conversion import clip
from pipeline.conversion.backbone import export_backbone
from pipeline.conversion.vae import vae_rules

GIB = 2**30


def official_shapes(tree, family: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the whole checkpoint."""
    spec = tree["backbones"][family]
    encoders = tree["encoders"][spec["encoders"]]
    shapes = {name: tuple(v.shape) for name, v in export_backbone(build_empty(family, plain(spec["model"]))).items()}
    parts = {
        "first_stage_model.": vae_rules(encoders["autoencoder"]),
        "cond_stage_model.": clip._text_rules(encoders["towers"]),
        "embedder.": clip._image_rules(encoders["towers"]),
    }
    for prefix, rules in parts.items():
        shapes |= {prefix + rule.official: tuple(rule.shape) for rule in rules}
    return shapes | {"cond_stage_model.model.logit_scale": ()}


def plain(tree):
    import json

    return json.loads(json.dumps(tree))


def peak_of(command: list[str]) -> tuple[float, float]:
    """Largest RssAnon in bytes and seconds of a process."""
    started = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT)
    peak = 0

    def watch():
        nonlocal peak
        while process.poll() is None:
            try:
                lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            except OSError:
                return
            peak = max([peak, *(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))])
            time.sleep(0.02)

    thread = threading.Thread(target=watch)
    thread.start()
    if process.wait():
        raise SystemExit(f"{command[2]} failed")
    thread.join()
    return peak, time.monotonic() - started


def write(path: Path, shapes: dict) -> None:
    import torch

    torch.save({"state_dict": {name: torch.full(shape, 0.01) for name, shape in shapes.items()}}, path)


def convert(part: str, family: str, path: Path, folder: Path) -> None:
    """What the stages do."""
    from pipeline.conversion.backbone import convert_backbone
    from pipeline.conversion.encoders import lvdm_encoders
    from pipeline.conversion.weight_file import find

    tree = plain(presets.preset(ROOT / "presets", "paper"))
    spec = tree["backbones"][family]
    file = {"location": str(path), "file": None, "revision": None, "sha256": None}
    if part == "backbone":
        convert_backbone(folder / "backbone", find(**file), family, spec["model"], "0" * 64, {})
        return
    import pipeline.conversion.encoders as encoders
    from pipeline.params.encoders import LvdmEncoders

    encoders.clip_tokenizer = lambda *arguments: None  # the tokenizer's files are not at hand here, and small
    encoders.folder = lambda *arguments: path
    settings = LvdmEncoders.model_validate({**tree["encoders"][spec["encoders"]], "checkpoint": file})
    made, source = lvdm_encoders(settings)
    made.save(folder / "encoders", source)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("family", nargs="?", default="dynamicrafter", choices=["dynamicrafter", "videocrafter1"])
    parser.add_argument("--convert", nargs=3, metavar=("PART", "CHECKPOINT", "FOLDER"), help="used by itself")
    args = parser.parse_args()
    if args.convert:
        part, path, folder = args.convert
        return convert(part, args.family, Path(path), Path(folder))
    shapes = official_shapes(presets.preset(ROOT / "presets", "paper"), args.family)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.ckpt"
        write(path, shapes)
        print(f"{args.family}: checkpoint of {path.stat().st_size / GIB:.1f} GiB, {len(shapes)} tensors")
        for part in ("encoders", "backbone"):
            command = [sys.executable, __file__, args.family, "--convert", part, str(path), folder]
            peak, seconds = peak_of(command)
            print(f"{part}: at most {peak / GIB:.1f} GiB, {seconds:.0f} s")


if __name__ == "__main__":
    main()
