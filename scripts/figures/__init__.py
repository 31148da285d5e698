"""The figures, one file each, in the order in which a report shows them. A new figure is one file with a
function draw(results, ...) that returns a matplotlib Figure or raises NothingToDraw, and one row here."""

from collections.abc import Callable
from typing import NamedTuple

from figures import breakdown, distribution, efficiency, exchange, patterns, roofline, scaling, timeline
from figures.style import NothingToDraw, to_svg

__all__ = ["FIGURES", "FigureRow", "NothingToDraw", "to_svg"]


class FigureRow(NamedTuple):
    name: str  # the sub-command of plot.py
    title: str
    caption: str
    draw: Callable
    options: tuple = ()  # (flag, argparse keywords) of plot.py


FIGURES = (
    FigureRow(
        "efficiency",
        "Fraction of the peak",
        "Mask-exact FLOPs over the median time, against the fused multiply-add rate that the same ranks and threads"
        " reached in the same job. Nothing can pass its bound; a diamond is what the layout's load balance allows.",
        efficiency.draw,
    ),
    FigureRow(
        "patterns",
        "Who sees whom, and who owns it",
        "Queries go down, keys go across; colour is the rank that owns the query, lines are the shards' edges. The"
        " number is the share of all pairs that is visible. Striped shards alternate token by token"
        " and are drawn coarser.",
        patterns.draw,
    ),
    FigureRow(
        "breakdown",
        "Where each rank's time goes",
        "Medians over the repetitions. Waiting at equal compute is exchange that was not hidden; waiting on a rank"
        " with less compute is imbalance.",
        breakdown.draw,
        (("--case", dict(type=int, metavar="N", help="one case, in seconds per rank (default: all, as shares)")),),
    ),
    FigureRow(
        "timeline",
        "One repetition, step by step",
        "Messages travel while tiles are computed; what waiting is left was not hidden, or is for a rank that is late.",
        timeline.draw,
        (("--case", dict(type=int, metavar="N", help="one case (default: that of most steps)")),),
    ),
    FigureRow(
        "distribution",
        "Every repetition",
        "Each point is one repetition, the slowest rank's time. Medians and their intervals come from these; no"
        " outlier is removed, warm-up is kept and not counted.",
        distribution.draw,
    ),
    FigureRow(
        "roofline",
        "Arithmetic or exchange",
        "A case under the sloped line is limited by what ranks send each other, one under the flat line by arithmetic.",
        roofline.draw,
    ),
    FigureRow(
        "scaling",
        "Scaling",
        "Cases that differ only in the number of ranks, from the files given together.",
        scaling.draw,
        (("--kind", dict(choices=("strong", "weak"), default="strong", help="weak: tokens grow with the ranks")),),
    ),
    FigureRow(
        "exchange",
        "Exchange between ranks, calibrated",
        "What a message of each size reaches when nothing else is done.",
        exchange.draw,
    ),
)
