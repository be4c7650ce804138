"""Point params.yaml at the reader's own folders."""

import argparse
from pathlib import Path

from pipeline import presets
from pipeline.errors import PipelineError
from pipeline.params.file import load_params
from pipeline.tools.project import PARAMS
from pipeline.urls import is_url


def run(arguments: list[str]) -> int:
    """``python -m pipeline use-data …``."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline use-data",
        description="Point params.yaml at your own folders. The demo's world still trains the small starting models "
        "and detectors; fine-tuning, moments, conditions and real clips come from what you name here.",
    )
    two = {"nargs": 2, "metavar": ("LISTING", "FOLDER")}
    parser.add_argument("--webvid", **two, help="csv and folder of videos in WebVid's layout, to fine-tune on")
    parser.add_argument("--columns", default="videoid,name,page_dir", metavar="ID,CAPTION,FOLDER",
                        help="these columns of the csv; leave FOLDER empty if videos lie in one folder")  # fmt: skip
    parser.add_argument(
        "--ucf101", **two, help="split file and folder in UCF101's layout, for conditions and real clips"
    )
    parser.add_argument("--imagebench", **two, help="csv (image, prompt) and folder of pictures")
    parser.add_argument("--windows", type=int, default=1, help="clips taken from a video (default 1)")
    parser.add_argument("--conditions", type=int, help="UCF101 clips whose first frame conditions a sample")
    parser.add_argument("--reference", type=int, help="other UCF101 clips that samples are compared with")
    parser.add_argument(
        "--allow-few", action="store_true", help="compute metrics even on fewer samples than evaluation.minimum"
    )
    args = parser.parse_args(arguments)
    load_params(PARAMS)
    tree = presets.read(PARAMS)
    for name in ("webvid", "ucf101", "imagebench"):
        for path in getattr(args, name) or []:
            if not is_url(path) and not Path(path).exists():
                raise PipelineError(f"--{name}: {path} does not exist")
    if args.webvid:
        parts = [part or None for part in args.columns.split(",")]
        if len(parts) != 3 or not parts[0] or not parts[1]:
            raise PipelineError(f"--columns takes ID,CAPTION,FOLDER (FOLDER may be empty), found {args.columns!r}")
        presets.use_webvid(tree, *args.webvid, dict(zip(("id", "caption", "folder"), parts, strict=True)), args.windows)
    if args.ucf101:
        presets.use_evaluation(tree, "ucf101", *args.ucf101, args.windows)
    if args.imagebench:
        presets.use_evaluation(tree, "imagebench", *args.imagebench, 1)
    for key in ("conditions", "reference"):
        if getattr(args, key) is not None:
            tree["evaluation"][key] = getattr(args, key)
    if args.allow_few:
        tree["evaluation"]["allow_few"] = True
    presets.write(tree, PARAMS)
    print("params.yaml points at your data; next: snakemake --cores all reports/table3.csv (or dvc repro)")
    return 0
