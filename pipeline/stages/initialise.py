"""Make a backbone's starting point. Reads encoders and latents; writes weights and the encoders in one folder.

At demo scale the backbone is trained from nothing on the world, by the trainer that also fine-tunes.
"""

import shutil


def add_arguments(parser):
    parser.add_argument("--backbone", required=True, help="a key of backbones in params.yaml")


def run(stage):
    from pipeline.training.launch import launch, make_job

    spec = stage.params.backbones[stage.args.backbone]
    encoders, latents = stage.inputs
    job = make_job(
        stage,
        family=spec.family,
        model=spec.model,
        source=None,
        latents=latents,
        process=spec.process,
        optimisation=spec.initialise.optimisation,
        condition_noise={"kind": "none"},
    )
    launch(job, stage.runtime.accelerate_config, stage.record, stage.log)
    shutil.copytree(encoders, stage.outputs[0], dirs_exist_ok=True)
