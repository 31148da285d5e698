"""The same work on more ranks (strong), or work that grows with them (weak): time and efficiency, the ideal
and the ceilings. Each file is one launch, so several files make the curve."""

import numpy
from matplotlib.ticker import LogLocator, NullFormatter

from figures.labels import IDENTITY, case_label, varying_options
from figures.style import INK, MARKERS, MUTED, PALETTE, NothingToDraw, new_figure

FREE = {"strong": ("ranks",), "weak": ("ranks", "seq_len", "batch")}


def series(summary, kind):
    """[(label, table sorted by ranks)]: cases equal in all options but those that `kind` leaves free."""
    cases = summary[summary["holds"]] if "holds" in summary else summary
    fixed = [name for name in IDENTITY if name in cases and name not in FREE[kind]]
    if not len(cases) or "ranks" not in cases or "median_time" not in cases:
        return []
    varying = {name: usual for name, usual in varying_options(cases).items() if name not in FREE[kind]}
    found = []
    for _, group in cases.groupby(fixed, dropna=False, sort=False):
        group = group.sort_values("ranks")
        if kind == "weak":
            group = _tokens_grow_with_ranks(group)
        group = group.groupby("ranks", as_index=False).first()
        if len(group) > 1:
            found.append((case_label(group.iloc[0].to_dict(), varying), group))
    return found


def draw(results, kind="strong"):
    found = series(results.summary, kind)
    if not found:
        wanted = "the same cases" if kind == "strong" else "cases whose tokens grow with the ranks"
        raise NothingToDraw(f"{kind} scaling needs files with {wanted} at two numbers of ranks or more")
    figure = new_figure(4.6 + 0.19 * len(found))
    time_axes, share_axes = figure.subplots(1, 2)
    handles = []
    for number, (label, cases) in enumerate(found):
        style = dict(color=PALETTE[number % len(PALETTE)], marker=MARKERS[number % len(MARKERS)])
        ranks, time = cases["ranks"].to_numpy(float), cases["median_time"].to_numpy(float)
        ideal = ideal_time(cases)
        whiskers = None
        if {"interval_low", "interval_high"} <= set(cases):
            whiskers = [time - cases["interval_low"], cases["interval_high"] - time]
        handles.append(time_axes.errorbar(ranks, time, yerr=whiskers, label=label, capsize=2.5, linewidth=1.6, **style))
        time_axes.plot(ranks, ideal, "--", color=style["color"], linewidth=1, alpha=0.8)
        if "bound_time" in cases:
            time_axes.plot(ranks, cases["bound_time"], ":", color=style["color"], linewidth=1.4)
        if "predicted_time" in cases:
            time_axes.plot(ranks, cases["predicted_time"], "x", color=style["color"], markersize=8)
        share_axes.plot(ranks, 100 * ideal / time, linewidth=1.6, **style)
        if "balance_ceiling" in cases and (cases["balance_ceiling"] < 0.999).any():
            # Relative to the first point, which is under the ceiling of its own number of ranks.
            ceiling = cases["balance_ceiling"] / cases["balance_ceiling"].iloc[0]
            share_axes.plot(ranks, 100 * ceiling, "-.", color=style["color"], linewidth=1.2)
    share_axes.axhline(100, color=MUTED, linewidth=1, linestyle="--")
    ranks = sorted(set(numpy.concatenate([cases["ranks"] for _, cases in found])))
    for axes in (time_axes, share_axes):
        axes.set_xscale("log", base=2)
        axes.set_xticks(ranks, [f"{rank:g}" for rank in ranks])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("ranks")
        axes.grid()
    time_axes.set_yscale("log")
    time_axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))  # a narrow range may hold no power of ten
    time_axes.yaxis.set_major_formatter("{x:g}")
    time_axes.yaxis.set_minor_formatter(NullFormatter())
    time_axes.set_ylabel("time, s (median, 95 % interval)")
    share_axes.set_ylim(0, 112)
    share_axes.set_ylabel("parallel efficiency, % of ideal")
    guides = [time_axes.plot([], [], style, color=INK, label=label)[0] for style, label in
              (("--", "ideal: time per FLOP of a rank as at the fewest ranks"),
               (":", "bound: max(FLOPs / peak, bytes / bandwidth)"),
              ("x", "predicted just before"),
               ("-.", "ceiling of the layout's load balance"))]  # fmt: skip
    figure.legend(handles=[*handles, *guides], loc="outside lower left", ncols=2, fontsize=9)
    return figure


def ideal_time(cases):
    """Seconds if each rank stayed as fast per FLOP as at the fewest ranks (first row)."""
    per_rank = cases["flops"] / cases["ranks"] if "flops" in cases else 1 / cases["ranks"]
    return (cases["median_time"].iloc[0] * per_rank / per_rank.iloc[0]).to_numpy(float)


def _tokens_grow_with_ranks(cases):
    """Of the rows, those whose tokens per rank (batch × sequence) are those of the fewest ranks' first row."""
    tokens = cases["seq_len"] * (cases["batch"] if "batch" in cases else 1) / cases["ranks"]
    return cases[numpy.isclose(tokens, tokens.iloc[0])]
