"""StyleGAN-V's I3D: a TorchScript file, whose content is code. Converted once, apart from everything else.

The code runs in a process of its own, only for a file whose hash params.yaml allows by name. What comes out is a state
dict of ``I3dNet``, taken on only if both networks give the same numbers.
"""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from pipeline.conversion.weight_file import Found
from pipeline.errors import PipelineError

TRIAL = (1, 3, 16, 224, 224)
TOLERANCE = 1e-4  # of the largest logit
EPSILONS = (1e-5, 1e-3)  # of batch norm: two are in use


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive; reads its table of contents alone."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def convert_torchscript(found: Found, allowed: list[str], target: Path) -> None:
    """Write the weights of a TorchScript I3D to ``target`` (.safetensors), in a process of its own.

    Raises PipelineError for a file whose hash is not in ``allowed``, and for one that is no such I3D.
    """
    if found.sha256 not in allowed:
        raise PipelineError(
            f"{found.asked} is TorchScript: to read its weights is to run the code inside. If you trust it, add its "
            f"sha256 {found.sha256} to detectors.fvd.allow_code; or give the common PyTorch checkpoint of I3D"
        )
    command = [sys.executable, "-m", "pipeline.conversion.torchscript", str(found.path), str(target)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise PipelineError(f"{found.asked} could not be converted: {last.removeprefix('SystemExit: ')}")


def _convert(source: Path, target: Path) -> None:
    from pipeline.evaluation.detectors.i3d import BATCH_NORM_EPS, I3dNet

    script = torch.jit.load(str(source), map_location="cpu").eval()
    net = I3dNet().eval()
    theirs = [value for name, value in script.state_dict().items() if not name.endswith("num_batches_tracked")]
    names = [name for name in net.state_dict() if not name.endswith("num_batches_tracked")]
    shapes = [tuple(value.shape) for name, value in net.state_dict().items() if name in set(names)]
    if [tuple(value.shape) for value in theirs] != shapes:
        raise SystemExit("its tensors are not those of the Kinetics-400 I3D, one by one")
    state = {name: value.detach().clone() for name, value in zip(names, theirs, strict=True)}
    video = torch.rand(TRIAL, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        expected = script(video, rescale=False, resize=False, return_features=True)
        differences = {}
        for epsilon in EPSILONS:
            adapted = {name: _for_epsilon(name, value, epsilon - BATCH_NORM_EPS) for name, value in state.items()}
            net.load_state_dict(adapted, strict=False)
            differences[epsilon] = ((net(video) - expected).abs().max() / expected.abs().max()).item()
            if differences[epsilon] <= TOLERANCE:
                save_file(adapted, target)
                return
    raise SystemExit(f"its numbers are not those of I3D with its weights (they differ by {json.dumps(differences)})")


def _for_epsilon(name: str, value: Tensor, more: float) -> Tensor:
    """Batch norm divides by sqrt(running_var + epsilon): another epsilon is a shift of the stored variance."""
    return value + more if name.endswith("running_var") else value


if __name__ == "__main__":
    _convert(Path(sys.argv[1]), Path(sys.argv[2]))
