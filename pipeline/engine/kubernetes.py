"""Jobs of Snakemake as jobs of Kubernetes, through kubectl. Used by profiles/kubernetes:

python -m pipeline.engine.kubernetes submit TEMPLATE --cpus N --memory MB --gpus N --minutes N SCRIPT    # prints NAME
python -m pipeline.engine.kubernetes status NAME    # prints running, success or failed
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML

PASSED_ON = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "PIPELINE_TRACKING")
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def manifest(template: dict, script: str, cpus: int, memory_mb: int, gpus: int, minutes: int) -> dict:
    """The template with a job's script and requests; the GPU resource is the one that the template names."""
    spec = template["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    limits = {"cpu": str(cpus), "memory": f"{memory_mb}M"}
    for name in container.pop("resources", {}).get("limits", {}):
        if gpus:
            limits[name] = str(gpus)
    variables = {"PATH": f"{Path(sys.executable).parent}:{SYSTEM_PATH}"}
    variables |= {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    container |= {
        "command": ["/bin/sh", "-c", script],
        "workingDir": str(Path.cwd()),
        "resources": {"limits": limits, "requests": limits},
        "env": [
            *container.get("env", []),
            *({"name": name, "value": value} for name, value in variables.items()),
        ],
    }
    spec["template"]["spec"]["activeDeadlineSeconds"] = 60 * minutes  # of the pod: time in the queue does not count
    return template


def status(found: dict) -> str:
    """What Snakemake is told about a job that ``kubectl get`` has shown."""
    conditions = {item["type"] for item in found.get("status", {}).get("conditions", []) if item["status"] == "True"}
    if "Complete" in conditions:
        return "success"
    return "failed" if "Failed" in conditions else "running"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipeline.engine.kubernetes")
    actions = parser.add_subparsers(dest="action", required=True)
    submit = actions.add_parser("submit")
    submit.add_argument("template", type=Path)
    for name in ("--cpus", "--memory", "--gpus", "--minutes"):
        submit.add_argument(name, type=int, required=True)
    submit.add_argument("script", type=Path)
    actions.add_parser("status").add_argument("name")
    args = parser.parse_args(arguments)
    if args.action == "status":
        print(_ask(args.name))
        return 0
    template = YAML(typ="safe").load(args.template.read_text())
    job = manifest(template, args.script.read_text(), args.cpus, args.memory, args.gpus, args.minutes)
    command = ["kubectl", "create", "--filename=-", "--output=name"]
    return subprocess.run(command, input=json.dumps(job), text=True, check=False).returncode


def _ask(name: str) -> str:
    """Status of a job; one that is gone has failed, one that cannot be asked for now still runs."""
    done = subprocess.run(["kubectl", "get", name, "--output=json"], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return status(json.loads(done.stdout))
    return "failed" if "NotFound" in done.stderr else "running"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
