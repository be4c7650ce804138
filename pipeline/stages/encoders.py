"""Make the frozen encoders: VAE, CLIP image and text tower and tokenizer. Reads clips, and released files where params
name them.

``kind: trained`` (demo scale): small ones learn from the world, the VAE by reconstruction, the towers by contrast.
``lvdm`` and ``diffusers``: those of a released checkpoint, converted; clips only measure the reconstruction.
"""

MEASURED_FRAMES = {"trained": 256, "lvdm": 32, "diffusers": 32}


def add_arguments(parser):
    parser.add_argument("--name", required=True, help="a key of encoders in params.yaml")


def run(stage):
    from pipeline.data.schema import ClipSet
    from pipeline.encoders.training import psnr

    spec = stage.params.encoders[stage.args.name]
    clips = ClipSet(stage.inputs[0])
    encoders, source = _trained(stage, spec, clips) if spec.kind == "trained" else _released(spec)
    encoders.save(stage.outputs[0], source)
    quality = psnr(encoders.to(stage.device), clips, stage.device, MEASURED_FRAMES[spec.kind])
    stage.log.info("reconstructions: %.1f dB; scaling factor %.3f", quality, encoders.scaling_factor)
    stage.record.metrics({"psnr_db": quality, "scaling_factor": encoders.scaling_factor})


def _released(spec):
    from pipeline.conversion.encoders import diffusers_encoders, lvdm_encoders

    return {"lvdm": lvdm_encoders, "diffusers": diffusers_encoders}[spec.kind](spec)


def _trained(stage, spec, clips):
    from pipeline.encoders.frozen import Encoders
    from pipeline.encoders.training import seed_weights, train_towers, train_vae

    seed_weights(spec.training.seed)
    encoders = Encoders.build(spec.vae, spec.image_tower, spec.text_tower, list(clips.captions))

    def on_step(values, step):
        stage.record.metrics(values, step=step)

    train_vae(encoders, clips, spec.training, stage.device, on_step)
    train_towers(encoders, clips, spec.training, stage.device, on_step)
    return encoders, None
