"""Where the tools find things: they run in the project's folder."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARAMS = Path("params.yaml")
