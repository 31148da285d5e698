"""A picture of each pattern: queries down, keys across, a cell as dark as the share of its pairs that are
visible, in the colour of the rank that owns the query. Definitions as in kernels/pattern.h."""

import numpy
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch

from figures.labels import pattern_label
from figures.style import GRID, INK, MUTED, PALETTE, NothingToDraw, new_figure

CELLS = 64
SAMPLES = 4  # queries looked at per row of cells
COLUMNS = 6
SHAPE = ("pattern", "causal", "window_left", "window_right", "global_tokens", "segment_length", "memory_length",
         "document_length", "seq_len", "layout", "ranks")  # fmt: skip


def visible_keys(case, query):
    """Two half-open intervals of keys per query: arrays (begin, end, begin, end). Documents are drawn as if
    all had their mean length, since their true starts are not stored."""
    tokens, kind = case["seq_len"], case["pattern"]
    nothing = numpy.zeros_like(query)
    begin, end, second_begin, second_end = nothing, nothing + tokens, nothing, nothing
    if kind in ("local", "global"):
        begin, end = query - case["window_left"], query + case["window_right"] + 1
    if kind == "global":
        tokens_seen_by_all = numpy.minimum(case["global_tokens"], numpy.maximum(0, begin))
        second_end = numpy.where(query < case["global_tokens"], 0, tokens_seen_by_all)
        begin = numpy.where(query < case["global_tokens"], 0, begin)
        end = numpy.where(query < case["global_tokens"], tokens, end)
    if kind in ("segment", "document"):
        length = max(1, case["segment_length"] if kind == "segment" else case["document_length"])
        begin = query // length * length
        end = begin + length
        begin = begin - (case["memory_length"] if kind == "segment" else 0)
    if case.get("causal") or kind == "segment":
        end = numpy.minimum(end, query + 1)  # the second interval lies before the window anyway
    return numpy.clip([begin, end, second_begin, second_end], 0, tokens)


def coverage(case):
    """(cells, cells): the share of each cell's pairs that are visible, in [0, 1]."""
    tokens = int(case["seq_len"])
    cells = min(CELLS, tokens)
    edges = numpy.arange(cells + 1) * tokens / cells
    queries = ((numpy.arange(cells * SAMPLES) + 0.5) * tokens / (cells * SAMPLES)).astype(numpy.int64)
    begin, end, second_begin, second_end = visible_keys(case, queries)[:, :, None]
    width = tokens / cells

    def overlap(low, high):
        return numpy.clip(numpy.minimum(high, edges[1:]) - numpy.maximum(low, edges[:-1]), 0, width)

    seen = overlap(begin, end) + overlap(second_begin, second_end)
    return (seen / width).reshape(cells, SAMPLES, cells).mean(axis=1)


def owner(case, cells):
    """The rank that owns each row of cells; `striped` is drawn much coarser than it is."""
    ranks, row = int(case.get("ranks", 1)), numpy.arange(cells)
    if case.get("layout") == "striped":
        return row // 2 % ranks
    if case.get("layout") == "zigzag":
        chunk = row * 2 * ranks // cells
        return numpy.where(chunk < ranks, chunk, 2 * ranks - 1 - chunk)
    return row * ranks // cells


def draw(results):
    summary = results.summary
    needed = {"pattern", "seq_len", "window_left", "window_right"}
    if not needed <= set(summary) or not len(summary):
        raise NothingToDraw("the summary has no patterns")
    if "ranks" in summary and (summary["ranks"] > 1).any():
        # The smallest division shows the principle best.
        summary = summary[summary["ranks"] == summary["ranks"][summary["ranks"] > 1].min()]
    cases = summary.drop_duplicates([name for name in SHAPE if name in summary]).to_dict("records")
    cases.sort(key=lambda case: summary["pattern"].tolist().index(case["pattern"]))
    rows = -(-len(cases) // COLUMNS)
    columns = -(-len(cases) // rows)
    figure = new_figure(2.15 * rows + 0.45, width=max(6.0, 1.65 * columns))
    for number, case in enumerate(cases):
        axes = figure.add_subplot(rows, columns, number + 1)
        _draw_one(axes, case)
    ranks = int(max(case.get("ranks", 1) for case in cases))
    handles = [
        Patch(color=PALETTE[rank % len(PALETTE)], label=f"rank {rank}") for rank in range(min(ranks, len(PALETTE)))
    ]
    if ranks > len(PALETTE):
        handles.append(Patch(color="none", label="and so on, colours repeat"))
    figure.legend(handles=handles, loc="outside lower left", ncols=len(handles), fontsize=9)
    return figure


def _draw_one(axes, case):
    seen = coverage(case)
    cells = seen.shape[0]
    owners = owner(case, cells)
    image = numpy.zeros((cells, cells, 4))
    image[:, :, :3] = numpy.array([to_rgb(PALETTE[rank % len(PALETTE)]) for rank in owners])[:, None, :]
    # A window may be thinner than a cell and must still be seen.
    image[:, :, 3] = numpy.where(seen > 0, 0.35 + 0.65 * seen, 0)
    axes.imshow(image, extent=(0, cells, cells, 0), interpolation="nearest")
    if case.get("layout") != "striped":
        for edge in numpy.flatnonzero(numpy.diff(owners)) + 1:
            axes.axhline(edge, color=MUTED, linewidth=0.6)
            axes.axvline(edge, color=MUTED, linewidth=0.6)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(GRID)
    name, _, parameters = pattern_label(case).partition(" ")
    axes.set_title(f"{name}\n{parameters}", fontsize=8.5, pad=3, color=INK)
    axes.set_xlabel(f"{case.get('layout', '')} · {100 * seen.mean():.3g} %", fontsize=8, labelpad=3)
