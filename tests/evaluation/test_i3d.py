"""I3D against the public implementation's logits, and what becomes of files that are not its checkpoint."""

import collections
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pipeline.errors import PipelineError
from pipeline.evaluation.detectors.i3d import I3D, I3dNet, _pad_same, load_i3d
from pipeline.evaluation.detectors.weights import weights_hash
from tests.golden_kinds.core import draw
from tests.golden_kinds.evaluation import i3d_weight

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = json.loads((Path(__file__).parent / "i3d_reference.json").read_text())
TOLERANCE = 1e-5  # of the largest absolute logit


@pytest.fixture(scope="module")
def state():
    return {key: i3d_weight(key, value) for key, value in I3dNet().state_dict().items()}


@pytest.fixture(scope="module")
def checkpoint(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("i3d") / "i3d_pretrained_400.pt"
    torch.save(collections.OrderedDict(state), path)
    return path


@pytest.fixture(scope="module")
def detector(checkpoint):
    return load_i3d(checkpoint)


@pytest.fixture(scope="module")
def logits(detector):
    """(2, 400) of the golden input, which is 224 x 224 already."""
    return detector.logits(torch.tanh(draw("input.video", (2, 3, 16, 224, 224))))


def test_logits_are_those_recorded(logits):
    found = logits[:, :8] / REFERENCE["largest"]
    torch.testing.assert_close(found, torch.tensor(REFERENCE["logits"]) / REFERENCE["largest"], rtol=0, atol=TOLERANCE)
    assert logits.abs().max() == pytest.approx(REFERENCE["largest"], rel=TOLERANCE)


def test_size_is_the_published_one(state):
    assert len(state) == REFERENCE["state_dict_entries"]
    assert sum(value.numel() for value in I3dNet().parameters()) == REFERENCE["parameters"]


def test_small_clips_are_resized_by_the_protocol(state, detector):
    video = torch.tanh(draw("small", (1, 3, 9, 20, 32)))
    other = I3D(detector._net, "styleganv")
    squashed, cropped = detector.features(video), other.features(video)
    assert squashed.shape == (1, 400) and torch.equal(detector.logits(video), squashed)
    assert (squashed - cropped).abs().max() > 1e-2
    assert detector.identity.hash == other.identity.hash == weights_hash(state)
    assert detector.identity.protocol != other.identity.protocol


def test_clips_of_a_batch_do_not_mix(detector, logits):
    alone = detector.logits(torch.tanh(draw("input.video", (2, 3, 16, 224, 224)))[1:])
    torch.testing.assert_close(alone, logits[1:], rtol=0, atol=TOLERANCE * REFERENCE["largest"])


@pytest.mark.parametrize(
    ("length", "kernel", "stride", "before", "after"),
    [(16, 7, 2, 2, 3), (15, 7, 2, 3, 3), (8, 2, 2, 0, 0), (7, 3, 1, 1, 1)],
)
def test_padding_is_tensorflows(length, kernel, stride, before, after):
    padded = _pad_same(torch.ones(1, 1, length, 1, 1), (kernel, 1, 1), (stride, 1, 1)).flatten()
    assert padded.tolist() == [0.0] * before + [1.0] * length + [0.0] * after


def test_too_few_frames_are_refused(detector):
    with pytest.raises(PipelineError, match=r"9 frames or more, not 8"):
        detector.features(torch.zeros(1, 3, 8, 16, 16))


def test_saved_and_loaded_it_is_the_same(detector, tmp_path):
    other = I3D(detector._net, "styleganv")
    other.save(tmp_path / "i3d")
    assert I3D.load(tmp_path / "i3d").identity == other.identity
    (tmp_path / "i3d" / "config.json").write_text("{}")
    with pytest.raises(PipelineError, match=r"config.json names no resize protocol"):
        I3D.load(tmp_path / "i3d")


def test_checkpoints_of_old_have_no_counters(state, detector, tmp_path):
    old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    save_file(old, tmp_path / "old.safetensors")
    assert load_i3d(tmp_path / "old.safetensors").identity == detector.identity


def test_an_unknown_protocol_is_refused(checkpoint):
    with pytest.raises(PipelineError, match=r"'crop' is unknown .*tats, styleganv"):
        load_i3d(checkpoint, "crop")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_missing_file_is_named(tmp_path, suffix):
    path = tmp_path / f"none{suffix}"
    with pytest.raises(PipelineError, match=f"{path} does not exist"):
        load_i3d(path)


@pytest.mark.parametrize("kept", [0, 100, 200_000])
@pytest.mark.parametrize("kind", ["zip.pt", "legacy.pt", "plain.safetensors"])
def test_a_file_cut_short_is_named(state, tmp_path, kind, kept):
    path = tmp_path / kind
    if kind.endswith("pt"):
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip.pt")
    else:
        save_file(state, path)
    load_i3d(path)  # whole it is fine
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(PipelineError, match=f"{path} is damaged, cut short"):
        load_i3d(path)


def test_weights_that_do_not_fit_are_listed(state, tmp_path):
    changed = dict(state, **{"logits.conv3d.weight": torch.zeros(600, 1024, 1, 1, 1), "extra": torch.zeros(1)})
    del changed["Mixed_3b.b0.conv3d.weight"]
    torch.save(changed, tmp_path / "other.pt")
    with pytest.raises(PipelineError, match=r"other.pt does not fit I3dNet") as caught:
        load_i3d(tmp_path / "other.pt")
    assert "1 missing: Mixed_3b.b0.conv3d.weight" in str(caught.value)
    assert "1 unknown: extra" in str(caught.value)
    assert "logits.conv3d.weight (600, 1024, 1, 1, 1) for (400, 1024, 1, 1, 1)" in str(caught.value)


def test_weights_that_are_not_finite_are_named(state, tmp_path):
    save_file(dict(state, **{"logits.conv3d.bias": torch.full((400,), torch.nan)}), tmp_path / "nan.safetensors")
    with pytest.raises(PipelineError, match=r"nan.safetensors holds values that are not finite, in logits.conv3d.bias"):
        load_i3d(tmp_path / "nan.safetensors")


class _Trap:
    """Unpickling it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("new", [True, False])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path, new):
    path, sprung = tmp_path / "code.pt", tmp_path / "sprung"
    torch.save({"logits.conv3d.bias": _Trap(sprung)}, path, _use_new_zipfile_serialization=new)
    with pytest.raises(PipelineError, match=f"{path} asks for code to be unpickled"):
        load_i3d(path)
    assert not sprung.exists()


def test_a_whole_pickled_module_is_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(PipelineError, match=r"module.pt asks for code"):
        load_i3d(tmp_path / "module.pt")


@pytest.mark.parametrize("value", [{}, [torch.zeros(1)], {"a": {"b": torch.zeros(1)}}])
def test_something_else_than_a_state_dict_is_named(tmp_path, value):
    torch.save(value, tmp_path / "value.pt")
    with pytest.raises(PipelineError, match=r"value.pt is no state dict"):
        load_i3d(tmp_path / "value.pt")
