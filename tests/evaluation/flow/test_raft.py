"""RAFT against numbers of torchvision's own network (0.28.0, raft_large, the same seeded weights), and its files."""

import hashlib
import pickle
import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pipeline.errors import PipelineError
from pipeline.evaluation.flow.raft import Raft
from pipeline.evaluation.flow.raft_flow import RaftFlow, torchvision_names
from pipeline.params.released import KnownFile

# torchvision's flow after three updates, at every 45th row and 50th column of both components.
FLOW = [
    -1.0564, -3.28481, -3.49713, -2.00465, -2.46014, -11.87262, -13.2184, -6.31219, -3.22349, -14.07488, -14.75181,
    -6.2436, -1.1039, -3.47921, -3.21101, -1.60597, 0.98767, 1.88863, 2.72951, 1.33215, 1.26577, 3.86474, 5.84248,
    1.14636, 2.23544, 4.0014, 5.14112, -0.82744, 0.82492, 1.61772, 1.77036, -0.48574,
]  # fmt: skip
MEAN, STD = -2.7632205194365462, 7.236898988119073


@pytest.fixture(scope="module")
def weights(recipe) -> dict[str, torch.Tensor]:
    state = {}
    for name, value in Raft().state_dict().items():
        if name.endswith("num_batches_tracked"):
            state[name] = value
        elif name.endswith("running_var"):
            state[name] = 1 + 0.05 * recipe.draw(name, value.shape).abs()
        else:
            state[name] = 0.03 * recipe.draw(name, value.shape)
    return state


@pytest.fixture(scope="module")
def net(weights):
    made = Raft()
    made.load_state_dict(weights)
    return made.eval()


@pytest.fixture(scope="module")
def pair(recipe):
    return tuple(recipe.draw(name, (1, 3, 136, 152)).clamp(-1, 1) for name in ("first", "second"))


def authors_names(state: dict) -> dict:
    """The same weights as princeton-vl's files name them."""
    table = [
        (r"^(feature|context)_encoder\.", lambda found: {"feature": "fnet.", "context": "cnet."}[found[1]]),
        (r"^(.net)\.convnormrelu\.0", r"\1.conv1"), (r"^(.net)\.convnormrelu\.1", r"\1.norm1"),
        (r"^(.net)\.conv\.", r"\1.conv2."),
        (r"convnormrelu([12])\.0", r"conv\1"), (r"convnormrelu([12])\.1", r"norm\1"),
        (r"motion_encoder\.convcorr([12])\.0", r"encoder.convc\1"),
        (r"motion_encoder\.convflow([12])\.0", r"encoder.convf\1"), (r"motion_encoder\.conv\.0", "encoder.conv"),
        (r"recurrent_block\.convgru([12])\.conv(.)", r"gru.conv\2\1"),
        (r"^mask_predictor\.convrelu\.0", "update_block.mask.0"), (r"^mask_predictor\.conv", "update_block.mask.2"),
    ]  # fmt: skip
    renamed = {}
    for name, value in state.items():
        for pattern, replacement in table:
            name = re.sub(pattern, replacement, name)
        renamed[f"module.{name}"] = value
        if ".downsample.1." in name:
            renamed[f"module.{name.replace('downsample.1', 'norm3')}"] = value
    return renamed


def saved(path, state) -> KnownFile:
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return KnownFile(location=str(path), file=None, revision=None, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


@torch.inference_mode()
def test_the_flow_is_torchvisions(net, pair):
    flow = net(*pair, 3)
    scale = np.abs(FLOW).max()
    assert flow[0, :, ::45, ::50].flatten().numpy() == pytest.approx(np.array(FLOW), abs=1e-5 * scale)
    assert (flow.double().mean().item(), flow.double().std().item()) == pytest.approx((MEAN, STD), rel=1e-5)


def test_it_has_torchvisions_weights():
    state = Raft().state_dict()
    assert len(state) == 169
    assert sum(value.numel() for value in Raft().parameters()) == 5_257_536  # as torchvision states it


@torch.inference_mode()
def test_a_size_that_is_no_multiple_of_8_keeps_its_size_and_a_pair_does_not_mind_its_batch(net, recipe):
    first, second = (recipe.draw(name, (2, 3, 130, 141)).clamp(-1, 1) for name in ("a", "b"))
    together = net(first, second, 2)
    assert together.shape == (2, 2, 130, 141)
    assert torch.allclose(together[1:], net(first[1:], second[1:], 2), atol=1e-4)


def test_frames_that_are_too_small_are_refused(net):
    with pytest.raises(PipelineError, match="at least 128 x 128 px, these are 64 x 64"):
        net(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize("naming", ["torchvision", "authors"])
def test_both_published_files_make_the_same_flow(weights, net, naming, tmp_path):
    state = weights if naming == "torchvision" else authors_names(weights)
    file = saved(tmp_path / ("raft.safetensors" if naming == "torchvision" else "raft-things.pth"), state)
    frames = np.random.default_rng(0).integers(0, 256, (3, 128, 136, 3), dtype=np.uint8)
    flow = RaftFlow(file, 2, "cpu")
    assert flow.hash == file.sha256 and "RAFT" in flow.name
    found = flow(frames)
    assert found.shape == (2, 128, 136, 2)
    first, second = (torch.from_numpy(frames[i : i + 1]).permute(0, 3, 1, 2) / 127.5 - 1 for i in (1, 2))
    with torch.inference_mode():
        assert found[1] == pytest.approx(net(first, second, 2)[0].permute(1, 2, 0).numpy(), abs=1e-3)


def test_renaming_leaves_torchvisions_names_alone(weights):
    assert torchvision_names(weights).keys() == weights.keys() == torchvision_names(authors_names(weights)).keys()


@pytest.mark.parametrize("spoil, says", [
    ("lacking", "1 missing: update_block.flow_head.conv2.bias"),
    ("shape", "of another shape: mask_predictor.conv.bias"),
    ("code", "asks for code"),
    ("cut", "damaged"),
    ("hash", "its sha256 is"),
])  # fmt: skip
def test_bad_files_are_told(weights, spoil, says, tmp_path):
    state, path = dict(weights), tmp_path / "raft.pth"
    if spoil == "lacking":
        del state["update_block.flow_head.conv2.bias"]
    if spoil == "shape":
        state["mask_predictor.conv.bias"] = torch.zeros(3)
    file = saved(path, state)
    if spoil == "code":
        path.write_bytes(pickle.dumps({"a": print}))
    if spoil == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    if spoil in ("code", "cut"):
        file = file.model_copy(update={"sha256": hashlib.sha256(path.read_bytes()).hexdigest()})
    if spoil == "hash":
        file = file.model_copy(update={"sha256": "0" * 64})
    with pytest.raises(PipelineError, match=re.escape(says)):
        RaftFlow(file, 2, "cpu")
