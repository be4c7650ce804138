"""Parameters and memory of the full-size backbones, counted without running them: python benchmarks/footprint.py"""

import json

from project import ROOT

from pipeline import presets
from pipeline.footprint import footprint

SHAPE, GIB = (4, 16, 40, 64), 2**30  # 16 frames of 320 x 512


def main() -> None:
    backbones = presets.preset(ROOT / "presets", "paper")["backbones"]
    print("| backbone | parameters | clips at once | sampling with guidance, bf16 | fine-tuning | with checkpointing |")
    print("|---|---|---|---|---|---|")
    for name, spec in backbones.items():
        model = json.loads(json.dumps(spec["model"]))
        for batch in (1, 4, 8):
            plain, less = (footprint(spec["family"], model, SHAPE, batch, on) for on in (False, True))
            memory = " | ".join(f"{value / GIB:.1f} GiB" for value in (plain.sampling, plain.training, less.training))
            print(f"| {name} | {plain.parameters:,} | {batch} | {memory} |")


if __name__ == "__main__":
    main()
