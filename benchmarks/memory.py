"""Peak memory of preprocess, moments, sample and features with few clips and with eight times as many.

    python benchmarks/memory.py     # minutes

Memory must not grow with the clips. Baseline of the ratio: the same stage with few clips, measured in the same process.
"""

import tempfile
from pathlib import Path

from project import clone, recorded, seconds

FEW, TIMES = 64, 8
STAGES = ["preprocess", "latents", "moments", "sample_ucf101", "features"]
TARGETS = ["moments/svd.safetensors", "features/svd-timenoise-analytic", "features/videocrafter1-finetune-standard"]


def sized(clips: int) -> dict:
    """The smoke preset with ``clips`` training clips, conditions and reference clips."""
    return {
        "world": {"webvid_clips": clips, "ucf101_train": 48, "ucf101_test": 3 * clips},
        "evaluation": {"conditions": clips, "reference": clips},
    }


def peaks(folder: Path, clips: int) -> dict[str, float]:
    """Peak memory in MB by stage."""
    seconds(clone(folder, "smoke", sized(clips)), "snakemake", "--cores", "all", *TARGETS)
    return {stage: max(values) for stage, values in recorded(folder, "peak_memory_mb").items()}


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        few, many = (peaks(Path(scratch) / str(clips), clips) for clips in (FEW, FEW * TIMES))
    print(f"{'stage':16} {FEW:6d} clips {FEW * TIMES:6d} clips  ratio   (peak MB)")
    for stage in STAGES:
        print(f"{stage:16} {few[stage]:12.0f} {many[stage]:12.0f} {many[stage] / few[stage]:6.2f}")


if __name__ == "__main__":
    main()
