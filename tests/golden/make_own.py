"""Writes the reference numbers of this folder from our own modules, in the goldens' format (docs/golden.md).

They guard a clone alone against change; whether they are right is shown by `--golden` with the official numbers. Run it
only after that has passed: python tests/golden/make_own.py
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from tests.golden_kinds.collect import KINDS  # noqa: E402
from tests.golden_kinds.core import Document  # noqa: E402

UNET = {
    "out_channels": 4, "model_channels": 32, "attention_resolutions": [2], "num_res_blocks": 1, "channel_mult": [1, 2],
    "num_head_channels": 16, "transformer_depth": 1, "context_dim": 12, "use_linear": True, "temporal_conv": True,
    "temporal_attention": True, "temporal_selfatt_only": True, "temporal_length": 2, "addition_attention": True,
}  # fmt: skip
LVDM = {
    "own_dynamicrafter": {**UNET, "in_channels": 8, "image_cross_attention": True, "fs_condition": True,
                          "default_fs": 10},
    "own_videocrafter1": {**UNET, "in_channels": 4, "use_image_attention": True, "fps_cond": True},
}  # fmt: skip
SVD = {
    "in_channels": 8, "out_channels": 4, "block_out_channels": [32, 64], "num_frames": 2, "layers_per_block": 1,
    "down_block_types": ["CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"],
    "up_block_types": ["UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"], "addition_time_embed_dim": 16,
    "projection_class_embeddings_input_dim": 48, "cross_attention_dim": 12, "num_attention_heads": [2, 2],
}  # fmt: skip
RESAMPLER = {"dim": 16, "depth": 1, "dim_head": 8, "heads": 2, "num_queries": 3, "embedding_dim": 20, "output_dim": 12}
AUTOENCODER = {
    "embed_dim": 4,
    "ddconfig": {
        "double_z": True, "z_channels": 4, "resolution": 16, "in_channels": 3, "out_ch": 3, "ch": 32, "ch_mult": [1, 2],
        "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0,
    },
}  # fmt: skip
CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 24, "head_width": 12, "patch_size": 8},
    "text_cfg": {"context_length": 6, "vocab_size": 20, "width": 16, "heads": 2, "layers": 2},
}
RUN = {"S": 6, "ddpm_from": 940, "eta": 1.0, "unconditional_guidance_scale": 7.5}


def keys_of(module: nn.Module) -> dict:
    norms = {f"{name}.weight" for name, part in module.named_modules() if isinstance(part, nn.GroupNorm | nn.LayerNorm)}
    return {
        name: {"kind": "norm_weight" if name in norms else "plain", "shape": list(value.shape)}
        for name, value in module.state_dict().items()
    }


def official_keys(rules) -> dict:
    """Norms are told by their names in the official code."""
    return {
        rule.official: {
            "kind": "norm_weight" if _is_norm(rule.official) else "plain", "shape": list(rule.shape)
        } for rule in rules
    }  # fmt: skip


def _is_norm(key: str) -> bool:
    layer, _, kind = key.rpartition(".")
    return kind == "weight" and layer.rpartition(".")[2].startswith(("norm", "ln_"))


def write(name: str, content: dict, shapes: dict[str, tuple[int, ...]]) -> None:
    """``shapes``: names of the tensors; each is what our module gives for its case."""
    empty = {key: torch.zeros(shape) for key, shape in shapes.items()}
    empty |= content.pop("given", {})
    tensors = dict(empty)
    document = Document(HERE / f"{name}.json", content, tensors)
    for case in [case for kind in KINDS for case in kind(document)]:
        for comparison in case.compare():
            for key, value in tensors.items():
                if value is comparison.expected:
                    empty[key] = comparison.found.to(value.dtype).reshape(comparison.found.shape).contiguous().clone()
    content["source"] = "our own modules, written by make_own.py"
    (HERE / f"{name}.json").write_text(json.dumps(content, separators=(",", ":")) + "\n")
    if empty:
        save_file(empty, HERE / f"{name}_expected.safetensors")


@torch.inference_mode()
def main() -> None:
    from pipeline.backbones.lvdm_unet import LvdmUNet
    from pipeline.backbones.resampler import Resampler
    from pipeline.backbones.svd import StableVideoDiffusion
    from pipeline.conversion.clip import _image_rules, _text_rules
    from pipeline.conversion.vae import vae_rules

    for name, config in LVDM.items():
        shapes = {"input.x": [2, config["in_channels"], 2, 4, 6], "input.text": [2, 77, 12], "input.image": [2, 16, 12],
                  "input.per_frame": [2, 32, 12]}  # fmt: skip
        cases = {
            "shared": {"t": [999, 3], "fs": [24, 3], "context": ["text", "image"]},
            "per_frame": {"t": [5, 500], "fs": None, "context": ["text", "per_frame"]},
        }
        content = {"config": config, "inputs_recipe_keys_and_shapes": shapes, "cases": cases}
        content["keys"] = keys_of(LvdmUNet(config))
        write(name, content, {f"expected.{case}": (1,) for case in cases})
    svd = StableVideoDiffusion({"unet": SVD, "motion_bucket": 0, "noise_level": 0.0}).unet
    content = {
        "config": SVD,
        "inputs_recipe_keys_and_shapes": {"input.sample": [2, 2, 8, 4, 6], "input.encoder_hidden_states": [2, 1, 12]},
        "cases": {"A": {"timestep": 1.2, "added_time_ids": [[6.0, 127.0, 0.02], [3.0, 20.0, 1.0]]}},
        "keys": keys_of(svd),
    }
    names = ("diffusers.A", "diffusers.A_cfg_layout", "own.A_row0_alone", "own.A_row1_alone")
    write("own_svd", content, dict.fromkeys(names, (1,)))
    for name, more in (("own_resampler", {}), ("own_resampler_per_frame", {"video_length": 2})):
        content = {"config": RESAMPLER | more, "inputs_recipe_keys_and_shapes": {"input.image_tokens": [2, 5, 20]}}
        write(name, content | {"keys": keys_of(Resampler(**RESAMPLER, **more))}, {"expected.out": (1,)})
    inputs = {"input.image": [1, 3, 16, 24], "input.z": [1, 4, 8, 12], "input.eps": [1, 4, 8, 12]}
    names = ("mean", "logvar", "std", "sample_with_input_eps", "sample_times_0.18215", "decode_of_input_z")
    write("own_autoencoder", {"config": AUTOENCODER, "inputs_recipe_keys_and_shapes": inputs,
                              "keys": official_keys(vae_rules(AUTOENCODER))},
          {f"expected.{name}": (1,) for name in names})  # fmt: skip
    tokens = torch.tensor([[18, 3, 4, 19, 0, 0], [18, 19, 0, 0, 0, 0]])
    names = ("text.penultimate", "text.last", "image.preprocessed_20x40_every2", "image.tokens_20x40",
             "image.tokens_zero_image")  # fmt: skip
    write("own_clip", {"own_open_clip_config": CLIP, "text_keys": official_keys(_text_rules(CLIP)),
                       "image_keys": official_keys(_image_rules(CLIP)), "given": {"text.tokens": tokens}},
          dict.fromkeys(names, (1,)))  # fmt: skip
    write_samplers()
    write("own_metrics", {"frechet": {"30x20 samples, 40 features": {"own": 0.0}}, "inception_score_50x11": 0.0},
          {"preprocess.tats": (1,), "preprocess.styleganv": (1,)})  # fmt: skip
    _fill_numbers(HERE / "own_metrics.json")


def write_samplers() -> None:
    shape, settings = [1, 4, 2, 4, 4], {"guidance_rescale": 0.7, "timestep_spacing": "uniform_trailing"}
    runs = {"own_v_zsnr": {**RUN, **settings}, "own_v_zsnr_M1000": {**RUN, **settings, "ddpm_from": 1000},
            "own_eps_uniform": {**RUN, "eta": 0.0}}  # fmt: skip
    from pipeline.diffusion.start_times import vp_timesteps

    entries = {}
    for name, run in runs.items():
        start = run["ddpm_from"] if "guidance_rescale" in run else 1000
        spacing = "trailing" if "timestep_spacing" in run else "uniform"
        entries[name] = {"settings": run, "t_in_sampling_order": vp_timesteps(start - 1, 6, spacing, "released")}
    shapes = {f"{name}.x": (1,) for name in runs}
    shapes |= {"analytic.zsnr_v.M900.x_M": shape, "train.v_target": (4, 4, 2, 4, 4), "train.x_noisy": (4, 4, 2, 4, 4),
               "timenoise.dc.beta_s": (3,), "timenoise.dc.mu": (3,), "rescale_noise_cfg_0.7": shape}  # fmt: skip
    given = {"train.t": torch.tensor([0, 300, 700, 999]), "timenoise.t": torch.tensor([0, 500, 999]),
             "own_v_zsnr.ddim_scale_arr_prev": torch.tensor([0.98]),
             "own_v_zsnr_M1000.ddim_scale_arr_prev": torch.tensor([0.98])}  # fmt: skip
    given["train.v_target"] = _v_target()
    write("own_vp", {"runs": entries, "denoiser": {"shape": shape}, "given": given}, shapes)
    prefix = "euler.sigma_max_80."
    shapes = {f"{prefix}x": (7, *shape), f"{prefix}sigmas": (7,), f"{prefix}init_noise_sigma": (1,),
              f"{prefix}timesteps": (6,), f"{prefix}pred_x0": (6, *shape), "guidance_ramp.frames_5": (5,),
              "scalings.c_in": (3,), "scalings.c_noise": (3,), "scalings.c_out": (3,), "scalings.c_skip": (3,),
              "svd_analytic.intended": shape, "svd_analytic.as_the_code_runs": shape, "timenoise.svd.mu": (2,),
              "timenoise.svd.beta_s": (2,)}  # fmt: skip
    given = {"scalings.sigma": torch.tensor([0.1, 1.0, 50.0]), "timenoise.svd.sigma": torch.tensor([1.0, 600.0])}
    write("own_ve", {"analytic_init": {"init_noise_sigma": 80.0}, "given": given}, shapes)


def _v_target() -> torch.Tensor:
    from tests.golden_kinds.core import draw
    from tests.golden_kinds.vp import schedule_of

    schedule, t = schedule_of(None, v=True), torch.tensor([0, 300, 700, 999])
    x0, noise = (draw(f"train.{name}", (4, 4, 2, 4, 4)) for name in ("x0", "noise"))
    alpha, sigma, scale = schedule.coefficients(t, x0)
    return alpha * noise - sigma * scale * x0


def _fill_numbers(path: Path) -> None:
    from tests.golden_kinds.core import read
    from tests.golden_kinds.evaluation import metrics

    content = json.loads(path.read_text())
    for case in metrics(read(path)):
        value = case.compare()[0].found
        if case.name.startswith("frechet "):
            content["frechet"][case.name.removeprefix("frechet ")] = {"own": value.item()}
        elif case.name in content:
            content[case.name] = value.item()
    path.write_text(json.dumps(content, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
