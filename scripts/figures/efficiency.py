"""Each case's rate as a fraction of the FMA peak measured in the same job, with the bounds it cannot pass."""

import numpy

from figures.labels import case_labels, failed_axes
from figures.style import BLUE, INK, MUTED, VERMILLION, NothingToDraw, legend_above, percent, row_axes


def draw(results):
    summary = results.summary
    if "fraction_of_peak" not in summary:
        raise NothingToDraw("no fraction of the FMA peak in the summary")
    figure, axes = row_axes(len(summary))
    rows = numpy.arange(len(summary))
    # The figure of merit of a case whose verdict does not hold is not shown.
    fraction = summary["fraction_of_peak"].where(summary["holds"])
    axes.barh(rows, 100 * fraction.fillna(0), height=0.62, color=BLUE, label="measured")
    if {"median_time", "interval_low", "interval_high"} <= set(summary):
        slow = fraction * summary["median_time"] / summary["interval_high"]
        fast = fraction * summary["median_time"] / summary["interval_low"]
        axes.errorbar(100 * fraction, rows, xerr=[100 * (fraction - slow), 100 * (fast - fraction)], fmt="none",
                      ecolor=INK, elinewidth=1.1, capsize=2.5, label="95 % interval of the median")  # fmt: skip
    if "fraction_of_bound" in summary:
        bound = summary["fraction_of_peak"] / summary["fraction_of_bound"]
        axes.scatter(100 * bound, rows, marker="|", s=190, linewidths=2.2, color=VERMILLION, zorder=3,
                     label="bound: max(FLOPs / peak, bytes / bandwidth)")  # fmt: skip
    if "balance_ceiling" in summary and (summary["balance_ceiling"] < 0.999).any():
        ceiling = summary["balance_ceiling"].where(summary["balance_ceiling"] < 0.999)
        axes.scatter(100 * ceiling, rows, marker="D", s=26, facecolor="none", edgecolor=INK, linewidths=1.2, zorder=3,
                     label="ceiling of the layout's load balance")  # fmt: skip
    for row, case in zip(rows, summary.to_dict("records")):
        held = case["holds"] and numpy.isfinite(case["fraction_of_peak"])
        text = percent(case["fraction_of_peak"]) if held else f"withheld: {failed_axes(case) or 'no figure'}"
        axes.text(100 * case["fraction_of_peak"] + 1.2 if held else 0.8, row, text, va="center", fontsize=9,
                  color=INK if held else MUTED, style="normal" if held else "italic", zorder=4,
                  bbox=dict(facecolor="none", edgecolor="none", pad=1))  # fmt: skip
    axes.set_yticks(rows, case_labels(summary))
    axes.set_xlim(0, max(104.0, 100 * float(numpy.nanmax(fraction.fillna(0))) + 8))
    axes.set_xlabel("FLOP rate, % of the FMA peak of all ranks together")
    legend_above(axes, columns=2)
    return figure
