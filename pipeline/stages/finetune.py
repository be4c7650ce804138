"""Fine-tune a backbone, naively or with TimeNoise, all else equal. Reads the start and latents; writes weights."""


def add_arguments(parser):
    parser.add_argument("--training", required=True, help="a key of trainings in params.yaml")


def run(stage):
    from pipeline.training.launch import launch, make_job

    training = stage.params.trainings[stage.args.training]
    spec = stage.params.backbones[training.backbone]
    source, latents = stage.inputs
    job = make_job(
        stage,
        family=None,
        model=None,
        source=source,
        latents=latents,
        process=training.process.applied_to(spec.process),
        optimisation=spec.finetune,
        condition_noise=training.condition_noise.model_dump(),
        departures={"source": training.source, "switches": training.switches},
    )
    launch(job, stage.runtime, stage.record, stage.log)
