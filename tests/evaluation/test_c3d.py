"""C3D against the same network written out in numpy in float64, and what becomes of files that are not its weights."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pipeline.errors import PipelineError
from pipeline.evaluation.detectors.c3d import C3D, C3dNet, load_c3d, read_mean

WIDTH = 16  # all widths divided by this
CHANNELS = {  # published widths, written out a second time
    "conv1a": (64, 3), "conv2a": (128, 64), "conv3a": (256, 128), "conv3b": (256, 256), "conv4a": (512, 256),
    "conv4b": (512, 512), "conv5a": (512, 512), "conv5b": (512, 512),
}  # fmt: skip
LINEAR = {"fc6": (4096, 8192), "fc7": (4096, 4096), "fc8": (101, 4096)}


def shapes(width: int) -> dict[str, tuple[int, ...]]:
    """Chainer's names and shapes, all hidden widths divided."""
    found = {}
    for name, (out, into) in CHANNELS.items():
        found[name] = (out // width, into if into == 3 else into // width, 3, 3, 3)
    for name, (out, into) in LINEAR.items():
        found[name] = (out if out == 101 else out // width, into // width)
    return found


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    made = {}
    for name, shape in shapes(WIDTH).items():
        made[f"{name}/W"] = (rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)
        made[f"{name}/b"] = (0.1 * rng.standard_normal(shape[0])).astype(np.float32)
    return made


@pytest.fixture(scope="module")
def volume():
    """As published: (3, 16, 128, 171)."""
    return np.random.default_rng(1).uniform(80, 110, (3, 16, 128, 171)).astype(np.float32)


@pytest.fixture(scope="module")
def files(arrays, volume, tmp_path_factory):
    folder = tmp_path_factory.mktemp("c3d")
    np.savez(folder / "c3d.npz", **arrays)
    np.savez(folder / "mean.npz", mean=volume)
    return folder / "c3d.npz", folder / "mean.npz"


@pytest.fixture(scope="module")
def detector(files):
    return load_c3d(*files)


@pytest.fixture(scope="module")
def video():
    return torch.tanh(torch.randn((2, 3, 16, 30, 41), generator=torch.Generator().manual_seed(2)))


def aligned(length: int) -> np.ndarray:
    """(112, length): linear interpolation with the corners aligned."""
    positions = np.arange(112) * (length - 1) / 111
    return np.maximum(0, 1 - np.abs(positions[:, None] - np.arange(length)))


def pool(x: np.ndarray, window: tuple[int, int, int]) -> np.ndarray:
    """Maxima of windows that cover the edge, (C, T, H, W)."""
    pads = [(0, 0)] + [(0, -length % wide) for length, wide in zip(x.shape[1:], window, strict=True)]
    x = np.pad(x, pads, constant_values=-np.inf)
    split = [part for length, wide in zip(x.shape[1:], window, strict=True) for part in (length // wide, wide)]
    return x.reshape(len(x), *split).max(axis=(2, 4, 6))


def written_out(clip: np.ndarray, arrays: dict, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """fc7 and fc8 of one clip (3, 16, H, W) in float64; ``mean`` is (3, 16, 112, 112)."""
    x = np.einsum("ih,cthw,jw->ctij", aligned(clip.shape[2]), clip, aligned(clip.shape[3]), optimize=True)
    x = 128 * x[::-1] + 128 - mean
    for name in CHANNELS:
        windows = np.lib.stride_tricks.sliding_window_view(
            np.pad(x, [(0, 0)] + [(1, 1)] * 3), (3, 3, 3), axis=(1, 2, 3)
        )
        x = np.einsum("cthwxyz,ocxyz->othw", windows, arrays[f"{name}/W"].astype(float), optimize=True)
        x = np.maximum(x + arrays[f"{name}/b"][:, None, None, None], 0)
        if name in ("conv1a", "conv2a", "conv3b", "conv4b", "conv5b"):
            x = pool(x, (1, 2, 2) if name == "conv1a" else (2, 2, 2))
    x = x.reshape(-1)
    for name in ("fc6", "fc7"):
        x = np.maximum(arrays[f"{name}/W"].astype(float) @ x + arrays[f"{name}/b"], 0)
    return x, arrays["fc8/W"].astype(float) @ x + arrays["fc8/b"]


def test_agrees_with_the_network_written_out(detector, video, arrays, volume):
    features, logits = detector.features(video), detector.logits(video)
    for index, clip in enumerate(video.double().numpy()):
        wanted_features, wanted_logits = written_out(clip, arrays, volume[:, :, 8:120, 8:120].astype(float))
        assert np.abs(features[index].numpy() - wanted_features).max() < 1e-5 * np.abs(wanted_features).max()
        assert np.abs(logits[index].numpy() - wanted_logits).max() < 1e-5 * np.abs(wanted_logits).max()
    assert (logits[0] - logits[1]).abs().max() > 1e-3 * logits.abs().max()


def test_widths_are_the_published_ones():
    with torch.device("meta"):
        state = C3dNet().state_dict()
    wanted = {f"{name}.weight": shape for name, shape in shapes(1).items()}
    wanted |= {f"{name}.bias": shape[:1] for name, shape in shapes(1).items()} | {"mean": (3, 16, 112, 112)}
    assert {name: tuple(value.shape) for name, value in state.items()} == wanted


@pytest.mark.parametrize(
    ("size", "column", "rows", "columns"),
    [
        ((128, 171), None, slice(8, 120), slice(8, 120)),
        ((128, 171), 30, slice(8, 120), slice(30, 142)),
        ((128, 128), None, slice(8, 120), slice(8, 120)),
        ((112, 112), None, slice(None), slice(None)),
    ],
)
@pytest.mark.parametrize("kind", ["npy", "npz", "npz alone", "led by one"])
def test_the_mean_is_cut_by_its_width(tmp_path, size, column, rows, columns, kind):
    volume = np.random.default_rng(3).standard_normal((3, 16, *size))
    path = tmp_path / ("mean.npz" if "npz" in kind else "mean.npy")
    if kind == "npz":
        np.savez(path, mean=volume, other=np.zeros(3))
    elif kind == "npz alone":
        np.savez(path, volume)
    else:
        np.save(path, volume[None] if kind == "led by one" else volume)
    assert torch.equal(read_mean(path, column), torch.from_numpy(volume[:, :, rows, columns].astype(np.float32)))


@pytest.mark.parametrize("shape", [(3, 16, 100, 171), (3, 8, 128, 171), (16, 128, 171), (3,), (3, 16, 128, 171, 1)])
def test_a_mean_of_another_shape_is_refused(tmp_path, shape):
    np.save(tmp_path / "mean.npy", np.zeros(shape))
    with pytest.raises(PipelineError, match=r"mean.npy: a mean volume is"):
        read_mean(tmp_path / "mean.npy")


def test_a_mean_file_without_the_mean_or_the_columns_is_refused(tmp_path, files):
    np.savez(tmp_path / "two.npz", a=np.zeros(1), b=np.zeros(1))
    with pytest.raises(PipelineError, match=r"two.npz holds no array 'mean' but a, b"):
        read_mean(tmp_path / "two.npz")
    with pytest.raises(PipelineError, match=r"columns 60:172 are not all"):
        read_mean(files[1], 60)


def test_saved_and_loaded_it_is_the_same(detector, video, tmp_path):
    detector.save(tmp_path / "c3d")
    again = C3D.load(tmp_path / "c3d")
    assert again.identity == detector.identity
    assert torch.equal(again.logits(video[:1]), detector.logits(video[:1]))


def test_the_mean_is_part_of_the_identity(files, detector):
    assert load_c3d(*files, mean_column=30).identity.hash != detector.identity.hash


@pytest.mark.parametrize("frames", [8, 17])
def test_other_lengths_than_the_means_are_refused(detector, frames):
    with pytest.raises(PipelineError, match=f"clips of 16 frames .* not {frames}"):
        detector.logits(torch.zeros(1, 3, frames, 8, 8))


def test_weights_without_a_mean_are_refused(files, detector, tmp_path):
    with pytest.raises(PipelineError, match=r"c3d.npz holds no mean volume"):
        load_c3d(files[0])
    state = {name: value for name, value in detector._net.state_dict().items() if name != "mean"}
    save_file(state, tmp_path / "c3d.safetensors")
    with pytest.raises(PipelineError, match=r"c3d.safetensors holds no mean volume"):
        load_c3d(tmp_path / "c3d.safetensors")
    assert load_c3d(tmp_path / "c3d.safetensors", files[1]).identity == detector.identity


@pytest.mark.parametrize("name", ["c3d.npz", "c3d.safetensors"])
def test_a_missing_file_is_named(files, tmp_path, name):
    with pytest.raises(PipelineError, match=f"{tmp_path / name} does not exist"):
        load_c3d(tmp_path / name, files[1])
    with pytest.raises(PipelineError, match=f"{tmp_path / 'no.npy'} does not exist"):
        load_c3d(files[0], tmp_path / "no.npy")


@pytest.mark.parametrize("kept", [0, 60, 50_000])
@pytest.mark.parametrize("kind", ["stored.npz", "packed.npz", "plain.safetensors"])
def test_a_file_cut_short_is_named(arrays, files, detector, tmp_path, kind, kept):
    path = tmp_path / kind
    if kind.endswith("npz"):
        (np.savez if kind == "stored.npz" else np.savez_compressed)(path, **arrays)
    else:
        save_file(detector._net.state_dict(), path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(PipelineError, match=f"{path} is damaged, cut short"):
        load_c3d(path, files[1])


def test_a_damaged_array_is_named(arrays, files, tmp_path):
    path = tmp_path / "packed.npz"
    np.savez_compressed(path, **arrays)
    content = bytearray(path.read_bytes())
    content[5000:5100] = bytes(100)
    path.write_bytes(bytes(content))
    with pytest.raises(PipelineError, match=f"{path} is damaged"):
        load_c3d(path, files[1])


def test_weights_that_do_not_fit_are_listed(arrays, files, tmp_path):
    changed = {name: value for name, value in arrays.items() if name != "conv3b/b"}
    changed["fc8/W"] = np.zeros((487, 256), dtype=np.float32)
    changed["extra/W"] = np.zeros(1, dtype=np.float32)
    np.savez(tmp_path / "sports.npz", **changed)
    with pytest.raises(PipelineError, match=r"sports.npz does not fit C3dNet") as caught:
        load_c3d(tmp_path / "sports.npz", files[1])
    for part in ("1 missing: conv3b.bias", "1 unknown: extra.weight", "fc8.weight (487, 256) for (101, 256)"):
        assert part in str(caught.value)


def test_text_for_weights_is_refused(arrays, files, tmp_path):
    np.savez(tmp_path / "text.npz", **dict(arrays, **{"fc8/b": np.array(["a"])}))
    with pytest.raises(PipelineError, match=r"text.npz: fc8/b holds no numbers"):
        load_c3d(tmp_path / "text.npz", files[1])


def test_pickled_arrays_are_refused(arrays, files, tmp_path):
    np.savez(tmp_path / "objects.npz", **dict(arrays, **{"fc8/b": np.array([None, 1], dtype=object)}))
    with pytest.raises(PipelineError, match=r"objects.npz asks for code to be unpickled"):
        load_c3d(tmp_path / "objects.npz", files[1])
    np.save(tmp_path / "objects.npy", np.array([None], dtype=object))
    with pytest.raises(PipelineError, match=r"objects.npy asks for code to be unpickled"):
        load_c3d(files[0], tmp_path / "objects.npy")


def test_another_format_is_refused(files, tmp_path):
    (tmp_path / "c3d.caffemodel").write_bytes(b"x")
    with pytest.raises(PipelineError, match=r"c3d.caffemodel is neither .npz"):
        load_c3d(tmp_path / "c3d.caffemodel", files[1])
