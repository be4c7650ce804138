"""Tiny encoders, and a set of small pictures with captions."""

import numpy as np
import pytest
import torch

SPEC = {
    "vae": {"block_out_channels": [8, 16, 16], "layers_per_block": 1, "norm_num_groups": 4, "latent_channels": 4},
    "image_tower": {
        "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32,
        "patch_size": 8, "projection_dim": 20,
    },
    "text_tower": {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
        "max_position_embeddings": 12, "vocab_size": 300, "projection_dim": 20,
    },
}  # fmt: skip
COLOURS = ("red", "green", "blue", "grey")


@pytest.fixture(scope="session")
def clips_folder(tmp_path_factory):
    """32 clips of two frames: a plain picture of a colour with a bright bar; the caption names the colour."""
    from pipeline.data.schema import encode_frames
    from tests.helpers.parted import write_clips

    folder, rng = tmp_path_factory.mktemp("clips") / "set", np.random.default_rng(0)
    rows = []
    numbers = dict.fromkeys(("start_frame", "window", "source_height", "source_width"), 0)
    rates = {"native_fps": 9.0, "fps": 3.0, "stride": 3, "requested_stride": 3}
    for index in range(32):
        colour, place = COLOURS[index % 4], rng.integers(0, 28)
        frames = np.full((2, 32, 32, 3), 40, np.uint8)
        frames[..., index % 4 if colour != "grey" else slice(None)] = rng.integers(120, 180)
        frames[:, :, place : place + 4] = 230
        texts = {"id": str(index), "caption": f"a {colour} picture with a bar", "frames": encode_frames(frames)}
        empty = dict.fromkeys(("source", "label", "decoder", "transform"), "")
        rows.append({**texts, **numbers, **rates, **empty})
    return write_clips(folder, rows)


@pytest.fixture(scope="session")
def clips(clips_folder):
    from pipeline.data.schema import ClipSet

    return ClipSet(clips_folder)


@pytest.fixture(scope="session")
def spec() -> dict:
    return SPEC


@pytest.fixture(scope="session")
def build(clips):
    """Untrained encoders with weights of a seed, in eval mode."""
    from pipeline.encoders.frozen import Encoders
    from pipeline.encoders.training import seed_weights

    def make(seed: int = 0) -> Encoders:
        with torch.random.fork_rng():
            seed_weights(seed)
            return Encoders.build(SPEC["vae"], SPEC["image_tower"], SPEC["text_tower"], clips.captions).eval()

    return make


@pytest.fixture(scope="session")
def folder(build, tmp_path_factory):
    """Encoders on disk; tests read them only."""
    path = tmp_path_factory.mktemp("encoders") / "tiny"
    build().save(path)
    return path


@pytest.fixture(scope="session")
def encoders(folder):
    from pipeline.encoders.frozen import Encoders

    return Encoders.load(folder)
