"""One job of Snakemake. Run by the Snakefile: python -m pipeline.engine.job STAGE[@KEY] [--shard K-of-N] [--elsewhere]

On the own host a job is `dvc repro` of one stage, so that ledger and cache are written inside the job. Elsewhere, where
DVC's lock does not reach, it is the stage's plain command, and leaves a receipt. A shard is never DVC's business.
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
    parser.add_argument("--elsewhere", action="store_true", help="on another host than the ledger's: leave a receipt")
    args = parser.parse_args(arguments)
    die_with_parent()
    print(f"{args.address} on {socket.gethostname()}", flush=True)
    os.environ.setdefault("DVC_NO_ANALYTICS", "1")
    os.environ["PIPELINE_ENGINE"] = "snakemake"
    if not (args.shard or args.elsewhere):
        os.execvp("dvc", ["dvc", "--wait-for-lock", "repro", "--quiet", "--single-item", args.address])
    from pipeline.engine.parts import Shard
    from pipeline.runner import run_elsewhere, run_shard

    try:
        if args.shard:
            return run_shard(args.address, Shard.parse(args.shard), args.elsewhere)
        return run_elsewhere(args.address)
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
