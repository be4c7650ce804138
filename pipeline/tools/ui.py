"""Open MLflow's page of all runs."""

import argparse
from pathlib import Path


def run(arguments: list[str]) -> int:
    """``python -m pipeline ui``."""
    from pipeline import tracking

    parser = argparse.ArgumentParser(
        prog="python -m pipeline ui", description="MLflow's page of all runs, on loopback."
    )
    parser.add_argument("--port", type=int, default=5000)
    args = parser.parse_args(arguments)
    tracking.prepare_store(Path.cwd())
    return tracking.serve_ui(Path.cwd(), args.port)
