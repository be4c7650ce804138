"""The frozen encoders of released checkpoints, in the pipeline's layout."""

from collections.abc import Mapping

from torch import Tensor, nn

from pipeline.conversion import clip
from pipeline.conversion.rules import part, some
from pipeline.conversion.vae import convert_vae, vae_config
from pipeline.conversion.weight_file import find, folder, read_weights
from pipeline.encoders.frozen import Encoders
from pipeline.encoders.tokenizer import clip_tokenizer
from pipeline.errors import PipelineError

VAE, TEXT, IMAGE = "first_stage_model.", "cond_stage_model.", "embedder."  # parts of an lvdm checkpoint


def lvdm_encoders(spec) -> tuple[Encoders, dict]:
    """VAE and both towers out of a checkpoint of VideoCrafter1 or DynamiCrafter, and where they came from.

    ``spec``: LvdmEncoders of params.yaml. Raises PipelineError where a file is missing or does not fit.
    """
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from transformers.models.clip.configuration_clip import CLIPTextConfig, CLIPVisionConfig
    from transformers.models.clip.modeling_clip import CLIPTextModelWithProjection, CLIPVisionModelWithProjection

    found = find(**spec.checkpoint.model_dump())
    state = read_weights(found.path)
    fields = vae_config(spec.autoencoder["ddconfig"], spec.autoencoder["embed_dim"], spec.scaling_factor)
    text = clip.text_config(spec.towers)
    words = folder(spec.tokenizer.location, spec.tokenizer.revision, ["vocab.json", "merges.txt"])
    tokenizer = clip_tokenizer(words, text["max_position_embeddings"], text["vocab_size"])
    encoders = Encoders(
        filled(lambda: AutoencoderKL(**fields), convert_vae(part(state, VAE), spec.autoencoder)),
        filled(
            lambda: CLIPVisionModelWithProjection(CLIPVisionConfig(**clip.vision_config(spec.towers))),
            clip.convert_image(part(state, IMAGE), spec.towers),
        ),
        filled(
            lambda: CLIPTextModelWithProjection(CLIPTextConfig(**text)),
            clip.convert_text(part(state, TEXT), spec.towers),
        ),
        tokenizer,
    )
    return encoders, {"checkpoint": found.record()}


def diffusers_encoders(spec) -> tuple[Encoders, dict]:
    """Temporal VAE and image tower of Stable Video Diffusion, and where they came from.

    ``spec``: DiffusersEncoders of params.yaml. Raises PipelineError where a file is missing or does not fit.
    """
    from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
    from transformers.models.clip.configuration_clip import CLIPVisionConfig
    from transformers.models.clip.modeling_clip import CLIPVisionModelWithProjection

    found = {name: find(**getattr(spec, name).model_dump()) for name in ("vae_weights", "image_tower_weights")}
    vae = filled(lambda: AutoencoderKLTemporalDecoder(**spec.vae), read_weights(found["vae_weights"].path))
    tower = filled(
        lambda: CLIPVisionModelWithProjection(CLIPVisionConfig(**spec.image_tower)),
        _without_position_ids(read_weights(found["image_tower_weights"].path)),
    )
    return Encoders(vae, tower, None, None), {name: each.record() for name, each in found.items()}


def filled(make, state: Mapping[str, Tensor]) -> nn.Module:
    """The module of ``make()`` with exactly the tensors of ``state``, float32; built without memory of its own.

    Raises PipelineError where names or shapes differ.
    """
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        module = make()
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in state.items()}
    if wanted != given:
        differ = sorted(name for name in wanted.keys() | given.keys() if wanted.get(name) != given.get(name))
        raise PipelineError(
            f"the released weights do not fit {type(module).__name__} ({len(differ)} names or shapes differ: "
            f"{some(differ)}); copy the fields in params.yaml from the config of this checkpoint"
        )
    module.load_state_dict({name: value.float() for name, value in state.items()}, assign=True)
    return module.eval().requires_grad_(False)


def _without_position_ids(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Older transformers stored this constant."""
    return {name: value for name, value in state.items() if not name.endswith("position_ids")}
