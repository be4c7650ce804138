"""The one page that a reader of the results opens: everything in it, nothing loaded, no script."""

import base64
import csv
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from pipeline.reporting.methods import METHOD_OF, training_of
from pipeline.reporting.rows import BACKBONES

PICTURES_SHOWN = 4
FOLDED = ("Controls", "How these numbers were made")  # parts of a page that open on request
HEADINGS = {"longest_s": "longest job, s", "peak_memory_mb": "peak memory, MB"}


@dataclass(frozen=True)
class Clip:
    """One sampled video, as a data URI."""

    method: str
    video: str


@dataclass(frozen=True)
class Picture:
    """Every method's video of one picture; ``condition``: the picture as a data URI."""

    condition: str
    prompt: str
    clips: list[Clip]


@dataclass(frozen=True)
class Shown:
    """The pictures of one backbone."""

    backbone: str
    pictures: list[Picture]


def write_report(path: Path, **contents) -> None:
    """Fill report.html.j2; ``contents`` are its variables, text is escaped unless it is Markup."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    path.write_text(environment.get_template("report.html.j2").render(**contents))


def markdown(text: str, section: str) -> Markup:
    """A page of reports/ below the heading ``section``, without its own title; some parts folded.

    HTML in the text is shown as text, and so are links and pictures: this page needs no other.
    """
    renderer = MarkdownIt("js-default", {"html": False}).disable(["link", "autolink", "image"])
    before, *parts = re.split(r"^## ", "\n".join(text.splitlines()[1:]), flags=re.MULTILINE)
    found = [_with_regions(renderer.render(before), section)]
    for part in parts:
        title, _, body = part.partition("\n")
        content = _with_regions(renderer.render(body), f"{section}: {title}")
        heading = Markup(renderer.renderInline(title))
        found.append(
            folded(heading, content) if title.startswith(FOLDED) else Markup("<h3>{}</h3>{}").format(heading, content)
        )
    return Markup().join(found)


def after_first_part(text: str) -> tuple[str, str]:
    """A page of reports/ up to its second part, and the rest as a page."""
    title, *parts = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    return title + "".join(parts[:1]), "\n" + "".join(parts[1:])


def folded(title: str, content: Markup) -> Markup:
    """What opens on request."""
    return Markup("<details><summary>{}</summary>{}</details>").format(title, content)


def _with_regions(rendered: str, label: str) -> Markup:
    """Tables that scroll by themselves; HTML that is safe already."""
    opening = Markup('<div class="wide" role="region" aria-label="{}" tabindex="0"><table>').format(label)
    narrow = rendered.replace("), n = ", "),<br>n = ")  # of a rating
    return Markup(narrow.replace("<table>", str(opening)).replace("</table>", "</table></div>"))


def html_table(label: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Markup:
    """A table of text; whatever the text is, it stays text."""
    cells = [Markup("<th scope='col'>{}</th>").format(cell) for cell in header]
    lines = [Markup().join(Markup("<td>{}</td>").format(cell) for cell in row) for row in rows]
    body = Markup().join(Markup("<tr>{}</tr>\n").format(line) for line in lines)
    table = Markup("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>").format(Markup().join(cells), body)
    return _with_regions(str(table), label)


def csv_rows(path: Path) -> list[dict[str, str]]:
    """The lines of a csv file."""
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))


def rows_table(label: str, rows: Sequence[Mapping[str, str]], columns: Sequence[str] | None = None) -> Markup | None:
    """Lines of a csv file as a table, or some of their columns; None where there are none."""
    if not rows:
        return None
    columns = columns or list(rows[0])
    header = [HEADINGS.get(column, column.replace("_", " ")) for column in columns]
    return html_table(label, header, [[row[column] for column in columns] for row in rows])


def data_uri(path: Path) -> str:
    """The file itself, as an address."""
    kind = {".png": "image/png", ".mp4": "video/mp4"}[path.suffix]
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def shown_samples(pairs: Path, runs: Mapping[str, object]) -> list[Shown]:
    """The first pictures of every study, each with all methods side by side."""
    found = []
    for backbone, title in BACKBONES.items():
        media = pairs / backbone / "key" / "media.csv"
        if not media.is_file():
            continue
        rows, sheet = csv_rows(media), pairs / backbone / "sheet"
        names = method_names({row["run"] for row in rows}, runs)
        pictures = []
        for picture in sorted({row["picture"] for row in rows})[:PICTURES_SHOWN]:
            own = [row for row in rows if row["picture"] == picture]
            clips = [Clip(names[row["run"]], data_uri(sheet / row["video"])) for row in own]
            pictures.append(Picture(data_uri(sheet / own[0]["condition"]), own[0]["prompt"], clips))
        found.append(Shown(title, pictures))
    return found


def method_names(names: Iterable[str], runs: Mapping[str, object]) -> dict[str, str]:
    """What each run did, in the words of the tables; several of one method are told apart by their own names."""
    known = {name: runs[name] for name in names if name in runs}
    methods = {name: METHOD_OF.get((training_of(spec.training), spec.init), name) for name, spec in known.items()}
    counts = Counter((known[name].backbone, method) for name, method in methods.items())
    return {
        name: method if counts[known[name].backbone, method] == 1 else f"{method} ({name})"
        for name, method in methods.items()
    }
