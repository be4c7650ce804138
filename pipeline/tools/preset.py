"""Write a preset into params.yaml."""

import argparse

from pipeline import presets
from pipeline.tools.project import PARAMS, ROOT


def run(arguments: list[str]) -> int:
    """``python -m pipeline preset NAME``."""
    parser = argparse.ArgumentParser(prog="python -m pipeline preset", description="Write a preset into params.yaml.")
    parser.add_argument("name", help="demo (minutes on a CPU), smoke (to see that it runs) or paper (GPUs)")
    args = parser.parse_args(arguments)
    presets.write(presets.preset(ROOT / "presets", args.name), PARAMS)
    print(f"params.yaml holds the preset {args.name}; next: snakemake --cores all reports/table3.csv (or dvc repro)")
    return 0
