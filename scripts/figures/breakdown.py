"""Where the time of each rank goes: compute, communication, waiting, merging. Medians over repetitions."""

import numpy

from figures.labels import case_label, case_labels, varying_options
from figures.style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PAPER,
    SKY,
    NothingToDraw,
    legend_above,
    new_figure,
    row_axes,
    si,
)

PHASES = (  # phase, label, colour, hatch
    ("compute", "compute", BLUE, ""),
    ("communication", "communication (posting, progress)", ORANGE, "////"),
    ("waiting", "waiting", SKY, "...."),
    ("merging", "merging", GREEN, "xxxx"),
    ("rest", "rest of the total", MUTED, ""),
)
ALL_RANKS = 4  # of an overview: with more ranks only the lightest, the middle and the heaviest are shown


def phase_medians(case):
    """Phase -> seconds per rank, median over the repetitions that count; `rest` is what no phase explains."""
    samples = case["samples"]
    if "warmup" in case:
        warmup = case["warmup"].max("rank") if "rank" in case["warmup"].dims else case["warmup"]
        samples = samples.isel(repetition=warmup.values == 0)
    medians = samples.median("repetition")
    phases = {str(phase): medians.sel(phase=phase).values for phase in medians["phase"].values}
    total = phases.pop("total")
    phases["rest"] = numpy.maximum(0, total - sum(phases.values()))
    return phases, total


def draw(results, case=None):
    """One case in seconds, or, without `case`, all of them as shares of their slowest rank's time."""
    if not len(results.summary):
        raise NothingToDraw("no case is finished")
    return draw_overview(results) if case is None else draw_case(results, case)


def draw_case(results, row):
    phases, total = phase_medians(results.case(row))
    case = results.summary.loc[row].to_dict()
    figure = new_figure(4.2)
    axes = figure.add_subplot()
    ranks = numpy.arange(total.size)
    many = total.size > 32
    bottom = numpy.zeros(total.size)
    for phase, label, colour, hatch in PHASES:
        seconds = 1e3 * phases.get(phase, 0 * total)
        axes.bar(ranks, seconds, bottom=bottom, width=1.0 if many else 0.7, color=colour, label=label,
                 hatch="" if many else hatch,
                 edgecolor=colour if many else PAPER, linewidth=0 if many else 0.6)  # fmt: skip
        bottom += seconds
    axes.axhline(1e3 * total.max(), color=INK, linewidth=1, linestyle=":")
    axes.text(0.999, 1e3 * total.max(), f"slowest rank {si(total.max(), 's')}",
              transform=axes.get_yaxis_transform(), ha="right", va="bottom", fontsize=9)  # fmt: skip
    if case.get("bound_time") and numpy.isfinite(case["bound_time"]):
        axes.axhline(1e3 * case["bound_time"], color=INK, linewidth=1.4, linestyle="--", label="bound")
    axes.set_ylim(0, 1.12e3 * total.max())
    axes.set_xlabel("rank")
    axes.set_ylabel("time, ms (median over repetitions)")
    if total.size <= 32:
        axes.set_xticks(ranks)
    compute = phases.get("compute", total)
    axes.set_title(f"{case_label(case, varying_options(results.summary))}: computing, max/mean over ranks is"
                   f" {compute.max() / compute.mean():.2f}")  # fmt: skip
    legend_above(axes, columns=6)
    return figure


def draw_overview(results):
    summary = results.summary
    bars, ticks, labels = [], [], []
    for row, label in zip(summary.index, case_labels(summary)):
        phases, total = phase_medians(results.case(row))
        shown = numpy.arange(total.size)
        if total.size > ALL_RANKS:
            shown = numpy.argsort(phases.get("compute", total))[[0, total.size // 2, -1]]
        height = 0.8 / shown.size
        for index, rank in enumerate(shown):
            bars.append((row - 0.4 + (index + 0.5) * height, height, phases, rank, total))
        ticks.append(row)
        labels.append(label)
    figure, axes = row_axes(len(summary), row_height=0.42)
    for phase, label, colour, hatch in PHASES:
        left = [100 * sum(numpy.ravel(phases.get(p[0], 0 * total))[rank] for p in PHASES[: _index(phase)]) / total.max()
                for _, _, phases, rank, total in bars]  # fmt: skip
        width = [100 * phases.get(phase, 0 * total)[rank] / total.max() for _, _, phases, rank, total in bars]
        axes.barh([bar[0] for bar in bars], width, left=left, height=[0.92 * bar[1] for bar in bars], color=colour,
                  hatch=hatch, edgecolor=PAPER, linewidth=0.4, label=label)  # fmt: skip
    for y, height, _, rank, _ in bars:
        if height > 0.15:
            axes.text(-0.6, y, f"{rank}", ha="right", va="center", fontsize=6.5, color=MUTED)
    axes.set_yticks(ticks, labels)
    axes.tick_params(axis="y", pad=14)
    axes.set_xlim(0, 101)
    axes.set_xlabel("time of each rank, % of the slowest")
    legend_above(axes, columns=5)
    return figure


def _index(phase):
    return [row[0] for row in PHASES].index(phase)
