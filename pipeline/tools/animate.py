"""Make one video from one picture, with any checkpoint."""

import argparse
import sys
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.params.file import load_params
from pipeline.tools.project import PARAMS


def run(arguments: list[str]) -> int:
    """``python -m pipeline animate PICTURE --prompt … --backbone …``."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline animate",
        description="Make one video from one picture. Size, sampler and moments are those of params.yaml. A picture of "
        "the bench gets the video that the stage sample_imagebench makes of it.",
    )
    parser.add_argument("picture", type=Path)
    parser.add_argument("--prompt", default="", help="what happens in the video (families with text)")
    parser.add_argument("--backbone", required=True, help="a key of backbones in params.yaml")
    parser.add_argument("--start", type=float, help="where sampling starts: fraction of T (VP) or sigma (VE); default: "
                        "the whole process")  # fmt: skip
    parser.add_argument("--init", choices=["standard", "analytic"], default="standard")
    parser.add_argument("--checkpoint", help="folder, or a key of trainings; default: the backbone's starting weights")
    parser.add_argument("--seed", type=int, default=0, help="another seed is another video (default 0)")
    parser.add_argument("--fps", type=float, help="frames a second that the model is told; default: that of the bench")
    parser.add_argument("--output", type=Path, help="default: the picture's name with .mp4, in this folder")
    args = parser.parse_args(arguments)
    params = load_params(PARAMS)
    if args.backbone not in params.backbones:
        raise PipelineError(f"--backbone {args.backbone!r} is none of {', '.join(params.backbones)}")
    output = args.output or Path(args.picture.with_suffix(".mp4").name)
    if output.suffix != ".mp4":
        raise PipelineError(f"--output {output}: give a name that ends in .mp4")
    video = _animate(params, args)
    from pipeline.data.video_file import enlarge, write_video

    write_video(output, enlarge(video, params.study.height), params.study.fps)
    print(f"{output}: {len(video)} frames of {video.shape[2]} x {video.shape[1]}")
    return 0


def _animate(params, args):
    from pipeline.backbones.checkpoint import load_backbone
    from pipeline.devices import choose_device
    from pipeline.encoders.frozen import Encoders
    from pipeline.sampling.batch import Picture, make_videos
    from pipeline.sampling.generate import Generator, prepare_network
    from pipeline.sampling.moments_file import read_moments

    spec, device = params.backbones[args.backbone], choose_device(params.runtime.device)
    picture = _read(args.picture, params)
    initial = _there(Path("models") / f"{args.backbone}-initial")
    weights = initial if args.checkpoint is None else _checkpoint(args.checkpoint)
    encoders = Encoders.load(initial).to(device)
    backbone = load_backbone(weights, family=spec.family, vae_hash=encoders.vae_hash)
    backbone = prepare_network(backbone, spec.sampling, device)
    moments = (None, None)
    if args.init == "analytic":
        moments = read_moments(_there(Path("moments") / f"{args.backbone}.safetensors"), encoders.vae_hash)
    largest = 1.0 if spec.process.kind == "vp" else spec.process.sigma_max
    start = largest if args.start is None else args.start
    if not 0 < start <= largest:
        raise PipelineError(f"--start {start:g}: {spec.family} starts above 0 and not above {largest:g}")
    generator = Generator(backbone, spec.process, spec.sampling, start, args.init, *moments)
    rule = params.clip_sets["imagebench"].frame_rule if "imagebench" in params.clip_sets else None
    fps = args.fps or getattr(rule, "fps", None)
    if fps is None:
        raise PipelineError("--fps: params.yaml states no frame rate for pictures; give one")
    item = Picture(args.picture.name, args.seed, args.prompt, fps)
    print(f"{args.backbone} on {device}, {len(generator.times)} times from {start:g}", file=sys.stderr)
    return make_videos(generator, encoders, picture[None], [item], spec.sampling.seed, device)[0][0]


def _read(path: Path, params):
    """uint8 (H, W, 3), resized and cropped as clips are."""
    from pipeline.data.decode import Reject, read_picture, resize_and_crop

    try:
        return resize_and_crop(read_picture(path)[None], params.clips.height, params.clips.width)[0]
    except Reject as reject:
        raise PipelineError(f"{path} cannot be used ({reject.reason}: {reject})") from None


def _checkpoint(named: str) -> Path:
    path = Path(named)
    return path if path.is_dir() else _there(Path("models") / named)


def _there(path: Path) -> Path:
    if not path.exists():
        raise PipelineError(f"{path} is not there; make it first: snakemake --cores all {path}")
    return path
