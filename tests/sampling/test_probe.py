"""The leakage probe of a backbone: one-step predictions under the clip's first frame, and the stage around them."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipeline.backbones.checkpoint import save_backbone, weights_hash
from pipeline.backbones.registry import FAMILIES
from pipeline.diffusion.schedules import make_schedule
from pipeline.params.evaluation import PerfectDenoiser, ProbeSettings
from pipeline.probing.model import ModelProbe
from pipeline.probing.probe_file import read_probe
from pipeline.stages import probe as stage_module


@pytest.fixture
def make_probe(make_backbone, encoders, clips, processes):
    def make(family: str, positions=(0, 1, 2), backbone=None) -> ModelProbe:
        positions = list(positions)
        return ModelProbe(
            backbone or make_backbone(family), encoders, make_schedule(processes[family]), clips.frames(positions),
            [clips.ids[i] for i in positions], [clips.captions[i] for i in positions],
            [clips.fps[i] for i in positions], 0, "cpu",
        )  # fmt: skip

    return make


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prediction_does_not_depend_on_its_batch(make_probe, family):
    time = 20.0 if family == "svd" else 0.9
    together, alone = make_probe(family), make_probe(family, positions=(2,))
    assert torch.allclose(together.predict(time)[2], alone.predict(time)[0], atol=1e-4)
    assert together.predict(time).shape == together.x0.shape


@pytest.mark.parametrize("family", ["dynamicrafter", "svd"])
def test_with_hardly_any_noise_the_prediction_is_the_clip(make_probe, family):
    probe = make_probe(family)
    predicted = probe.predict(0.002 if family == "svd" else 0.001)
    assert (predicted - probe.x0).norm() < 0.3 * probe.x0.norm()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_that_knows_the_answer_is_measured_as_perfect(make_probe, family, make_backbone):
    """The stage's algebra, whatever the family predicts: an oracle for eps, v or F gives back the clip."""

    class Oracle(torch.nn.Module):
        def __init__(self):
            super().__init__()
            own = make_backbone(family)
            self.family, self.image_input, self.config, self.dtype = own.family, own.image_input, own.config, own.dtype
            for name in ("conditions", "image_context", "image_latent_factor"):
                setattr(self, name, getattr(own, name))

        def forward(self, scaled, model_time, told):
            x0, schedule = oracle_x0[: len(scaled)], probe.schedule
            if schedule.kind == "ve":
                sigma = (4 * model_time).exp().reshape(-1, 1, 1, 1, 1)
                total = sigma**2 + 1
                x_t = scaled * total.sqrt()
                return (x_t / total - x0) * total.sqrt() / sigma
            alpha, sigma, scale = schedule.coefficients(model_time, scaled)
            if schedule.prediction == "v":
                return (alpha * scaled - scale * x0) / sigma
            return (scaled - alpha * scale * x0) / sigma

    probe = make_probe(family, positions=(0, 1), backbone=Oracle())
    oracle_x0 = probe.x0
    for time in (1.0, 100.0) if family == "svd" else (0.5, 0.95):
        assert torch.allclose(probe.predict(time), probe.x0, atol=2e-3)


def test_the_stage_writes_motion_by_time_and_clip(
    make_backbone, encoders_folder, encoders, clips_folder, processes, tmp_path
):
    save_backbone(
        tmp_path / "weights", make_backbone("svd"), encoders.vae_hash, {"process": dict(processes["svd"], p_mean=-3.0)}
    )
    recorded = {}
    settings = ProbeSettings(
        clips=2,
        batch_size=1,
        seed=0,
        vp_times=[0.5],
        ve_times=[1.0, 50.0, 700.0],
        perfect=PerfectDenoiser(scenes=0, motions=1, stride=1),
    )
    stage = SimpleNamespace(
        args=SimpleNamespace(name="p"),
        params=SimpleNamespace(
            probe=settings,
            probes={"p": SimpleNamespace(backbone="svd", weights="svd-initial")},
            backbones={"svd": SimpleNamespace(process=processes["svd"])},
            evaluation=SimpleNamespace(seed=0, conditions=3, reference=4, allow_few=False),
            motion=SimpleNamespace(height=64, width=64, flow=SimpleNamespace(kind="dis")),
        ),
        inputs=[tmp_path / "weights", encoders_folder, clips_folder],
        outputs=[tmp_path / "probe"],
        device="cpu",
        log=logging.getLogger("test"),
        record=SimpleNamespace(metrics=recorded.update),
    )
    stage_module.run(stage)
    probe, strip = read_probe(tmp_path / "probe")
    assert probe.times == [1.0, 50.0], "sigma_max is 200"
    assert (len(probe.truth), len(probe.motion), len(probe.motion[0])) == (2, 2, 2)
    assert strip.shape[0] == 3 and strip.dtype == np.uint8
    assert probe.training_share[1] < 1e-4, "that of the training, whose sigmas were smaller than its backbone's"
    assert (len(probe.truth_square), len(probe.along), len(probe.along[0])) == (2, 2, 2)
    assert probe.details["weights"] == weights_hash(tmp_path / "weights")
    assert recorded == {
        f"motion_at_{t:g}": pytest.approx(np.mean(row)) for t, row in zip((1.0, 50.0), probe.motion, strict=True)
    }
