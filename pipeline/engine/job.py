"""One job of Snakemake. Run by the Snakefile: python -m pipeline.engine.job STAGE[@KEY] [--shard K-of-N | --joins N]

It runs the stage without DVC, on whatever host, and leaves a receipt: dvc.lock grows with the rows, and DVC takes
seconds to write it. Snakemake's own process enters receipts into it, many at once.
"""

import argparse
import os
import socket
import sys

from pipeline.engine.processes import die_with_parent
from pipeline.errors import PipelineError


def main(arguments: list[str]) -> int:
    """Run the job; a killed Snakemake takes its jobs with it, so that nobody writes behind the next run."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.engine.job")
    parser.add_argument("address", help="STAGE[@KEY] of dvc.yaml")
    parser.add_argument("--shard", metavar="K-of-N", help="make one shard's parts alone")
    parser.add_argument("--joins", metavar="N", type=int, default=1, help="join what that many shards have made")
    args = parser.parse_args(arguments)
    die_with_parent()
    print(f"{args.address} on {socket.gethostname()}", flush=True)
    os.environ["PIPELINE_ENGINE"] = "snakemake"
    from pipeline.engine.parts import Shard
    from pipeline.runner import run_job, run_shard

    try:
        return run_shard(args.address, Shard.parse(args.shard)) if args.shard else run_job(args.address, args.joins)
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
