"""Write a checkpoint back in its authors' layout."""

import argparse
from pathlib import Path

from pipeline.errors import PipelineError


def run(arguments: list[str]) -> int:
    """``python -m pipeline export CHECKPOINT OUTPUT``."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline export",
        description="Write a checkpoint in its authors' layout: SVD as diffusers' folder unet/, VideoCrafter1 and "
        "DynamiCrafter as model.ckpt. Their loader wants the frozen encoders in the same file: --into takes them, and "
        "all else, from the released checkpoint.",
    )
    parser.add_argument("checkpoint", type=Path, help="a folder of models/")
    parser.add_argument("output", type=Path, help="a folder, new or empty")
    parser.add_argument("--into", type=Path, metavar="RELEASED", help="checkpoint that the rest is taken from")
    args = parser.parse_args(arguments)
    if args.output.exists() and (not args.output.is_dir() or any(args.output.iterdir())):
        raise PipelineError(f"{args.output} is there and not empty; name another folder")
    from pipeline.backbones.checkpoint import load_backbone
    from pipeline.tools.official_layout import write_official

    backbone = load_backbone(args.checkpoint)
    path = write_official(backbone, args.output, args.into)
    print(f"{path}: {backbone.family} in its authors' layout")
    groups = backbone.config.get("norm_groups", 32)
    if groups != 32:
        print(f"note: this network has {groups} groups in its norms, the authors' code 32; it loads there only after a "
              "change of that code")  # fmt: skip
    return 0
