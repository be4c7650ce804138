"""OpenCLIP towers in transformers, against the official numbers, against a plain reading of their keys, and back."""

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPVisionConfig, CLIPVisionModelWithProjection

from pipeline.conversion import clip
from pipeline.encoders.clip_outputs import MEAN, STD, clip_image_preprocess, image_states, text_states
from pipeline.errors import PipelineError

TOWERS = {
    "text": (clip.convert_text, clip.export_text, clip._text_rules, clip.TEXT_UNUSED),
    "image": (clip.convert_image, clip.export_image, clip._image_rules, clip.IMAGE_UNUSED),
}


def config(width=32, head=16, layers=2, embed=24, ratio=4.0) -> dict:
    vision = {"image_size": 16, "layers": layers, "width": width, "head_width": head, "patch_size": 8}
    text = {"context_length": 9, "vocab_size": 40, "width": width, "heads": width // head, "layers": layers}
    return {"embed_dim": embed, "vision_cfg": vision | {"mlp_ratio": ratio}, "text_cfg": text | {"mlp_ratio": ratio}}


def build(tower: str, form: dict):
    if tower == "text":
        return CLIPTextModelWithProjection(CLIPTextConfig(**clip.text_config(form)))
    return CLIPVisionModelWithProjection(CLIPVisionConfig(**clip.vision_config(form)))


def plain_norm(state, name, x):
    return functional.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])


def plain_block(state, name, x, heads, mask):
    """One residual attention block of open_clip, through torch's function for stacked projections (sequence first)."""
    h = plain_norm(state, f"{name}.ln_1", x).transpose(0, 1)
    stacked, out = (f"{name}.attn.in_proj_{{}}", f"{name}.attn.out_proj.{{}}")
    h, _ = functional.multi_head_attention_forward(
        h,
        h,
        h,
        h.shape[-1],
        heads,
        state[stacked.format("weight")],
        state[stacked.format("bias")],
        None,
        None,
        False,
        0.0,
        state[out.format("weight")],
        state[out.format("bias")],
        training=False,
        need_weights=False,
        attn_mask=mask,
    )
    x = x + h.transpose(0, 1)
    h = plain_norm(state, f"{name}.ln_2", x)
    h = functional.gelu(functional.linear(h, state[f"{name}.mlp.c_fc.weight"], state[f"{name}.mlp.c_fc.bias"]))
    return x + functional.linear(h, state[f"{name}.mlp.c_proj.weight"], state[f"{name}.mlp.c_proj.bias"])


def plain_text(state, tokens, form, skip):
    """States before the last ``skip`` blocks, then ln_final."""
    section = form["text_cfg"]
    x = state["model.token_embedding.weight"][tokens] + state["model.positional_embedding"]
    mask = torch.full((x.shape[1],) * 2, float("-inf")).triu(1)
    for layer in range(section["layers"] - skip):
        x = plain_block(state, f"model.transformer.resblocks.{layer}", x, section["heads"], mask)
    return plain_norm(state, "model.ln_final", x)


def plain_image(state, pixels, form):
    section = form["vision_cfg"]
    x = functional.conv2d(pixels, state["model.visual.conv1.weight"], stride=section["patch_size"])
    x = x.flatten(2).transpose(1, 2)
    first = state["model.visual.class_embedding"].expand(x.shape[0], 1, -1)
    x = torch.cat([first, x], 1) + state["model.visual.positional_embedding"]
    x = plain_norm(state, "model.visual.ln_pre", x)
    for layer in range(section["layers"]):
        heads = section["width"] // section["head_width"]
        x = plain_block(state, f"model.visual.transformer.resblocks.{layer}", x, heads, None)
    return x


