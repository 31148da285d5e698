"""One repetition, step by step, a row for each rank: what overlap hides, and who waits for whom."""

import numpy

from figures.breakdown import PHASES
from figures.labels import case_label, varying_options
from figures.style import MUTED, PAPER, NothingToDraw, legend_above, new_figure

MOST_RANKS = 32  # of more, every n-th is shown


def draw(results, case=None):
    """One case; without `case` the one of most steps."""
    rows = [row for row in results.summary.index if "timeline" in results.case(row)]
    if case is None:
        rows.sort(key=lambda row: results.case(row)["timeline"].sizes["step"], reverse=True)
    elif case in results.summary.index:
        rows = [case] if case in rows else []
    if not rows:
        raise NothingToDraw("no case has a timeline; files of schema 1.1 on have one")
    timeline = results.case(rows[0])["timeline"]
    ranks = timeline.sizes["rank"]
    shown = numpy.unique(numpy.linspace(0, ranks - 1, min(ranks, MOST_RANKS)).astype(int))
    figure = new_figure(1.7 + 0.42 * shown.size)
    axes = figure.add_subplot()
    for phase, label, colour, hatch in PHASES[:-1]:
        for row, rank in enumerate(shown):
            start, end = spans(timeline.isel(rank=rank))[phase]
            bars = [(1e3 * a, 1e3 * (b - a)) for a, b in zip(start, end) if b > a]
            axes.broken_barh(bars, (row - 0.36, 0.72), facecolor=colour, edgecolor=PAPER, linewidth=0.3, hatch=hatch,
                             label=label if row == 0 else None)  # fmt: skip
    for begin in 1e3 * timeline.sel(moment="begin").isel(rank=0).values:
        axes.axvline(begin, color=MUTED, linewidth=0.5, linestyle=":")
    axes.set_ylim(shown.size - 0.4, -0.6)
    axes.set_yticks(range(shown.size), [f"rank {rank}" for rank in shown])
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 1e3 * numpy.nanmax(timeline.values))
    axes.set_xlabel("time in the last repetition, ms (dotted: steps of the first rank)")
    label = case_label(results.summary.loc[rows[0]].to_dict(), varying_options(results.summary))
    axes.set_title(label)
    legend_above(axes, columns=4)
    return figure


def spans(rank):
    """Phase -> (starts, ends) of a rank's steps. Without overlap messages are there before tiles are computed."""
    begin, posted, computed, waited, joined = (
        rank.sel(moment=name).values for name in ("begin", "posted", "computed", "waited", "joined")
    )
    overlap = waited >= computed
    return {
        "communication": (begin, posted),
        "compute": (numpy.where(overlap, posted, waited), computed),
        "waiting": (numpy.where(overlap, computed, posted), waited),
        "merging": (numpy.maximum(computed, waited), joined),
    }
