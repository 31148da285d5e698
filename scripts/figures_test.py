import numpy
import pandas
import pytest
import xarray

import plot
import synthetic_results
from figures import FIGURES, NothingToDraw, to_svg
from figures import breakdown, patterns, scaling, timeline
from figures.labels import case_labels, pattern_label
from figures.style import percent, si
from longseq_results import load


def draw(name, files, output):
    magic = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}[output.suffix]
    plot.main([name, *map(str, files), "--output", str(output)])
    assert output.read_bytes().startswith(magic) and output.stat().st_size > 4000


def test_every_figure_is_drawn(scaling_files, tmp_path):
    for row in FIGURES:
        draw(row.name, scaling_files, tmp_path / f"{row.name}.png")


@pytest.mark.parametrize("suffix", plot.FORMATS)
def test_every_format_is_drawn(scaling_files, tmp_path, suffix):
    draw("breakdown", scaling_files, tmp_path / f"breakdown{suffix}")


def test_options_of_figures(results_file, tmp_path):
    plot.main(["breakdown", str(results_file), "--case", "1", "--output", str(tmp_path / "one.png")])
    with pytest.raises(NothingToDraw, match="weak scaling needs"):
        plot.main(["scaling", str(results_file), "--kind", "weak", "--output", str(tmp_path / "weak.png")])


def test_results_without_a_case_draw_nothing(tmp_path):
    results = load(synthetic_results.write(tmp_path / "begun.h5", cases=(), complete=False))
    for row in FIGURES:
        if row.name != "exchange":
            with pytest.raises(NothingToDraw):
                row.draw(results)


def test_one_rank_exchanges_nothing(scaling_files):
    results = load(scaling_files[0])
    roofline = next(row for row in FIGURES if row.name == "roofline")
    with pytest.raises(NothingToDraw, match="one rank sends nothing"):
        roofline.draw(results)


