"""The sections of the report: what each experiment asks, how to read its figures, its tables."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from pipeline.reporting.report import csv_table, data_uri, markdown

LEAKAGE_COLUMNS = (
    "backbone", "weights", "t", "clips", "ratio", "perfect_ratio", "gap", "gap_error", "followed", "perfect_followed",
    "reading",
)  # fmt: skip


@dataclass(frozen=True)
class Figure:
    source: str  # data URI
    caption: str


@dataclass(frozen=True)
class Section:
    id: str
    title: str
    words: str
    body: Markup
    figures: list[Figure] = field(default_factory=list)


def sections_of(inputs: Mapping[str, Path]) -> list[Section]:
    """``inputs``: the stage's inputs by file name."""

    def figure(name: str, caption: str) -> Figure:
        return Figure(data_uri(inputs[name]), caption)

    def page(name: str) -> Markup:
        return markdown(inputs[name].read_text())

    return [
        Section(
            "claims",
            "What holds at this scale",
            "Each claim of the paper over several seeds, with its interval. A claim that fails stays here.",
            page("claims.md"),
            [
                figure(
                    "claims.png",
                    "Effects as shares of the value before, signed so that above zero is what the claim says. "
                    "Dots: seeds. Lines: 95 % intervals.",
                )
            ],
        ),
        Section(
            "leakage",
            "The diagnosis: leakage over time",
            "A real clip is noised to t, and the network's estimate of the clean clip from that alone is decoded. A "
            "model that leaks copies its condition where the noise is large, and its estimate moves less than what "
            "the noisy clip still tells. How much that is says the perfect denoiser, the mean over all motions that "
            "the scene may have: below it is leakage (or too little training); its own fall is not.",
            csv_table(inputs["leakage.csv"], LEAKAGE_COLUMNS) or Markup("<p>No weights were probed.</p>"),
            [
                figure(
                    "leakage.png",
                    "Motion of one-step predictions over time. Above: as a share of the clip's own. Below: how much of "
                    "the clip's own motion they follow (0: the noisy clip is ignored). Dashed: the perfect denoiser. "
                    "Bands: 95 % over clips. Grey: noise levels that training hardly ever drew, if there are any.",
                ),
                figure(
                    "leakage_strips.png",
                    "One clip (top row, eight of its frames) and its one-step predictions from each t below. The "
                    "perfect denoiser's clip is one of its own scenes.",
                ),
            ],
        ),
        Section(
            "start",
            "Starting earlier: the sweep of M",
            "Sampling that begins at M < T, from the standard start and from Analytic-Init, all else equal.",
            page("start_grid.md"),
            [
                figure(
                    "start_grid.png",
                    "FVD, IS, motion and image alignment over the start. Bands: one spread. Dotted: real clips.",
                )
            ],
        ),
        Section(
            "ucf101",
            "UCF101: original weights, fine-tuned, and both mends",
            "The same conditions for every method. Motion counts only beside alignment and consistency.",
            page("ucf101.md"),
        ),
        Section(
            "table3",
            "Table 3: inference and training strategies",
            "The paper's main table, with the ratings of the user study once it has answers.",
            page("table3.md"),
            [
                figure(
                    "table3.png",
                    "FVD, motion, alignment and consistency of the twelve runs, with real clips and the condition "
                    "image repeated.",
                )
            ],
        ),
        Section(
            "timenoise",
            "The noise on the condition",
            "TimeNoise's shapes and strengths, and what the paper compares it with.",
            page("timenoise.md"),
            [
                figure(
                    "timenoise.png",
                    "Above: the density of TimeNoise's level over the times that each backbone's training draws. "
                    "Below: median levels of every training.",
                )
            ],
        ),
        Section(
            "motion",
            "Motion that is asked for",
            "SVD can be asked for a motion. How far from it is what comes out?",
            page("motion_error.md"),
        ),
        Section(
            "study",
            "The user study",
            "Participants compare two methods' videos of one picture, blinded, on four questions.",
            _study(inputs["ratings"]),
        ),
        Section(
            "compute",
            "What it cost",
            "Device hours of all attempts, the longest job, and the host memory of the largest, from the tracked runs.",
            csv_table(inputs["compute.csv"]) or Markup("<p>No runs were recorded.</p>"),
        ),
    ]


def _study(folder: Path) -> Markup:
    titles = {
        "ratings": "Ratings (1 is best, 4 is worst; 95 % bootstrap intervals)",
        "ranking": "Bradley-Terry ranking",
        "win_rates": "Win rates (95 % Wilson intervals)",
        "answers": "Answer files",
    }
    found = [(title, csv_table(folder / f"{name}.csv")) for name, title in titles.items()]
    if not any(body for _, body in found):
        return Markup("<p>No answers yet: nobody has taken part at this scale.</p>")
    return Markup().join(Markup("<h4>{}</h4>{}").format(title, body) for title, body in found if body)
