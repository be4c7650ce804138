"""The stages with I3D and C3D instead of the demo's detectors: from weight files to a metric file that names them."""

import hashlib
import json

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.conversion.torchscript import convert_torchscript, is_torchscript
from pipeline.conversion.weight_file import Found
from pipeline.errors import PipelineError
from pipeline.evaluation.detectors.c3d import C3dNet
from pipeline.evaluation.detectors.i3d import I3dNet, load_i3d
from pipeline.evaluation.metric_file import read_metrics
from pipeline.params.evaluation import PublishedDetectors


def sha(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def i3d() -> I3dNet:
    """Random weights whose logits are neither zero nor huge, and running statistics that matter."""
    torch.manual_seed(0)
    net = I3dNet().eval()
    for name, buffer in net.named_buffers():
        if name.endswith("running_var"):
            buffer.copy_(1 + 0.2 * torch.rand_like(buffer))
    return net


class Script(nn.Module):
    """Called as StyleGAN-V's file is; its layers have other names than ours."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.inner = net

    def forward(self, video: torch.Tensor, rescale: bool = True, resize: bool = True, return_features: bool = False):
        return self.inner(video)


def write_script(net: nn.Module, path):
    with torch.inference_mode():
        traced = torch.jit.trace(net, torch.rand(1, 3, 16, 224, 224), check_trace=False)
    torch.jit.script(Script(traced)).save(str(path))
    return Found(path, sha(path), str(path))


@pytest.fixture(scope="module")
def script(i3d, tmp_path_factory):
    """As TensorFlow's port has it: another epsilon in batch norm."""
    for part in i3d.modules():
        if isinstance(part, nn.BatchNorm3d):
            part.eps = 1e-3
    return write_script(i3d, tmp_path_factory.mktemp("script") / "i3d_torchscript.pt")


def test_torchscript_is_refused_unless_its_hash_is_allowed_by_name(script, tmp_path):
    assert is_torchscript(script.path)
    for allowed in ([], ["0" * 64]):
        with pytest.raises(PipelineError, match=rf"to run the code inside.*{script.sha256}.*allow_code"):
            convert_torchscript(script, allowed, tmp_path / "i3d.safetensors")
    assert not (tmp_path / "i3d.safetensors").exists()


@torch.inference_mode()
def test_torchscript_converts_to_the_same_numbers(script, i3d, tmp_path):
    convert_torchscript(script, [script.sha256], tmp_path / "i3d.safetensors")
    video = torch.rand(1, 3, 16, 224, 224) * 2 - 1
    found, expected = load_i3d(tmp_path / "i3d.safetensors").logits(video), i3d(video)
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


class Doubled(nn.Module):
    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, video):
        return 2 * self.net(video)


def test_torchscript_of_another_network_is_refused(i3d, tmp_path):
    small = write_script(nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(3, 400)), tmp_path / "a.pt")
    with pytest.raises(PipelineError, match=r"its tensors are not those"):
        convert_torchscript(small, [small.sha256], tmp_path / "i3d.safetensors")
    other = write_script(Doubled(i3d), tmp_path / "b.pt")
    with pytest.raises(PipelineError, match=r"its numbers are not those"):
        convert_torchscript(other, [other.sha256], tmp_path / "i3d.safetensors")


def published(folder, i3d_file, **changed) -> PublishedDetectors:
    def file(path):
        return {"location": str(path), "file": None, "revision": None, "sha256": sha(path)}

    fvd = {"weights": file(i3d_file), "protocol": "styleganv", "allow_code": [], **changed}
    inception = {"weights": file(folder / "c3d.npz"), "mean": file(folder / "mean.npy"), "mean_column": None}
    return PublishedDetectors.model_validate({"kind": "published", "fvd": fvd, "inception": inception, "features": 8})


