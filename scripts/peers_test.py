import importlib.metadata
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas
import pytest

import peer_options
import peer_table
import peers
from figures import NothingToDraw
from figures.peers import draw
from peer_cases import PeersError
from peer_library import DEFAULT
from peer_workers import Unavailable

TITLES = {"sdpa": "one", "naive": "two", "flex": "three"}


@pytest.mark.parametrize(
    "arguments, message",
    [(["--seq-lens", "1k,x"], "'x' is no number of 1 or more"), (["--heads", "0"], "'0' is no number"),
     (["--patterns", "full,ring"], "'ring' is unknown; expected some of full,full_causal,local"),
     (["--passes", "sideways"], "expected some of forward,backward"), (["--dtype", "f16"], "f16"),
     (["--peers", "numpy"], "expected some of sdpa,naive,flex"), (["--repetitions", "5"], "expected 6 or more"),
     (["--threads", "100000"], "expected 1 to"), (["--output-csv", "table.txt"], "must end in .csv"),
     (["--figure", "no/such/folder/peers.png"], "does it exist?"), (["--figure", "peers.gif"], "must end in .png")],
)  # fmt: skip
def test_bad_options_are_refused(capsys, arguments, message):
    with pytest.raises(SystemExit) as refusal:
        peers.main(arguments)
    assert refusal.value.code == 2 and message in capsys.readouterr().err


def test_without_torch_it_says_how_to_get_it(monkeypatch):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(PeersError, match="scripts/setup.sh --peers"):
        peers.main([])


