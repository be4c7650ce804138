"""Stands in for kubectl and a cluster: a job is a process that sees its pod's environment, and nothing else.

CLUSTER names a folder with a folder a job: manifest.json, and done with the exit code.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(os.environ["CLUSTER"])


def create() -> None:
    job = json.load(sys.stdin)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    name = f"{job['metadata']['generateName']}{len(list(ROOT.iterdir()))}"
    folder = ROOT / name
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps(job))
    settings = {item["name"]: item["value"] for item in container["env"]}
    settings |= json.loads(os.environ["IMAGE"])  # what the stand-in stages read
    with (folder / "log").open("w") as log:
        subprocess.Popen(
            ["sh", "-c", '"$@"; echo $? > "$0.new"; mv "$0.new" "$0"', str(folder / "done"), *container["command"]],
            cwd=container["workingDir"], env=settings, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    print(f"job.batch/{name}")


def get(name: str) -> None:
    folder = ROOT / name.removeprefix("job.batch/")
    if not folder.exists():
        sys.exit(f'Error from server (NotFound): jobs.batch "{name}" not found')
    done = folder / "done"
    kind = None if not done.exists() else "Complete" if done.read_text().strip() == "0" else "Failed"
    print(json.dumps({"status": {"conditions": [{"type": kind, "status": "True"}] if kind else []}}))


if __name__ == "__main__":
    {"create": lambda *_: create(), "get": get}[sys.argv[1]](sys.argv[2])
