"""How every figure looks: colours that the colour-blind tell apart (Okabe and Ito), hatches and markers that
survive a black-and-white printer, units in prefixes that people read."""

import io
import math
import re

import matplotlib
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

# Placeholders as much as colours: inlined in a page they become its CSS variables, light or dark.
INK, MUTED, GRID, PAPER = "#1b1d23", "#6a6f7a", "#d9dbe1", "#fefefe"
CSS_VARIABLES = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)", PAPER: "var(--paper)"}

BLUE, ORANGE, GREEN, VERMILLION, SKY, PURPLE, YELLOW = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442",
)  # fmt: skip
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILLION, YELLOW)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
WIDTH = 9.6  # inches, of a figure as wide as the page

matplotlib.rcParams.update({
    "font.family": "sans-serif", "font.size": 10, "svg.fonttype": "none", "svg.hashsalt": "longseq",
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": MUTED, "xtick.color": MUTED, "ytick.color": MUTED,
    "xtick.labelcolor": INK, "ytick.labelcolor": INK, "grid.color": GRID, "grid.linewidth": 0.7,
    "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10.5, "axes.titlelocation": "left",
    "axes.axisbelow": True, "legend.frameon": False, "hatch.linewidth": 0.7, "savefig.dpi": 160,
    "figure.facecolor": "white",
})  # fmt: skip


class NothingToDraw(Exception):
    """The results lack what a figure shows; the message says what."""


def new_figure(height, width=WIDTH):
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.08)
    return figure


def row_axes(rows, extra=1.35, row_height=0.34):
    """A figure of horizontal rows, the first at the top: (figure, axes)."""
    figure = new_figure(rows * row_height + extra)
    axes = figure.add_subplot()
    axes.set_ylim(rows - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    return figure, axes


def legend_above(axes, columns=4):
    """The legend above the axes, where it covers no data."""
    handles, _ = axes.get_legend_handles_labels()
    handles.sort(key=lambda handle: not isinstance(handle, BarContainer))
    axes.figure.legend(handles=handles, loc="outside upper left", ncols=columns, handlelength=1.8, columnspacing=1.6,
                       fontsize=9)  # fmt: skip


def si(value, unit="", digits=3):
    """1.5e11, "FLOP/s" -> "150 GFLOP/s"; seconds get ms, µs, ns. A dash for what is not known."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return f"0 {unit}".strip()
    exponent = max(-9, min(15, 3 * math.floor(math.log10(abs(value)) / 3 + 1e-9)))
    if unit in ("FLOP", "B", "") and exponent < 0 or unit == "s" and exponent > 0:
        exponent = 0
    scaled = f"{value / 10.0**exponent:.{digits}g}"
    if "e" in scaled:
        scaled = f"{value / 10.0**exponent:.0f}"
    prefix = {-9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P"}[exponent]
    return f"{scaled} {prefix}{unit}".strip()


def percent(value, digits=1):
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f} %"


def to_svg(figure, title):
    """The figure as an <svg> element for a page: the page's font, its colours, no fixed size."""
    buffer = io.StringIO()
    # Ids (clip paths, markers) must differ between the figures of one page.
    with matplotlib.rc_context({"svg.hashsalt": title}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg [^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg [^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--font)", svg)
    for colour, variable in CSS_VARIABLES.items():
        svg = svg.replace(colour, variable)
    return svg
