"""Train the frozen encoders. Reads clips; writes VAE, CLIP image and text tower and tokenizer.

At demo scale they are small and learn from the world: the VAE by reconstruction, the towers by contrast.
"""


def add_arguments(parser):
    parser.add_argument("--name", required=True, help="a key of encoders in params.yaml")


def run(stage):
    from pipeline.data.schema import ClipSet
    from pipeline.encoders.frozen import Encoders
    from pipeline.encoders.training import psnr, seed_weights, train_towers, train_vae

    spec = stage.params.encoders[stage.args.name]
    clips = ClipSet(stage.inputs[0])
    seed_weights(spec.training.seed)
    encoders = Encoders.build(spec.vae, spec.image_tower, spec.text_tower, list(clips.captions))

    def on_step(values, step):
        stage.record.metrics(values, step=step)

    train_vae(encoders, clips, spec.training, stage.device, on_step)
    train_towers(encoders, clips, spec.training, stage.device, on_step)
    quality = psnr(encoders, clips, stage.device)
    stage.log.info("reconstructions: %.1f dB; scaling factor %.3f", quality, encoders.scaling_factor)
    stage.record.metrics({"psnr_db": quality, "scaling_factor": encoders.scaling_factor})
    encoders.save(stage.outputs[0])