def test_an_error_is_one_line_and_a_status(tmp_path):
    # What is missing first, PyTorch or the library, depends on where this runs.
    command = [sys.executable, str(Path(peers.__file__)), "--library", str(tmp_path / "absent.so")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("peers.py: ") and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_cases_are_the_product_and_a_causal_window_has_no_right():
    options = peer_options.parse(
        "--patterns full,local,global_causal --seq-lens 32,1k --head-dims 64 --global-tokens 40".split(), ""
    )
    cases = list(peer_options.cases(options))
    assert len(cases) == 3 * 2 * 2 and len(set(cases)) == 12
    windows = {(c.pattern, c.seq_len, c.causal, c.window_left, c.window_right, c.global_tokens) for c in cases}
    assert windows == {("full", 32, False, 0, 0, 0), ("full", 1024, False, 0, 0, 0),
                       ("local", 32, False, 512, 512, 0), ("local", 1024, False, 512, 512, 0),
                       ("global", 32, True, 512, 0, 32), ("global", 1024, True, 512, 0, 40)}  # fmt: skip
    assert cases[1].backward and cases[1].flops(area=10) == 2.5 * 4 * 10 * 4 * 64 == 2.5 * cases[0].flops(area=10)


# The classical table of order statistics around the median, 95 % (two-sided sign test).
@pytest.mark.parametrize("n, low, high", [(6, 1, 6), (8, 1, 8), (9, 2, 8), (10, 2, 9), (20, 6, 15), (50, 18, 33)])
def test_interval_of_the_median(n, low, high):
    shuffled = sorted(range(1, n + 1), key=lambda value: value * 7919 % 101)
    assert peer_table.median_interval(shuffled) == ((n + 1) / 2, low, high)


def test_five_samples_give_no_interval():
    median, low, high = peer_table.median_interval([3, 1, 2, 5, 4])
    assert median == 3 and math.isnan(low) and math.isnan(high)


def table(ceilings=((1e10, 1.0), (1.05e10, 0.99)), **peers_results):
    """Two cases: longseq takes 1, 2, ..., 7 s, and what is given."""
    options = peer_options.parse(["--patterns", "full_causal", "--seq-lens", "1k", "--head-dims", "64"], "")
    longseq = dict(seconds=[1.0, 2, 3, 4, 5, 6, 7], error=1e-7)
    return [row for number, case in enumerate(peer_options.cases(options)) for row in
            peer_table.rows(number, case, 8e9, ceilings, dict(longseq=longseq) | peers_results,
                            dict(cpu_model="a"))]  # fmt: skip


def test_ratios_are_those_of_a_round():
    sdpa = dict(seconds=[2.0, 4, 6, 8, 10, 12, 21], error=1e-7)
    longseq, peer = table(sdpa=sdpa)[:2]
    assert (peer["ratio"], peer["ratio_low"], peer["ratio_high"]) == (2, 2, 3)
    assert longseq["flop_rate"] == 2e9 and longseq["fraction_of_peak"] == pytest.approx(2e9 / 1.025e10)
    assert "ratio" not in longseq and "2.00  [2.00, 3.00]" in peer_table.row_text(peer)


def test_a_wrong_result_is_not_compared():
    for error in (1e-2, math.nan):
        rows = table(sdpa=dict(seconds=[1.0] * 7, error=error))
        assert "median_time" not in rows[1] and "wrong" in peer_table.row_text(rows[1])
    rows = table(longseq=dict(seconds=[1.0] * 7, error=1e-2), sdpa=dict(seconds=[1.0] * 7, error=1e-7))
    assert "ratio" not in rows[1] and rows[1]["median_time"] == 1


@pytest.mark.parametrize(
    "ceilings, reason",
    [(((1e10, 1.0), (1.2e10, 1.0)), "moved by more than 10 %"), (((1e10, 1), (1e10, 0.6)), "others had 40 % of the")],
)  # fmt: skip
def test_a_disturbed_case_is_said_to_be_so(ceilings, reason):
    assert reason in peer_table.disturbance(ceilings)
    rows = table(ceilings, sdpa=dict(seconds=[2.0] * 7, error=1e-7))
    assert not any(row["clean"] for row in rows) and all(row["clean"] for row in table())
    assert draw(rows, TITLES).axes[0].get_yticklabels()[0].get_text() == "full causal · forward (not clean)"


def test_table_and_figure_are_written(tmp_path):
    rows = table(sdpa=dict(seconds=[2.0] * 7, error=1e-7), naive="too large", flex="no compiler, and\n a comma")
    peer_table.write_csv(rows, tmp_path / "peers.csv")
    written = pandas.read_csv(tmp_path / "peers.csv")
    assert len(written) == 8 and written["peer"].tolist()[:4] == ["longseq", "sdpa", "naive", "flex"]
    assert written["reason"][3] == "no compiler, and\n a comma" and math.isnan(written["median_time"][3])
    assert [float(value) for value in written["samples"][0].split()] == [1, 2, 3, 4, 5, 6, 7]
    figure = draw(rows, TITLES)
    figure.savefig(tmp_path / "peers.png")
    assert (tmp_path / "peers.png").stat().st_size > 4000
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["full causal · forward", "full causal · backward"]
    assert [line.get_xdata()[0] for line in figure.axes[0].lines if len(set(line.get_xdata())) == 1][-2:] == [1, 1.3]


def test_a_table_without_ratios_draws_nothing():
    with pytest.raises(NothingToDraw):
        draw(table(sdpa="skipped"), TITLES)


def test_a_process_that_dies_is_started_anew():
    with peers.Processes(peer_options.cores()[:1]) as processes:
        with pytest.raises(Unavailable, match="its process died"):
            processes.ask("sdpa", os._exit, 1)
        assert processes.ask("sdpa", os.sched_getaffinity, 0) == set(peer_options.cores()[:1])
        assert processes.ask("sdpa", os.getpid) != processes.ask("naive", os.getpid)


@pytest.mark.skipif(not DEFAULT.is_file(), reason=f"{DEFAULT} is not built")
def test_peers_take_turns():
    case = next(peer_options.cases(peer_options.parse(["--seq-lens", "100", "--passes", "backward"], "")))
    options = SimpleNamespace(library=DEFAULT, memory_limit=0, repetitions=6)
    with peers.Processes(peer_options.cores()) as processes:
        results, ceilings = peers.compare(processes, case, ["naive"], options)
    (rate, share), _ = ceilings
    assert rate > 0 and 0.1 < share < 1.1
    assert len(results["longseq"]["seconds"]) == 6 and min(results["longseq"]["seconds"]) > 0
    assert results["longseq"]["error"] < 1e-5 and "--memory-limit" in results["naive"]
