"""One job of Snakemake: `dvc repro` of one stage, so that ledger and cache are written inside the job.

Run by the Snakefile: python -m pipeline.engine.job STAGE[@KEY]
"""

import os
import socket
import sys

from pipeline.engine.processes import die_with_parent


def main(address: str) -> None:
    """Become `dvc repro`; a killed Snakemake takes its jobs with it, so that nobody writes behind the next run."""
    die_with_parent()
    print(f"{address} on {socket.gethostname()}", flush=True)
    os.environ.setdefault("DVC_NO_ANALYTICS", "1")
    os.environ["PIPELINE_ENGINE"] = "snakemake"
    os.execvp("dvc", ["dvc", "--wait-for-lock", "repro", "--quiet", "--single-item", address])


if __name__ == "__main__":
    main(sys.argv[1])
