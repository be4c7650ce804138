"""What the tools share: they run in the project's folder."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARAMS = Path("params.yaml")


def sized(number: float) -> str:
    """Bytes for people: 1536 -> '1.5 KiB'."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"