def sees(case, i, j):
    """maths.md, section 2, pair by pair."""
    kind, causal = case["pattern"], case.get("causal", False)
    window = i - case["window_left"] <= j <= i + case["window_right"]
    length = case["segment_length"] or case["document_length"]
    if kind == "segment":
        return length * (i // length) - case["memory_length"] <= j <= i
    seen = {
        "full": True,
        "local": window,
        "global": window or j < case["global_tokens"] or i < case["global_tokens"],
        "document": length and i // length == j // length,
    }[kind]
    return bool(seen) and (j <= i or not causal)


@pytest.mark.parametrize("causal", (False, True))
@pytest.mark.parametrize("kind", ("full", "local", "global", "segment", "document"))
def test_picture_of_a_pattern_is_its_mask(kind, causal):
    tokens = 23  # fewer than CELLS: each cell is one pair
    for left, right, some, length, memory in ((3, 2, 2, 5, 4), (0, 0, 1, 1, 0), (40, 40, 30, 30, 30), (4, 0, 6, 7, 30)):
        case = dict(pattern=kind, causal=causal, window_left=left, window_right=right, global_tokens=some,
                    seq_len=tokens, segment_length=length if kind == "segment" else 0, memory_length=memory,
                    document_length=length if kind == "document" else 0)  # fmt: skip
        mask = [[sees(case, i, j) for j in range(tokens)] for i in range(tokens)]
        assert numpy.array_equal(patterns.coverage(case), numpy.array(mask, dtype=float)), case


def test_coverage_of_long_sequences_is_the_share_of_pairs():
    case = dict(pattern="full", causal=True, window_left=0, window_right=0, seq_len=16384)
    assert patterns.coverage(case).mean() == pytest.approx((16384 + 1) / (2 * 16384), rel=2e-3)


def test_owners():
    assert patterns.owner(dict(layout="contiguous", ranks=3), 6).tolist() == [0, 0, 1, 1, 2, 2]
    assert patterns.owner(dict(layout="zigzag", ranks=2), 8).tolist() == [0, 0, 1, 1, 1, 1, 0, 0]
    assert patterns.owner(dict(layout="striped", ranks=2), 8).tolist() == [0, 0, 1, 1, 0, 0, 1, 1]


def test_phase_medians_leave_out_the_warm_up():
    samples = numpy.array([[[9.0, 1, 2, 3]], [[9, 0.5, 0.5, 0.5]], [[99, 2, 3, 4.5]]])  # (phase, rank, repetition)
    case = xarray.Dataset(
        {"samples": (("phase", "rank", "repetition"), samples), "warmup": ("repetition", [1, 0, 0, 0])},
        {"phase": ["compute", "waiting", "total"]},
    )
    phases, total = breakdown.phase_medians(case)
    assert total.tolist() == [3] and phases["compute"].tolist() == [2] and phases["waiting"].tolist() == [0.5]
    assert phases["rest"].tolist() == [0.5]


def test_timeline_tells_overlap_from_its_control():
    moments = numpy.array([[0.0, 1, 5, 6, 7], [7, 8, 20, 10, 21]])  # (step, moment): with overlap, then without
    rank = xarray.DataArray(moments, dims=("step", "moment"),
                            coords={"moment": ["begin", "posted", "computed", "waited", "joined"]})  # fmt: skip
    spans = {phase: list(zip(*spans)) for phase, spans in timeline.spans(rank).items()}
    assert spans["compute"] == [(1, 5), (10, 20)]
    assert spans["waiting"] == [(5, 6), (8, 10)]
    assert spans["merging"] == [(6, 7), (20, 21)]


def test_ideal_time_is_equal_time_per_flop_of_a_rank():
    strong = pandas.DataFrame(dict(ranks=[1, 2, 4], median_time=[8.0, 5, 3], flops=[100.0, 100, 100]))
    assert scaling.ideal_time(strong).tolist() == [8, 4, 2]
    # Full attention over tokens that grow with the ranks: FLOPs grow with their square, a rank's with P.
    weak = pandas.DataFrame(dict(ranks=[1, 2, 4], median_time=[8.0, 17, 34], flops=[100.0, 400, 1600]))
    assert scaling.ideal_time(weak).tolist() == [8, 16, 32]


def test_weak_scaling_takes_equal_tokens_per_rank():
    rows = [dict(synthetic_results.DEFAULTS, ranks=ranks, seq_len=tokens, median_time=1.0, holds=True)
            for ranks in (1, 2, 4) for tokens in (1024, 2048, 4096)]  # fmt: skip
    ((_, cases),) = scaling.series(pandas.DataFrame(rows), "weak")
    assert cases[["ranks", "seq_len"]].values.tolist() == [[1, 1024], [2, 2048], [4, 4096]]
    strong = scaling.series(pandas.DataFrame(rows), "strong")
    assert [len(cases) for _, cases in strong] == [3, 3, 3]


def test_a_case_that_does_not_hold_is_not_scaled():
    rows = [dict(synthetic_results.DEFAULTS, ranks=ranks, median_time=1.0, holds=ranks != 2) for ranks in (1, 2, 4)]
    ((_, cases),) = scaling.series(pandas.DataFrame(rows), "strong")
    assert cases["ranks"].tolist() == [1, 4]


def test_labels_differ_where_cases_do(scaling_files):
    labels = case_labels(load(*scaling_files).summary)
    assert not labels.duplicated().any()
    assert labels[0] == "full causal · ring/contiguous · P=1"
    twice = case_labels(load(scaling_files[0], scaling_files[0]).summary)
    assert twice[0] == "full causal · ring/contiguous · p1 · case 0"


def test_pattern_labels():
    case = dict(pattern="global", causal=True, window_left=256, window_right=0, global_tokens=64)
    assert pattern_label(case) == "global g=64 256+0 causal"
    assert pattern_label(dict(pattern="segment", causal=True, segment_length=8, memory_length=4)) == "segment T=8 M=4"


@pytest.mark.parametrize(
    "value, unit, text",
    [(1.5e11, "FLOP/s", "150 GFLOP/s"), (2.5e-8, "s", "25 ns"), (12.0, "s", "12 s"), (999.9e9, "B/s", "1000 GB/s"),
     (0, "s", "0 s"), (float("nan"), "s", "–"), (None, "s", "–"), (120.0, "s", "120 s")],
)  # fmt: skip
def test_si(value, unit, text):
    assert si(value, unit) == text


def test_percent():
    assert (percent(0.7149), percent(1, 0), percent(float("nan"))) == ("71.5 %", "100 %", "–")


def test_svg_takes_the_colours_and_the_font_of_the_page(results_file):
    svg = to_svg(FIGURES[0].draw(load(results_file)), "a title")
    assert svg.startswith("<svg") and "var(--ink)" in svg and "#1b1d23" not in svg and "var(--font)" in svg
    assert "DejaVu" not in svg and 'aria-label="a title"' in svg
