"""The participants' page: one file beside its media, without network, whatever the texts hold."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.study.questions import QUESTIONS

MINUTES_A_PAIR = 0.5


def write_page(path: Path, study: str, pairs: list[dict], lists: list[list[int]]) -> None:
    """``pairs``: name, media and text of each; ``lists``: positions in it for each participant, in order."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    longest = max(map(len, lists))
    page = environment.get_template("page.html.j2").render(
        data={"study": study, "pairs": pairs, "lists": lists, "questions": [name for name, _ in QUESTIONS]},
        questions=QUESTIONS,
        count=longest,
        minutes=max(1, round(longest * MINUTES_A_PAIR)),
    )
    path.write_text(page)
