"""The sections of the report: what each experiment asks, how to read its figures, its tables."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from pipeline.reporting.methods import weights_name
from pipeline.reporting.report import (
    after_first_part,
    csv_rows,
    data_uri,
    folded,
    html_table,
    markdown,
    method_names,
    rows_table,
)
from pipeline.reporting.rows import BACKBONES

LEAKAGE_COLUMNS = (
    "backbone", "weights", "t", "clips", "ratio", "perfect_ratio", "gap", "gap_error", "followed", "perfect_followed",
    "reading",
)  # fmt: skip


@dataclass(frozen=True)
class Figure:
    source: str  # data URI
    alt: str  # what it is, in a few words
    caption: str  # how to read it
    long: bool = False  # to be scrolled on a desktop, too


@dataclass(frozen=True)
class Section:
    id: str
    title: str
    words: str
    body: Markup  # below the figures
    figures: list[Figure] = field(default_factory=list)
    lead: Markup = field(default_factory=Markup)  # above them


def sections_of(inputs: Mapping[str, Path], runs: Mapping[str, object]) -> list[Section]:
    """``inputs``: the stage's inputs by file name; ``runs``: those of params.yaml."""

    def figure(name: str, alt: str, caption: str, long: bool = False) -> Figure:
        return Figure(data_uri(inputs[name]), alt, caption, long)

    def page(name: str, section: str) -> Markup:
        return markdown(inputs[name].read_text(), section)

    findings, details = after_first_part(inputs["claims.md"].read_text())
    return [
        Section(
            "claims",
            "What holds at this scale",
            "Each claim of the paper over several seeds, with its interval. A claim that fails stays here.",
            markdown(details, "Claims"),
            [
                figure(
                    "claims.png",
                    "Dot plot of the effects of all claims",
                    "Effects as shares of the value before, signed so that above zero is what the claim says. "
                    "Dots: seeds. Lines: 95 % intervals.",
                )
            ],
            markdown(findings, "Claims"),
        ),
        Section(
            "leakage",
            "The diagnosis: leakage over time",
            "A real clip is noised to t, and the network's estimate of the clean clip from that alone is decoded. A "
            "model that leaks copies its condition where the noise is large, and its estimate moves less than what "
            "the noisy clip still tells. How much that is says the perfect denoiser, the mean over all motions that "
            "the scene may have: below it is leakage (or too little training); its own fall is not.",
            _leakage(csv_rows(inputs["leakage.csv"])),
            [
                figure(
                    "leakage.png",
                    "Curves of the predictions' motion over t, a column a backbone",
                    "Motion of one-step predictions over time. Above: as a share of the clip's own. Below: how much of "
                    "the clip's own motion they follow (0: the noisy clip is ignored). Dashed: the perfect denoiser. "
                    "Bands: 95 % over clips. Grey: noise levels that training hardly ever drew, if there are any. "
                    "VideoCrafter1 predicts the noise: its estimate of the clip divides by a number that goes to 0.07, "
                    "and what moves above 1 there are its errors.",
                ),
                figure(
                    "leakage_strips.png",
                    "Strips of frames, a row a time, a block a model",
                    "One clip (top row, eight of its frames) and its one-step predictions from each t below. The "
                    "perfect denoiser's clip is one of its own scenes.",
                    long=True,
                ),
            ],
        ),
        Section(
            "start",
            "Starting earlier: the sweep of M",
            "Sampling that begins at M < T, from the standard start and from Analytic-Init, all else equal.",
            page("start_grid.md", "Start times"),
            [
                figure(
                    "start_grid.png",
                    "Curves over the start, a column a backbone",
                    "FVD, IS, motion, image alignment and temporal consistency over the start. Bands: one spread. "
                    "Dotted: real clips.",
                )
            ],
        ),
        Section(
            "ucf101",
            "UCF101: original weights, fine-tuned, and both mends",
            "The same conditions for every method. Motion counts only beside alignment and consistency.",
            page("ucf101.md", "UCF101"),
        ),
        Section(
            "table3",
            "Table 3: inference and training strategies",
            "The paper's main table, with the ratings of the user study once it has answers.",
            page("table3.md", "Table 3"),
            [
                figure(
                    "table3.png",
                    "Bars of four metrics by backbone and method",
                    "FVD, motion, alignment and consistency of the runs, with real clips and the condition image "
                    "repeated.",
                )
            ],
        ),
        Section(
            "timenoise",
            "The noise on the condition",
            "TimeNoise's shapes and strengths, and what the paper compares it with.",
            page("timenoise.md", "Noise on the condition"),
            [
                figure(
                    "timenoise.png",
                    "Densities and medians of the noise level over t, a column a backbone",
                    "Above: the density of TimeNoise's level over the times that each backbone's training draws. "
                    "Below: median levels of every training.",
                )
            ],
        ),
        Section(
            "motion",
            "Motion that is asked for",
            "SVD can be asked for a motion. How far from it is what comes out?",
            page("motion_error.md", "Motion that is asked for"),
        ),
        Section(
            "study",
            "The user study",
            "Participants compare two methods' videos of one picture, blinded, on four questions.",
            _study(inputs["ratings"], runs),
        ),
        Section(
            "compute",
            "What it cost",
            "Device hours of all attempts, the longest job, and the host memory of the largest, from the tracked runs. "
            "Jobs that have no record are not in it.",
            rows_table(
                "Cost by stage and backbone", [_in_words(row, {}, runs) for row in csv_rows(inputs["compute.csv"])]
            )
            or Markup("<p>No runs were recorded.</p>"),
        ),
    ]


