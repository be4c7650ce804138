"""The claims as a table, in words, and as intervals side by side."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.claims.seed_file import SeedResult
from pipeline.claims.verdicts import CONTRADICTED, HOLDS, NOT_SHOWN, Verdict
from pipeline.reporting import page
from pipeline.reporting.numbers import plain
from pipeline.reporting.pyplot import pyplot
from pipeline.reporting.rows import BACKBONES

TITLES = {
    "a": "Leakage: the gap to the perfect denoiser",
    "b": "A smaller M raises motion",
    "c": "Analytic-Init against the standard start at the same M",
    "d": "TimeNoise against the naive fine-tune",
    "e": "Both mends together against the naive fine-tune",
}
COLOURS = {HOLDS: "#1f7a4d", CONTRADICTED: "#b3261e", NOT_SHOWN: "#7a828c"}


def claim_verdict(lines: Sequence[Verdict]) -> str:
    """A whole claim in words: it holds only where every line does; premises do not count."""
    found = {item.verdict for item in lines if not item.line.premise}
    if found == {HOLDS}:
        return "holds"
    if HOLDS in found:
        return "holds in part"
    return "does not hold"


def claims_csv(verdicts: Sequence[Verdict], seeds: Sequence[SeedResult]) -> str:
    """A line each: claim, what is compared, where it is shown, effect, interval, verdict, and each seed's effect."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        [
            "claim", "premise", "statement", "regime", "measure", "unit", "shown_in", "before", "after", "effect",
            "low", "high", "verdict", "seeds", "seeds_in_favour", *(f"seed_{seed.seed}" for seed in seeds),
        ]
    )  # fmt: skip
    for item in verdicts:
        line, numbers = item.line, [item.first, item.second, item.effect, item.low, item.high]
        writer.writerow(
            [
                line.claim, "yes" if line.premise else "", line.statement, line.regime, line.measure, line.unit,
                line.shown_in,
                *(_number(number) for number in numbers), item.verdict, len(seeds),
                sum(effect > 0 for effect in item.effects), *(plain(effect) for effect in item.effects),
            ]
        )  # fmt: skip
    return out.getvalue()


def _number(value: float) -> str:
    """Empty where there is none: the error of a perfect denoiser of one scene is unknown, and so is the interval."""
    return plain(value) if math.isfinite(value) else ""


def _interval(item: Verdict) -> str:
    return f"{item.low:+.3g} to {item.high:+.3g}" if math.isfinite(item.low) else "unknown"


def claims_page(verdicts: Sequence[Verdict], seeds: Sequence[SeedResult], design, demo: bool) -> str:
    """What holds and what does not, first in words, then in numbers."""
    mark = " (demo)" if demo else ""
    count, few = len(seeds), design.few
    intro = (
        f"{BACKBONES[design.backbone]}, {count} seeds ({', '.join(str(seed.seed) for seed in seeds)}), "
        f"{seeds[0].clips} test clips. A seed draws everything anew: the start that is trained from nothing, the order "
        "of clips, all noises. Settings were tuned on other seeds and frozen before these ran. **An "
        "effect above zero is what the claim says**; it holds where its 95 % interval over seeds lies above zero, is "
        "contradicted where it lies below, and is not shown where zero lies in it. Lines are not corrected for their "
        "number."
    )
    regimes = (
        f"all clips: the fine-tuning of the other tables. few clips: {few.steps} steps at {few.learning_rate:g} on "
        f"{few.clips} clips that the seed draws, a regime in which a naive model memorises; it was looked for after "
        "TimeNoise had shown no gain in FVD on all clips. "
        f"M: {design.starts.mend:g}; far smaller M: {design.starts.early:g}. "
        f"Probe times: {', '.join(f'{time:g}' for time in design.probe_times)}."
    )
    sections = [f"# Claims of the paper{mark}", intro, regimes, "## In words", _words(verdicts)]
    for claim, lines in _by_claim(verdicts).items():
        sections += [f"## ({claim}) {TITLES[claim]}: {claim_verdict(lines)}{mark}", _table(lines)]
    sections.append(
        "- before, after: means over seeds of what is compared. effect: after minus before, or the reverse where less "
        "is better.\n- The interval is Student's t over seeds on the same test clips, detectors and encoders; for the "
        "gap to the perfect denoiser the standard errors over its scenes and over the probe's clips are added."
    )
    sections += ["## How these numbers were made", _provenance(seeds[0].provenance)]
    return "\n\n".join(sections) + "\n"


