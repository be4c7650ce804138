"""Write or renew pointer files, which stand in params.yaml for data behind addresses that DVC cannot watch."""

import argparse
from pathlib import Path

from pipeline.data.pointers import pointer_to, read_pointer, write_pointer
from pipeline.errors import PipelineError
from pipeline.tools.project import sized
from pipeline.urls import POINTER, is_pointer, is_url


def run(arguments: list[str]) -> int:
    """``python -m pipeline pointer FILE … [--url URL]``."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline pointer",
        description="Write a small file that stands in params.yaml (clip_sets.NAME.listing or .videos) for data behind "
        "an address that DVC cannot watch: ftp://, github://, zip://…::s3://… and all else that fsspec opens. Without "
        "--url, look again at the data of files that are there: where it has changed, the next run of either engine "
        "makes again what rests on it. Commit these files; they hold the address as you give it.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help=f"such as inputs/videos{POINTER}")
    parser.add_argument("--url", help="of a listing or of a folder of files; one FILE then")
    args = parser.parse_args(arguments)
    if args.url and len(args.files) > 1:
        raise PipelineError(f"--url takes one FILE, found {len(args.files)}")
    if args.url and not is_url(args.url):
        raise PipelineError(f"--url: {args.url!r} is no URL; params.yaml takes paths as they are")
    for path in args.files:
        if not is_pointer(path):
            raise PipelineError(f"{path}: a pointer's name ends with {POINTER}")
        before = read_pointer(path) if not args.url else None
        now = pointer_to(before.url if before else args.url, str(path))
        if now != before:
            write_pointer(path, now)
        words = "as it was" if now == before else "changed" if before else "written; name it in params.yaml"
        print(f"{path}: {now.files} files, {sized(now.bytes)}: {words}")
    return 0
