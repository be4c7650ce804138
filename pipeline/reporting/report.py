"""The one page that a reader of the results opens: everything in it, nothing loaded, no script."""

import base64
import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from pipeline.reporting.page import table

PICTURES_SHOWN = 4
METHODS = {
    ("finetune", "standard"): "fine-tuned",
    ("finetune", "analytic"): "fine-tuned + Analytic-Init",
    ("timenoise", "standard"): "TimeNoise",
    ("timenoise", "analytic"): "TimeNoise + Analytic-Init",
}


@dataclass(frozen=True)
class Clip:
    """One sampled video; ``video`` and ``condition`` are data URIs."""

    method: str
    video: str


@dataclass(frozen=True)
class Shown:
    """Every method's video of one picture."""

    backbone: str
    condition: str
    prompt: str
    clips: list[Clip]


def write_report(path: Path, **contents) -> None:
    """Fill report.html.j2; ``contents`` are its variables, text is escaped unless it is Markup."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    path.write_text(environment.get_template("report.html.j2").render(**contents))


def markdown(text: str) -> Markup:
    """A report's page as HTML below a heading of this one; HTML in the text is shown as text."""
    lines = [f"##{line}" if line.startswith("#") else line for line in text.splitlines()[1:]]
    rendered = MarkdownIt("js-default", {"html": False}).render("\n".join(lines))
    wide = rendered.replace("<table>", '<div class="wide" tabindex="0"><table>').replace("</table>", "</table></div>")
    return Markup(wide)


def csv_table(path: Path, columns: Sequence[str] | None = None) -> Markup | None:
    """A csv file as a table, or some of its columns; None where it has no rows."""
    with path.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    if not rows:
        return None
    columns = columns or list(rows[0])
    cells = [[row[column].replace("|", "\\|") for column in columns] for row in rows]
    return markdown("\n" + table(list(columns), cells))


def data_uri(path: Path) -> str:
    """The file itself, as an address."""
    kind = {".png": "image/png", ".mp4": "video/mp4"}[path.suffix]
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def shown_samples(pairs: Path, backbones: Mapping[str, str], runs: Mapping[str, object]) -> list[Shown]:
    """The first pictures of every study, each with all methods side by side."""
    found = []
    for backbone, title in backbones.items():
        media = pairs / backbone / "key" / "media.csv"
        if not media.is_file():
            continue
        with media.open(newline="") as lines:
            rows = list(csv.DictReader(lines))
        sheet = pairs / backbone / "sheet"
        for picture in sorted({row["picture"] for row in rows})[:PICTURES_SHOWN]:
            own = [row for row in rows if row["picture"] == picture]
            clips = [Clip(method_of(row["run"], backbone, runs), data_uri(sheet / row["video"])) for row in own]
            found.append(Shown(title, data_uri(sheet / own[0]["condition"]), own[0]["prompt"], clips))
    return found


def method_of(run: str, backbone: str, runs: Mapping[str, object]) -> str:
    """What a run did, in words."""
    spec = runs[run]
    return METHODS.get((spec.training.removeprefix(f"{backbone}-"), spec.init), run)
