"""How many times longer each peer takes than longseq for the same case, from the table of scripts/peers.py."""

import numpy
import pandas

from figures.labels import case_labels, common_options
from figures.style import INK, MARKERS, PALETTE, VERMILLION, NothingToDraw, row_axes

TARGET = 1.3  # what longseq sets out to be ahead by
TICKS = (0.1, 0.2, 0.5, 0.7, 1, 1.3, 2, 3, 5, 10, 20, 50, 100, 200, 500)


def draw(rows, titles):
    """rows: those of peer_table.rows; titles: peer -> its name in the legend."""
    table = pandas.DataFrame(rows)
    if "ratio" not in table or not table["ratio"].notna().any():
        raise NothingToDraw("no peer was timed beside longseq")
    measured = table[table["ratio"].notna()]
    cases = table[table["case"].isin(measured["case"])].groupby("case", as_index=False, sort=False).first()
    figure, axes = row_axes(len(cases), extra=1.9)
    places = dict(zip(cases["case"], range(len(cases))))
    names = [name for name in titles if name in set(measured["peer"])]
    handles = []
    for number, (name, offset) in enumerate(zip(names, 0.2 * (numpy.arange(len(names)) - (len(names) - 1) / 2))):
        of_peer = measured[measured["peer"] == name]
        ratio = of_peer["ratio"]
        handles.append(
            axes.errorbar(ratio, of_peer["case"].map(places) + offset, fmt=MARKERS[number], color=PALETTE[number],
                          xerr=[ratio - of_peer["ratio_low"], of_peer["ratio_high"] - ratio], ecolor=INK,
                          elinewidth=1.1, capsize=2.5, markersize=6.5, markeredgecolor=INK, markeredgewidth=0.5,
                          label=titles[name], zorder=3))  # fmt: skip
    handles.append(axes.axvline(1, color=INK, linewidth=1.2, label="as fast as longseq"))
    label = f"{TARGET:g} times longseq's time"
    handles.append(axes.axvline(TARGET, color=VERMILLION, linewidth=1.4, linestyle="--", label=label))
    low = min(0.8, measured["ratio_low"].min() / 1.1)
    high = max(1.6, measured["ratio_high"].max() * 1.1)
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_xticks([tick for tick in TICKS if low <= tick <= high], minor=False)
    axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_yticks(range(len(cases)), case_labels(cases) + numpy.where(cases["clean"], "", " (not clean)"))
    axes.set_xlabel("time over longseq's (median of the rounds' ratios, 95 % interval)\n" + common_options(cases))
    figure.legend(handles=handles, loc="outside upper left", ncols=2, fontsize=9, handlelength=1.8, columnspacing=1.6)
    return figure