def _leakage(rows: list[dict[str, str]]) -> Markup:
    """The times at which each weights do what, and below, folded, every line."""
    if not rows:
        return Markup("<p>No weights were probed.</p>")
    shown = [
        {**row, "backbone": BACKBONES.get(row["backbone"], row["backbone"]), "weights": weights_name(row["weights"])}
        for row in rows
    ]
    readings = list(dict.fromkeys(row["reading"] for row in shown))
    times: dict[tuple[str, str], dict[str, list[str]]] = {}
    for row in shown:
        own = times.setdefault((row["backbone"], row["weights"]), {reading: [] for reading in readings})
        own[row["reading"]].append(row["t"])
    lines = [[*who, *(", ".join(found) or "–" for found in own.values())] for who, own in times.items()]
    words = Markup(
        "<p>The times t (SVD: sigma) at which the predictions of each model do what, beyond 1.96 standard errors:</p>"
    )
    columns = Markup(
        "<p>ratio: the predictions' motion over the clips' own. gap: the perfect denoiser's ratio less this one. "
        "followed: how much of the clips' own motion the predictions have.</p>"
    )
    table = rows_table("Leakage: every weights and time", shown, LEAKAGE_COLUMNS)
    summary = html_table("Leakage: times by reading", ["backbone", "weights", *readings], lines)
    return words + summary + folded(f"All {len(rows)} lines, with errors", columns + table)


STUDY = {
    "ratings": "Ratings: mean rank, 1 best to 4 worst, with 95 % bootstrap intervals",
    "ranking": "Bradley-Terry ranking, with 95 % bootstrap intervals",
    "win_rates": "Win rates, with 95 % Wilson intervals",
}
RUNS = ("run", "run_a", "run_b")  # columns that name one


def _study(folder: Path, runs: Mapping[str, object]) -> Markup:
    results = {name: csv_rows(folder / f"{name}.csv") for name in STUDY}
    shown = {row[column] for rows in results.values() for row in rows for column in RUNS if column in row}
    names = method_names(shown, runs)
    verdicts = Counter(row["verdict"] for row in csv_rows(folder / "answers.csv"))
    tables = {
        title: rows_table(f"Study: {title}", [_in_words(row, names, runs) for row in results[name]])
        for name, title in STUDY.items()
    }
    counts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items()))
    files = Markup("<p>Answer files: {}.</p>").format(counts) if counts else Markup()
    if not any(tables.values()):
        return Markup("<p>No answers that count yet: there are no ratings at this scale.</p>") + files
    parts = [Markup("<h3>{}</h3>{}").format(title, table) for title, table in tables.items() if table]
    return files + Markup().join(parts)


def _in_words(row: Mapping[str, str], names: Mapping[str, str], runs: Mapping[str, object]) -> dict[str, str]:
    """A line of results, with backbones and methods as the other tables call them."""
    found: dict[str, str] = {}
    for column, value in row.items():
        if column == "backbone":
            found["backbone"] = BACKBONES.get(value, value)
        elif column in RUNS:
            backbone = runs[value].backbone if value in runs else ""
            found.setdefault("backbone", BACKBONES.get(backbone, backbone))
            found[column.replace("run", "method")] = names.get(value, value)
        else:
            found[column] = value
    return found
