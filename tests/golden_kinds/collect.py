"""Every case that folders in the goldens' format hold, told by contents, whatever the files are called."""

from pathlib import Path

from tests.golden_kinds import encoders, evaluation, manifests, networks, ve, vp
from tests.golden_kinds.core import Case, read

KINDS = (
    networks.lvdm_unet, networks.svd_unet, networks.resampler, encoders.autoencoder, encoders.clip_towers,
    manifests.manifest, vp.vp, ve.ve, evaluation.i3d_manifest, evaluation.metrics,
)  # fmt: skip


class NothingUnderstood(ValueError):
    """A folder without a case."""


def collect(folder: Path) -> tuple[list[Case], list[Path]]:
    """Cases below ``folder``, and the JSON files that hold none. Raises NothingUnderstood where there is no case."""
    if not folder.is_dir():
        raise NothingUnderstood(f"{folder} is no folder; give one with reference numbers (docs/golden.md)")
    cases, others = [], []
    for path in sorted(folder.rglob("*.json")):
        document = read(path)
        found = [case for kind in KINDS for case in kind(document)]
        cases += found
        others += [] if found else [path]
    if not cases:
        raise NothingUnderstood(
            f"{folder} holds no reference case that this test understands; docs/golden.md describes the format"
        )
    return cases, others