@pytest.fixture(scope="module")
def weight_files(i3d, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    torch.save(i3d.state_dict(), folder / "i3d.pt")
    torch.manual_seed(1)
    suffixes = {"weight": "W", "bias": "b"}
    arrays = {}
    for name, value in C3dNet(width=16).named_parameters():
        layer, _, kind = name.rpartition(".")
        arrays[f"{layer}/{suffixes[kind]}"] = value.detach().numpy()
    np.savez(folder / "c3d.npz", **arrays)
    np.save(folder / "mean.npy", np.full((3, 16, 128, 171), 100.0, dtype=np.float32))
    return folder


def test_every_metric_file_names_weights_protocol_count_stride_and_seeds(
    weight_files, run_stage, write_blob_clips, tmp_path
):
    write_blob_clips(tmp_path / "train", 12, seed=1)
    write_blob_clips(tmp_path / "test", 12, seed=2)
    write_blob_clips(tmp_path / "RUN", 5, seed=3)
    lines = (
        json.dumps({"id": f"clip-{index}", "seed": 7, "prompt": "", "condition_id": f"clip-{index}"}) + "\n"
        for index in range(5)
    )
    (tmp_path / "RUN" / "manifest.jsonl").write_text("".join(lines))
    detectors, real, samples = tmp_path / "detectors", tmp_path / "real", tmp_path / "samples"
    changed = {"detectors": published(weight_files, weight_files / "i3d.pt"), "few": (5, 6)}
    recorded = run_stage("detectors", [tmp_path / "train"], detectors, **changed)
    assert recorded["sources"]["i3d"]["sha256"] == sha(weight_files / "i3d.pt")
    assert set(recorded["sources"]) == {"i3d", "c3d", "c3d mean"}
    run_stage("features", [tmp_path / "test", detectors], real, of="real", **changed)
    run_stage("features", [tmp_path / "RUN", detectors, tmp_path / "RUN"], samples, of="a-run", **changed)
    run_stage("metrics", [samples, real], tmp_path / "metrics" / "a-run.json", of="a-run", **changed)
    found = read_metrics(tmp_path / "metrics" / "a-run.json")[""]
    by_role = {item["role"]: item for item in found.provenance}
    assert (by_role["fvd"]["name"], by_role["is"]["name"]) == ("i3d-kinetics400", "c3d-ucf101")
    assert "short side to 224" in by_role["fvd"]["protocol"] and len(by_role["fvd"]["hash"]) == 64
    assert (found.count, found.reference_count) == (5, 6)
    assert found.details[0] == {"set": "samples", "fps": [3.0], "strides": [3], "seeds": [7], "motion_bucket": None}
    assert found.values["fvd"].value > 0 and 1 <= found.values["is"].value <= 101


def test_a_file_with_another_hash_is_refused(weight_files, run_stage, write_blob_clips, tmp_path):
    write_blob_clips(tmp_path / "train", 3, seed=1)
    spec = published(weight_files, weight_files / "i3d.pt")
    wrong = spec.fvd.weights.model_copy(update={"sha256": "0" * 64})
    spec = spec.model_copy(update={"fvd": spec.fvd.model_copy(update={"weights": wrong})})
    with pytest.raises(PipelineError, match=r"i3d\.pt: its sha256 is"):
        run_stage("detectors", [tmp_path / "train"], tmp_path / "detectors", detectors=spec)


def test_stage_refuses_torchscript_that_is_not_allowed(weight_files, script, run_stage, write_blob_clips, tmp_path):
    write_blob_clips(tmp_path / "train", 3, seed=1)
    spec = published(weight_files, script.path)
    with pytest.raises(PipelineError, match="allow_code"):
        run_stage("detectors", [tmp_path / "train"], tmp_path / "detectors", detectors=spec)


@pytest.mark.parametrize("key", ["fvd", "inception"])
def test_parameters_ask_for_a_hash(weight_files, key):
    plain = published(weight_files, weight_files / "i3d.pt").model_dump()
    plain[key]["weights"]["sha256"] = None
    with pytest.raises(ValueError, match="sha256"):
        PublishedDetectors.model_validate(plain)
