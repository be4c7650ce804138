"""UNets and image projectors, told by their official config fields."""

import torch

from tests.golden_kinds.core import ELSEWHERE, NETWORK, Case, Comparison, Document, filled


def lvdm_unet(document: Document) -> list[Case]:
    """VideoCrafter1 and DynamiCrafter: one case for each entry of ``cases``."""
    if "model_channels" not in document.content.get("config", {}):
        return []
    from pipeline.backbones.lvdm_unet import LvdmUNet

    def compare(name: str) -> list[Comparison]:
        case, given = document.content["cases"][name], document.inputs()
        unet = filled(LvdmUNet(document.content["config"]), document.content["keys"])
        rate = next((case[key] for key in ("fs", "fps") if key in case), None)
        context = torch.cat([given[part] for part in case["context"]], 1)
        fps = None if rate is None else torch.tensor(rate)
        found = unet(given["x"], torch.tensor(case["t"]), context, fps)
        return [Comparison(found, document.tensors[f"expected.{name}"], NETWORK)]

    return [Case(document.name, name, lambda name=name: compare(name)) for name in document.content["cases"]]


def svd_unet(document: Document) -> list[Case]:
    """Batches as diffusers 0.42.1 has them, single rows as the official class: its batches mix up their contexts."""
    if "down_block_types" not in document.content.get("config", {}):
        return []
    batch = document.content["inputs_recipe_keys_and_shapes"]["input.sample"][0]
    found = []
    for key in sorted(document.tensors):
        source, _, call = key.partition(".")
        name = next((name for name in document.content["cases"] if call == name or call.startswith(f"{name}_")), None)
        alone = call.endswith("_alone") or batch == 1
        if name is not None and (source.startswith("diffusers") or alone):
            found.append(Case(document.name, key, lambda name=name, key=key: _svd(document, name, key)))
    return found


def _svd(document: Document, name: str, key: str) -> list[Comparison]:
    from pipeline.backbones.interface import Conditions
    from pipeline.backbones.svd import StableVideoDiffusion

    config, case, given = document.content["config"], document.content["cases"][name], document.inputs()
    backbone = StableVideoDiffusion({"unet": config, "motion_bucket": 0, "noise_level": 0.0})
    filled(backbone.unet, document.content["keys"])
    sample, context = given["sample"], given["encoder_hidden_states"]
    ids = torch.tensor(case["added_time_ids"])
    call = key.partition(".")[2].removeprefix(name)
    if call == "_cfg_layout":
        sample, ids = sample[[0, 0]], ids[[0, 0]]
        context = torch.cat([torch.zeros_like(context[:1]), context[:1]])
    elif call.endswith("_alone"):
        row = int(call.removeprefix("_row").removesuffix("_alone"))
        sample, context, ids = sample[row : row + 1], context[row : row + 1], ids[row : row + 1]
    noisy, image = sample.transpose(1, 2).split(config["out_channels"], 1)
    fps, motion, level = ids.T
    conditions = Conditions(
        image_context=context, image_latent=image, fps=fps, motion_bucket=motion, noise_level=level
    )  # fmt: skip
    found = backbone(noisy, torch.full((len(sample),), case["timestep"]), conditions).transpose(1, 2)
    return [Comparison(found, document.tensors[key], NETWORK)]


def resampler(document: Document) -> list[Case]:
    """Image projectors with one set of queries, or one for each frame."""
    if "num_queries" not in document.content.get("config", {}):
        return []
    from pipeline.backbones.resampler import Resampler

    def compare() -> list[Comparison]:
        projector = filled(Resampler(**document.content["config"]), document.content["keys"])
        found = projector(document.inputs()["image_tokens"])
        return [Comparison(found, document.tensors["expected.out"], ELSEWHERE)]

    return [Case(document.name, "out", compare)]
