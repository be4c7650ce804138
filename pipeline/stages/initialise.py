"""Make a backbone's starting point. Reads encoders and latents; writes weights and the encoders in one folder.

``kind: trained`` (demo scale): trained from nothing on the world, by the trainer that also fine-tunes. ``released``:
the authors' weights, from a path or a hub name, converted once; the latents must be of the same encoders.
"""

import shutil


def add_arguments(parser):
    parser.add_argument("--backbone", required=True, help="a key of backbones in params.yaml")


def run(stage):
    spec = stage.params.backbones[stage.args.backbone]
    encoders, latents = stage.inputs
    {"trained": _train, "released": _convert}[spec.initialise.kind](stage, spec, encoders, latents)
    shutil.copytree(encoders, stage.outputs[0], dirs_exist_ok=True)


def _train(stage, spec, encoders, latents):
    from pipeline.training.launch import launch, make_job

    job = make_job(
        stage,
        family=spec.family,
        model=spec.model,
        source=None,
        latents=latents,
        process=spec.process,
        optimisation=spec.initialise.optimisation,
        condition_noise={"kind": "none"},
        departures={"source": "paper", "switches": {}},
    )
    launch(job, stage.runtime, stage.record, stage.log)


def _convert(stage, spec, encoders, latents):
    from pipeline.conversion.backbone import convert_backbone
    from pipeline.conversion.weight_file import find
    from pipeline.data.latents import LatentSet
    from pipeline.diffusion.schedules import make_schedule
    from pipeline.encoders.frozen import Encoders
    from pipeline.errors import PipelineError

    vae_hash = Encoders.load(encoders, parts=()).vae_hash
    if LatentSet(latents).vae_hash != vae_hash:
        raise PipelineError(
            f"{latents.name}: these latents are of other encoders than {encoders.name}; "
            f"let backbones.{stage.args.backbone}.encoders and .initialise.latents name the same encoders"
        )
    found = find(**spec.initialise.checkpoint.model_dump())
    stage.log.info("%s: sha256 %s", found.asked, found.sha256)
    settings = {"family": spec.family, "model": spec.model, "process": spec.process.model_dump()}
    stored = convert_backbone(stage.outputs[0], found, spec.family, spec.model, vae_hash, settings)
    if stored:
        ours = make_schedule(spec.process).alphas.square()
        difference = (ours - stored["alphas_cumprod"]).abs().max().item()
        if difference > 1e-4:
            stage.log.warning(
                "%s: its noise schedule differs from process in params.yaml by up to %.3g; "
                "that of params.yaml is used (released DynamiCrafter rebuilds its own for training, too)",
                found.asked,
                difference,
            )
    stage.record.params({"source": found.record()})
