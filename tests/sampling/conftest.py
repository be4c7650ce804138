"""A small network of each family with random weights, tiny encoders, and a folder of clips to condition on."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.params.backbones import Ddim, Edm, VEProcess, VPProcess

ROOT = Path(__file__).resolve().parents[2]
FRAMES, LATENT = 4, (4, 4, 8, 8)
VP = {"kind": "vp", "num_steps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "input_rescale": True}
PROCESS = {
    "videocrafter1": VPProcess(prediction="eps", zero_terminal_snr=False, **VP),
    "dynamicrafter": VPProcess(prediction="v", zero_terminal_snr=True, **VP),
    "svd": VEProcess(
        kind="ve", sigma_min=0.002, sigma_max=200.0, sigma_data=1.0, p_mean=1.0, p_std=1.6, rho=7.0,
        fraction_map="equal_snr",
    ),
}  # fmt: skip
DDIM = Ddim(
    kind="ddim", steps=4, eta=0.0, guidance=1.0, guidance_rescale=0.0, spacing="trailing", source="paper",
    switches={}, precision="no", compile=False, seed=0, batch_size=2,
)  # fmt: skip
EDM = Edm(
    kind="euler", steps=4, guidance_min=1.0, guidance_max=1.0, source="paper", switches={}, precision="no",
    compile=False, seed=0, batch_size=2,
)  # fmt: skip


@pytest.fixture(scope="session")
def processes() -> dict:
    return PROCESS


@pytest.fixture(scope="session")
def make_backbone():
    """A family's network with noise on every weight, as zero-initialised layers would hide all behind them."""
    from pipeline.backbones.registry import build

    reference = json.loads((ROOT / "tests/backbones/small.json").read_text())
    made = {}

    def make(family: str):
        if family not in made:
            with torch.random.fork_rng(), torch.no_grad():
                torch.manual_seed(0)
                made[family] = build(family, reference[family]["config"]).eval()
                for parameter in made[family].parameters():
                    parameter += 0.05 * torch.randn_like(parameter)
        return made[family]

    return make


@pytest.fixture
def make_generator(make_backbone):
    """Keyword arguments replace fields of the sampling group; ``start`` in the family's own unit."""
    from pipeline.sampling.generate import Generator

    def make(
        family: str, start: float | None = None, init: str = "standard", moments=(None, None), cls=Generator, **changed
    ):
        sampling = (EDM if family == "svd" else DDIM).model_copy(update=changed)
        start = start if start is not None else (50.0 if family == "svd" else 0.96)
        return cls(make_backbone(family), PROCESS[family], sampling, start, init, *moments)

    return make


@pytest.fixture(scope="session")
def moments() -> tuple[torch.Tensor, float]:
    """Mean, one value an element, and variance."""
    return torch.randn(LATENT, generator=torch.Generator().manual_seed(1)), 0.3


@pytest.fixture
def calls(make_backbone):
    """Watches a network: (scaled x, model time, conditions) of every call."""
    handles = []

    def watch(family: str) -> list:
        seen = []
        handles.append(make_backbone(family).register_forward_pre_hook(lambda _, arguments: seen.append(arguments)))
        return seen

    yield watch
    for handle in handles:
        handle.remove()


@pytest.fixture
def given(make_backbone):
    """Conditions of some samples, random but the same for the same sample."""

    def make(family: str, samples=(0, 1)):
        backbone = make_backbone(family)
        image = (1, 24) if backbone.image_input == "image_embedding" else (9, 40)

        def draw(shape):
            each = [torch.Generator().manual_seed(100 + sample) for sample in samples]
            return torch.stack([torch.randn(shape, generator=generator) for generator in each])

        fps = torch.tensor([3.0 + sample for sample in samples])
        conditions = backbone.conditions(text=draw((12, 24)), image_latent=draw((4, 8, 8)), fps=fps)
        with torch.inference_mode():
            return replace(conditions, image_context=backbone.image_context(draw(image)))

    return make


@pytest.fixture
def generate(make_backbone, given):
    """Latents of some samples, each with the noise of its number."""

    def make(generator, samples=(0, 1)):
        family = generator.backbone.family
        image = torch.zeros(1, 1, 24) if family == "svd" else torch.zeros(1, 9, 40)
        sources = [torch.Generator().manual_seed(sample) for sample in samples]
        return generator(given(family, samples), torch.zeros(12, 24), image, LATENT, sources, "cpu")

    return make


@pytest.fixture(scope="session")
def encoders_folder(tmp_path_factory) -> Path:
    """Encoders with random weights whose widths fit the networks."""
    from pipeline.encoders.frozen import Encoders

    tower = {"intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "projection_dim": 24}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = Encoders.build(
            {"block_out_channels": [8, 8, 8], "layers_per_block": 1, "norm_num_groups": 4, "latent_channels": 4},
            {"hidden_size": 40, "image_size": 32, "patch_size": 16, **tower},
            {"hidden_size": 24, "max_position_embeddings": 12, "vocab_size": 300, **tower},
            ["a red ball", "a blue box"],
        )
    made.vae.register_to_config(scaling_factor=0.8)
    folder = tmp_path_factory.mktemp("encoders") / "tiny"
    made.save(folder)
    return folder


@pytest.fixture(scope="session")
def encoders(encoders_folder):
    from pipeline.encoders.frozen import Encoders

    return Encoders.load(encoders_folder)


@pytest.fixture(scope="session")
def clips_folder(tmp_path_factory) -> Path:
    """Eight clips, ids with characters that a file name may not hold."""
    from pipeline.data.schema import encode_frames
    from tests.helpers.parted import write_clips

    folder = tmp_path_factory.mktemp("clips") / "set"
    rows = []
    frames = np.random.default_rng(0).integers(0, 256, (8, FRAMES, 32, 32, 3), dtype=np.uint8)
    numbers = dict.fromkeys(("start_frame", "window", "source_height", "source_width"), 0)
    for index in range(8):
        texts = {
            "id": f"clip/{index}", "source": f"videos/{index}.avi", "caption": f"a red ball, {index}", "label": "ball",
            "decoder": "", "transform": "",
        }  # fmt: skip
        rates = {"native_fps": 9.0, "fps": 3.0 + index, "stride": 1, "requested_stride": 1}
        rows.append({**texts, **numbers, **rates, "frames": encode_frames(frames[index])})
    return write_clips(folder, rows, 4)


@pytest.fixture
def clips(clips_folder):
    """A reader of its own for each test, which may change its captions."""
    from pipeline.data.schema import ClipSet

    return ClipSet(clips_folder)