def wave(height: int, width: int) -> torch.Tensor:
    """The golden image: pixel(c,i,j) = sin(0.21*(c+1)*i + 0.13*j)."""
    c, i, j = torch.meshgrid(torch.arange(3.0), torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
    return torch.sin(0.21 * (c + 1) * i + 0.13 * j)[None]


@settings(max_examples=8, deadline=None)
@given(
    heads=st.integers(1, 3),
    head=st.sampled_from([4, 10]),
    layers=st.integers(1, 3),
    embed=st.integers(3, 40),
    ratio=st.sampled_from([2.0, 4.0]),
)
@torch.no_grad()
def test_same_function_and_back_for_any_widths_and_depths(official, loaded, recipe, heads, head, layers, embed, ratio):
    form = config(heads * head, head, layers, embed, ratio)
    models, states = {}, {}
    for tower, (convert, export, rules, unused) in TOWERS.items():
        states[tower] = official(rules(form))
        converted = convert(states[tower] | {key: torch.zeros(7) for key in unused}, form)
        back = export(converted, form)
        assert back.keys() == states[tower].keys()
        assert all(torch.equal(back[key], value) for key, value in states[tower].items())
        models[tower] = loaded(build(tower, form), converted)

    tokens = torch.tensor([[38, 3, 5, 7, 39, 0, 0, 0, 0], [38, 39, 0, 0, 0, 0, 0, 0, 0]])
    for layer, skip in {"penultimate": 1, "last": 0}.items():
        wanted = plain_text(states["text"], tokens, form, skip)
        torch.testing.assert_close(text_states(models["text"], tokens, layer), wanted, rtol=1e-4, atol=1e-5)
    # open_clip projects the last state at the highest token
    ends = wanted[torch.arange(2), tokens.argmax(-1)] @ states["text"]["model.text_projection"]
    torch.testing.assert_close(models["text"](tokens).text_embeds, ends, rtol=1e-4, atol=1e-5)

    pixels = recipe.draw("pixels", (2, 3, 16, 16))
    wanted = plain_image(states["image"], pixels, form)
    torch.testing.assert_close(image_states(models["image"], pixels), wanted, rtol=1e-4, atol=1e-5)
    pooled = plain_norm(states["image"], "model.visual.ln_post", wanted[:, 0]) @ states["image"]["model.visual.proj"]
    torch.testing.assert_close(models["image"](pixels).image_embeds, pooled, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("height", "width", "size"), [(50, 30, 8), (40, 9, 16), (9, 9, 16), (16, 16, 16)])
def test_preprocessing_is_blur_then_bicubic(height, width, size):
    frames = wave(height, width).double()

    def blur(rows: numpy.ndarray, factor: float) -> numpy.ndarray:
        """Along the first axis, one output at a time."""
        sigma = max((factor - 1) / 2, 0.001)
        half = int(max(4 * sigma, 3)) // 2  # an even count of taps gets one more, an odd one keeps its middle
        taps = numpy.exp(-0.5 * (numpy.arange(-half, half + 1) / sigma) ** 2)
        padded = numpy.pad(rows, [(half, half), (0, 0)], mode="reflect")
        return numpy.stack([taps / taps.sum() @ padded[i : i + len(taps)] for i in range(len(rows))])

    wanted = []
    for plane in frames[0].numpy():
        if max(height, width) > size:
            plane = blur(blur(plane, height / size).T, width / size).T
        wanted.append(torch.from_numpy(numpy.ascontiguousarray(plane)))
    wanted = functional.interpolate(torch.stack(wanted)[None], size=(size, size), mode="bicubic", align_corners=True)
    wanted = torch.stack([((wanted[0, c] + 1) / 2 - MEAN[c]) / STD[c] for c in range(3)])
    torch.testing.assert_close(clip_image_preprocess(frames, size)[0], wanted, rtol=1e-6, atol=1e-6)
    assert torch.equal(
        clip_image_preprocess(frames[None].expand(2, 1, -1, -1, -1, -1), size)[1, 0, 0].double(),
        clip_image_preprocess(frames, size)[0],
    )


def test_preprocessing_refuses_other_frames():
    for frames, named in [
        (torch.zeros(1, 4, 8, 8), r"\[1, 4, 8, 8\]"),
        (torch.zeros(3, 8, 8), r"\[3, 8, 8\]"),
        (torch.zeros(1, 3, 1, 8), "2x2"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "uint8"),
        (torch.full((1, 3, 8, 8), 255.0), r"outside \[-1, 1\]"),
        (torch.full((1, 3, 8, 8), float("nan")), "NaN"),
    ]:
        with pytest.raises(PipelineError, match=named):
            clip_image_preprocess(frames)


@pytest.mark.parametrize("tower", list(TOWERS))
def test_errors_name_keys_and_the_next_step(official, tower):
    convert, export, rules, _ = TOWERS[tower]
    state = official(rules(config()))
    first = next(iter(state))
    with pytest.raises(PipelineError, match=f"missing keys: {first};.*check the config"):
        convert({key: value for key, value in state.items() if key != first}, config())
    with pytest.raises(PipelineError, match=r"unexpected keys: a, b, c and 1 more"):
        convert(state | {key: torch.zeros(1) for key in "abcd"}, config())
    with pytest.raises(PipelineError, match=rf"wrong shapes: {first} is \[2\], expected"):
        convert(state | {first: torch.zeros(2)}, config())
    with pytest.raises(PipelineError, match=r"unexpected keys: .*layers\.1\..*and 13 more"):
        export(convert(state, config()), config(layers=1))


@pytest.mark.parametrize("tower", list(TOWERS))
def test_converted_state_can_be_written(official, tmp_path, tower):
    convert, _, rules, _ = TOWERS[tower]
    converted = convert(official(rules(config())), config())
    save_file(converted, tmp_path / "tower.safetensors")  # refuses odd strides
    assert load_file(tmp_path / "tower.safetensors").keys() == converted.keys()


def test_a_text_tower_that_still_has_the_visual_one_is_refused(official):
    state = official(clip._text_rules(config()))
    visual = official(clip._image_rules(config()))
    with pytest.raises(PipelineError, match=r"unexpected keys: model\.visual"):
        clip.convert_text(state | visual, config())


def test_configs_that_the_towers_cannot_hold():
    form = config()
    with pytest.raises(PipelineError, match="ls_init_value"):
        clip.vision_config(form | {"vision_cfg": form["vision_cfg"] | {"ls_init_value": 1.0}})
    with pytest.raises(PipelineError, match="lacks embed_dim"):
        clip.text_config({"text_cfg": form["text_cfg"]})
    with pytest.raises(PipelineError, match="text_cfg lacks width, layers, heads and 2 more"):
        clip.text_config(form | {"text_cfg": {}})
    with pytest.raises(PipelineError, match="multiple of heads 5"):
        clip.text_config(form | {"text_cfg": form["text_cfg"] | {"heads": 5}})
    with pytest.raises(PipelineError, match="multiple of head_width 12"):
        clip.vision_config(form | {"vision_cfg": form["vision_cfg"] | {"head_width": 12}})
    assert clip.text_config(form | {"quick_gelu": True})["hidden_act"] == "quick_gelu"
    assert clip.text_config(form)["hidden_act"] == "gelu"
    with pytest.raises(PipelineError, match="'middle'"):
        text_states(build("text", form), torch.zeros(1, 9, dtype=torch.long), "middle")
