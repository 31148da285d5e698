"""FLOP rate over arithmetic intensity on the wire: is a case bound by arithmetic or by the exchange? The
ceilings are those of the calibration in the same job (Williams, Waterman and Patterson, CACM 2009)."""

import numpy
from matplotlib.ticker import LogLocator

from figures.style import INK, MARKERS, PALETTE, VERMILLION, NothingToDraw, new_figure, si


def draw(results):
    summary = results.summary
    needed = {"flops", "flop_rate", "bytes_sent", "fma_peak", "holds"}
    if not needed <= set(summary):
        raise NothingToDraw(f"the summary lacks {', '.join(sorted(needed - set(summary)))}")
    cases = summary[summary["holds"] & (summary["bytes_sent"] > 0)]
    if not len(cases):
        raise NothingToDraw("no case that holds its verdict sent anything (one rank sends nothing)")
    figure = new_figure(5.0)
    axes = figure.add_subplot()
    intensity = cases["flops"] / cases["bytes_sent"]
    peak = float(cases["fma_peak"].max())
    bandwidths = _bandwidths(results)
    ridge = [peak / value for _, value, _ in bandwidths]
    span = numpy.array([min([intensity.min(), *ridge]) / 3, max([intensity.max(), *ridge]) * 3])
    for label, bandwidth, dashes in bandwidths:
        x = numpy.array([span[0], peak / bandwidth])
        axes.plot(
            x,
            x * bandwidth,
            color=VERMILLION,
            linewidth=1.8,
            linestyle=dashes,
            label=f"{label}, {si(bandwidth, 'B/s')}",
        )
    axes.plot(
        [min([*ridge, span[1]]), span[1]],
        [peak, peak],
        color=INK,
        linewidth=1.8,
        label=f"FMA peak, {si(peak, 'FLOP/s')}",
    )
    groups = cases.groupby([name for name in ("pattern", "strategy") if name in cases], sort=False)
    for number, (names, group) in enumerate(groups):
        axes.plot(intensity[group.index], group["flop_rate"], MARKERS[number % len(MARKERS)], markersize=8,
                  label=" · ".join(names),
                  color=PALETTE[number % len(PALETTE)], markeredgecolor=INK, markeredgewidth=0.6)  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(span)
    axes.set_ylim(top=peak * 2, bottom=min(cases["flop_rate"].min() / 2, peak / 20))
    axes.grid(which="major")
    axes.set_xlabel("FLOPs per byte sent to other ranks")
    axes.set_ylabel("FLOP/s, all ranks together")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: si(value))
        axis.set_minor_formatter("")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9)
    return figure


def _bandwidths(results):
    """(label, B/s of all ranks together, line style) of each ceiling that the calibration holds."""
    calibration = results.calibration
    ranks = int(calibration.sizes.get("rank", results.summary["ranks"].max() if "ranks" in results.summary else 1))
    lines = []
    if "triad_bandwidth" in calibration:
        lines.append(("memory (triad), for scale", float(calibration["triad_bandwidth"].sum()), "--"))
    if "ring_shift_bandwidth" in calibration:
        best = float(numpy.nanmax(calibration["ring_shift_bandwidth"].values))
        if numpy.isfinite(best):
            lines.append(("exchange (ring shift)", ranks * best, "-"))
    return lines
