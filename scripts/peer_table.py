"""The figures of a comparison: statistics, one row per case and peer, as text and as CSV."""

from math import comb, nan

import numpy
import pandas

from figures.labels import OPTIONS, case_label
from figures.style import percent, si

FEWEST = 6  # samples that give a 95 % interval of the median at all
# What a peer that computes the same thing stays under by far, and a forgotten mask or scale does not.
ALLOWED_ERROR = {"f32": 1e-4, "bf16": 3e-2}


def median_interval(samples, confidence=0.95):
    """(median, low, high): of all distributions the tightest order statistics that hold the true median with
    this confidence (measurement.md); NaN ends if there are too few samples."""
    ordered = numpy.sort(numpy.asarray(samples, float))
    n, rank, outside = len(ordered), 0, 0
    # The number of samples below the median is binomial(n, 1/2): it is `rank` or less with this chance.
    while rank < n / 2 and 2 * (outside + comb(n, rank)) <= (1 - confidence) * 2**n:
        outside += comb(n, rank)
        rank += 1
    low, high = (ordered[rank - 1], ordered[n - rank]) if rank else (nan, nan)
    return float(numpy.median(ordered)), float(low), float(high)


def rows(number, case, flops, ceilings, peers, machine):
    """One row for each peer. peers: name -> its seconds, round by round, and its error; or the reason why it
    has none. ceilings: FMA rate and share of the cores, before and after. Ratios are those of the same round, so
    that a slow minute slows both."""
    (before, share_before), (after, share_after) = ceilings
    common = dict(case=number, **case.columns(), flops=flops, fma_peak_before=before, fma_peak_after=after,
                  core_share=min(share_before, share_after), clean=not disturbance(ceilings))  # fmt: skip
    timed = {name: result for name, result in peers.items() if not _reason(case, result)}
    found = []
    for name, result in peers.items():
        row = dict(common, peer=name, reason=_reason(case, result))
        if not isinstance(result, str):
            row["error"] = result["error"]
        if name in timed:
            seconds, low, high = median_interval(result["seconds"])
            row |= dict(median_time=seconds, interval_low=low, interval_high=high, flop_rate=flops / seconds,
                        fraction_of_peak=flops / seconds / numpy.mean((before, after)),
                        samples=" ".join(f"{value:.6e}" for value in result["seconds"]))  # fmt: skip
        if name in timed and name != "longseq" and "longseq" in timed:
            ratios = numpy.divide(result["seconds"], timed["longseq"]["seconds"])
            row |= dict(zip(("ratio", "ratio_low", "ratio_high"), median_interval(ratios)))
        found.append(row | machine)
    return found


def _reason(case, result):
    """Why the result gives no time; empty if it does."""
    if isinstance(result, str):
        return result
    right = result["error"] <= ALLOWED_ERROR[case.dtype]  # not so for NaN
    return "" if right else f"wrong: its error is {result['error']:.1e}"


def disturbance(ceilings):
    """Why the rounds between were not CLEAN (measurement.md); empty if they were. It matters to ratios too:
    threads with equal shares of the work wait for the one whose core is taken, threads that take turns do not."""
    (before, share_before), (after, share_after) = ceilings
    if (share := min(share_before, share_after)) < 0.9:
        return f"others had {percent(1 - share, 0)} of the cores"
    return "the FMA peak moved by more than 10 %" if abs(after / before - 1) > 0.1 else ""


def case_text(case, ceilings):
    """The line above the rows of a case."""
    shown = ("pass", "seq_len", "batch", "heads", "head_dim", "dtype", "threads")
    label = case_label(case.columns(), {name: None for name in OPTIONS if name in shown})
    text = f"{label} · FMA peak {si(ceilings[0][0], 'FLOP/s')} before, {si(ceilings[1][0], 'FLOP/s')} after"
    reason = disturbance(ceilings)
    return f"{text} · NOT CLEAN: {reason}" if reason else text


HEADER = f"  {'peer':<8}{'median':>9}{'TFLOP/s':>9}{'of peak':>9}{'error':>9}   time / longseq's, 95 % interval"


def row_text(row):
    if row["reason"]:
        return f"  {row['peer']:<8}{'–':>9}   {row['reason']}"
    ratio = f"{row['ratio']:.2f}  [{row['ratio_low']:.2f}, {row['ratio_high']:.2f}]" if "ratio" in row else ""
    return (
        f"  {row['peer']:<8}{si(row['median_time'], 's'):>9}{row['flop_rate'] / 1e12:>9.3f}"
        f"{percent(row['fraction_of_peak']):>9}{row['error']:>9.1e}   {ratio}"
    ).rstrip()


def write_csv(table, path):
    """Every sample is in it: `samples`, seconds, in the order of the rounds."""
    pandas.DataFrame(table).to_csv(path, index=False)