def _by_claim(verdicts: Sequence[Verdict]) -> Mapping[str, list[Verdict]]:
    found: dict[str, list[Verdict]] = {claim: [] for claim in TITLES}
    for item in verdicts:
        found[item.line.claim].append(item)
    return {claim: lines for claim, lines in found.items() if lines}


def _words(verdicts: Sequence[Verdict]) -> str:
    """A sentence a claim, with what fails named as plainly as what holds."""
    said = []
    for claim, lines in _by_claim(verdicts).items():
        parts = [
            f"{words}: " + "; ".join(f"{item.line.measure} ({item.line.regime})" for item in own)
            for verdict, words in ((HOLDS, "Holds"), (CONTRADICTED, "Contradicted"), (NOT_SHOWN, "Not shown"))
            if (own := [item for item in lines if item.verdict == verdict and not item.line.premise])
        ]
        parts += [
            f"Premise {'holds' if item.verdict == HOLDS else 'not shown'}: {item.line.statement}"
            for item in lines
            if item.line.premise
        ]
        said.append(f"- **({claim}) {TITLES[claim]}: {claim_verdict(lines)}.** {'. '.join(parts)}.")
    return "\n".join(said)


def _table(lines: Sequence[Verdict]) -> str:
    header = ["statement", "regime", "measure", "before", "after", "effect", "95 % interval", "seeds for it", "verdict"]
    return page.table(
        header,
        [
            [
                item.line.statement, item.line.regime, f"{item.line.measure}, {item.line.unit}",
                plain(item.first, 3), plain(item.second, 3), f"{item.effect:+.3g}",
                _interval(item),
                f"{sum(effect > 0 for effect in item.effects)} of {len(item.effects)}",
                f"**{item.verdict}**{' (premise)' if item.line.premise else ''}",
            ]
            for item in lines
        ],
    )  # fmt: skip


def _provenance(provenance: Sequence[dict]) -> str:
    return "\n".join(
        f"- {page.ROLE_TITLES[entry['role']]}: {entry['name']} `{entry['hash'][:12]}`, {entry['protocol']}."
        for entry in provenance
    )


def draw_claims(path: Path, verdicts: Sequence[Verdict]) -> None:
    """Write a PNG: a line a comparison, its effect as a share of the value before, its interval, and a dot a seed."""
    plot = pyplot()
    figure, axis = plot.subplots(figsize=(9, 0.3 * len(verdicts) + 1.4), layout="constrained")
    for place, item in enumerate(verdicts):
        scale, y = 100 / abs(item.first), -place
        colour = COLOURS[item.verdict]
        axis.plot([item.low * scale, item.high * scale], [y, y], color=colour, linewidth=2.2, solid_capstyle="round")
        axis.plot([effect * scale for effect in item.effects], [y] * len(item.effects), ".", color=colour, alpha=0.45)
        axis.plot(item.effect * scale, y, "o", color=colour, markersize=6)
    labels = [
        f"({item.line.claim}{', premise' if item.line.premise else ''}) {item.line.measure}, {item.line.regime}"
        for item in verdicts
    ]
    axis.set_yticks([-place for place in range(len(verdicts))], labels, fontsize=8)
    axis.set_ylim(0.7 - len(verdicts), 0.7)
    axis.set_xscale("symlog", linthresh=10)
    limits = axis.get_xlim()
    ticks = (-300, -100, -30, -10, 0, 10, 30, 100, 300, 1000)
    axis.set_xticks(ticks, [f"{tick:+d}" if tick else "0" for tick in ticks], fontsize=8)
    axis.set_xlim(limits)
    axis.minorticks_off()
    axis.axvline(0, color="#999999", linewidth=0.8)
    axis.grid(axis="x", color="#eeeeee", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.set_xlabel("effect, % of the value before (above zero: as claimed)", fontsize=9)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    for verdict, colour in COLOURS.items():
        axis.plot([], [], "o-", color=colour, label=verdict)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plot.close(figure)
