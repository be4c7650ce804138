"""The features of one set of clips on disk: arrays as safetensors, provenance as JSON beside them, no pickle."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from pipeline.errors import PipelineError

MEASURES = ("motion_score", "motion_px", "temporal_consistency", "image_alignment", "first_frame")  # one number a clip
ARRAYS = ("fvd", "is", "pca", *MEASURES)


@dataclass(frozen=True)
class FeatureSet:
    """A row a clip in every array: fvd (n, D), is (n, classes), pca (n, K), each of ``MEASURES`` (n,)."""

    ids: list[str]
    seeds: list[int]  # sampling seed of each clip; 0 throughout for real clips
    arrays: Mapping[str, np.ndarray]
    provenance: list[dict]  # one entry a detector role: role, name, hash, protocol
    details: dict = field(default_factory=dict)  # what else may explain a number: fps, frames, size

    def __post_init__(self):
        lengths = {name: len(self.arrays[name]) for name in ARRAYS} | {"ids": len(self.ids), "seeds": len(self.seeds)}
        if len(set(lengths.values())) != 1:
            raise PipelineError(f"a feature set's parts differ in length: {lengths}")

    @classmethod
    def joined(cls, parts: Sequence["FeatureSet"]) -> "FeatureSet":
        """The clips of all parts, in this order; parts of one set share detectors and details."""
        return cls(
            ids=[name for part in parts for name in part.ids],
            seeds=[seed for part in parts for seed in part.seeds],
            arrays={name: np.concatenate([part.arrays[name] for part in parts]) for name in ARRAYS},
            provenance=parts[0].provenance,
            details=parts[0].details,
        )

    def rows(self, indices) -> "FeatureSet":
        """The clips at these positions."""
        return FeatureSet(
            ids=[self.ids[i] for i in indices],
            seeds=[self.seeds[i] for i in indices],
            arrays={name: array[indices] for name, array in self.arrays.items()},
            provenance=self.provenance,
            details=self.details,
        )

    def __len__(self) -> int:
        return len(self.ids)


def write_features(folder: Path, name: str, features: FeatureSet) -> None:
    """Write NAME.safetensors and NAME.json into ``folder``, which is created."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: np.ascontiguousarray(features.arrays[key]) for key in ARRAYS}, folder / f"{name}.safetensors")
    sidecar = {
        "count": len(features),
        "provenance": features.provenance,
        "details": features.details,
        "seeds": features.seeds,
        "ids": features.ids,
    }
    (folder / f"{name}.json").write_text(json.dumps(sidecar, indent=1) + "\n")


def read_features(folder: Path, name: str) -> FeatureSet:
    """Read what ``write_features`` wrote; raises PipelineError where a part is missing or damaged."""
    try:
        sidecar = json.loads((folder / f"{name}.json").read_text())
        arrays = load_file(folder / f"{name}.safetensors")
        missing = [key for key in ARRAYS if key not in arrays]
        if missing:
            raise KeyError(f"arrays {missing}")
        return FeatureSet(sidecar["ids"], sidecar["seeds"], arrays, sidecar["provenance"], sidecar["details"])
    except (FileNotFoundError, KeyError, ValueError, SafetensorError) as error:
        raise PipelineError(
            f"{folder} holds no whole feature set {name!r} ({error}); run the stage features again"
        ) from None
