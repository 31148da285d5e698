"""Every repetition's time beside its case's median: the spread that a mean would hide."""

import numpy

from figures.labels import case_labels
from figures.style import INK, MUTED, SKY, VERMILLION, NothingToDraw, legend_above, row_axes, si
from longseq_results import samples_total


def draw(results):
    summary = results.summary
    if not len(summary):
        raise NothingToDraw("no case is finished")
    figure, axes = row_axes(len(summary))
    jitter = numpy.random.default_rng(1)
    spread, medians, warmups = [], [], []
    for row in summary.index:
        total, warmup = samples_total(results.case(row))
        median = numpy.median(total[~warmup])
        relative = 100 * (total / median - 1)
        medians.append(median)
        warmups += [(value, row) for value in relative[warmup]]
        relative = relative[~warmup]
        spread.append(numpy.abs(relative).max())
        axes.boxplot([relative], positions=[row], orientation="horizontal", widths=0.55, showfliers=False,
                     patch_artist=True, whis=(0, 100), manage_ticks=False,
                     boxprops=dict(facecolor=SKY, edgecolor=MUTED, alpha=0.45),
                     medianprops=dict(color=VERMILLION, linewidth=2), whiskerprops=dict(color=MUTED),
                     capprops=dict(color=MUTED))  # fmt: skip
        axes.plot(relative, row + jitter.uniform(-0.2, 0.2, relative.size), "o", markersize=3.2, color=INK,
                  markeredgewidth=0, alpha=0.75, label="repetition" if row == 0 else None)  # fmt: skip
    limit = max(2.6, 1.15 * max(spread))
    for row in summary.index:
        text = si(medians[row], "s") if summary.at[row, "holds"] else "withheld"
        axes.text(1.015, row, text, transform=axes.get_yaxis_transform(), va="center", fontsize=9)
    inside = [(value, row) for value, row in warmups if abs(value) <= limit]
    if inside:
        axes.plot(*zip(*inside), "o", markersize=4.2, markerfacecolor="none", color=MUTED, label="warm-up, not counted")
    outside = [row for value, row in warmups if value > limit]
    if outside:
        axes.plot([0.99 * limit] * len(outside), outside, ">", markersize=5, markerfacecolor="none", color=MUTED,
                  clip_on=False, label="warm-up beyond the axis, not counted")  # fmt: skip
    axes.axvspan(-2, 2, color=MUTED, alpha=0.12, linewidth=0, label="±2 %", zorder=0)
    axes.set_xlim(-limit, limit)
    axes.set_yticks(list(summary.index), case_labels(summary))
    axes.set_xlabel("time of a repetition (the slowest rank's), % above its case's median; right: that median")
    legend_above(axes)
    return figure
