"""The command line: ``python -m pipeline STAGE …`` runs one stage as dvc.yaml does, the other commands serve people."""

import ast
import importlib
import sys
from pathlib import Path

from pipeline.errors import PipelineError

STAGES = Path(__file__).parent / "stages"
TOOLS = {
    "preset": "write presets/NAME.yaml (demo, or an overlay of it) into params.yaml",
    "use-data": "point params.yaml at your own clips, UCF101 and pictures",
    "pointer": "write a file that stands for data behind an address that DVC cannot watch",
    "plan": "say what would run, why, and what it would take",
    "clean-old": "drop what no current row needs, after showing it",
    "doctor": "say what is there, what is missing, and whether disk and GPU memory suffice",
    "animate": "make one video from one picture, with any checkpoint",
    "export": "write a checkpoint back in its authors' layout",
    "ui": "open the MLflow UI on loopback",
}


def stage_names() -> list[str]:
    """Names of the stages, one file each."""
    return sorted(path.stem for path in STAGES.glob("*.py") if path.stem != "__init__")


def usage() -> str:
    """Overview of the commands, without importing a stage."""
    lines = ["usage: python -m pipeline COMMAND …   (COMMAND --help says more)", "", "stages:"]
    for name in stage_names():
        doc = ast.get_docstring(ast.parse((STAGES / f"{name}.py").read_text())) or ""
        lines.append(f"  {name:<12} {doc.split('. ')[0].splitlines()[0] if doc else ''}")
    lines += ["", "tools:", *(f"  {name:<12} {text}" for name, text in TOOLS.items())]
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Run one command; returns the exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0
    command, rest = arguments[0], arguments[1:]
    try:
        if command in stage_names():
            from pipeline.runner import run_stage

            return run_stage(command, rest)
        if command in TOOLS:
            return importlib.import_module(f"pipeline.tools.{command.replace('-', '_')}").run(rest)
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "pipeline":
            raise
        print(
            f"error: {sys.executable} has no module {error.name}: is the project's environment active? "
            "`make .venv/.ready` makes it, `. .venv/bin/activate` activates it",
            file=sys.stderr,
        )
        return 1
    print(f"error: {command!r} is not a command\n\n{usage()}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
