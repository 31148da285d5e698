"""Bad input: one clear line, a non-zero status, nothing hung, nothing overwritten."""

import h5py
import numpy
import pytest

from program import command, error_lines, run, run_apart


def tensors(path, **replaced):
    arrays = {name: numpy.ones((1, 2, 9, 8), "f4") for name in "qkv"} | replaced
    with h5py.File(path, "w") as file:
        file.update({name: array for name, array in arrays.items() if array is not None})
    return path


def refused(finished, *words):
    assert finished.returncode != 0
    lines = error_lines(finished)
    assert len(lines) == 1, finished.stderr
    for word in words:
        assert word in lines[0], lines[0]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--window-lefd", 3], ["window-lefd", "window-left"]),
        (["--seq-len", 0], ["seq-len", "0", "1"]),
        (["--heads", 6, "--kv-heads", 4], ["6", "4", "heads"]),
        (["--pattern", "local", "--window-left", -5], ["window-left", "-5"]),
        (["--pattern", "ful"], ["ful", "full"]),
        (["--position", "relativ"], ["relativ", "rotary", "nearest is relative"]),
        (["--pass", "sideways"], ["sideways", "forward", "backward"]),
        (["--dtype", "f16"], ["f16", "bf16", "f32"]),
        (["--head-dim", 300], ["head-dim", "300", "256"]),
        (["--position", "rotary", "--head-dim", 7], ["rotary", "7"]),
        (["--dataset", "nowhere.txt"], ["nowhere.txt"]),
        (["--seq-len", "256M", "--heads", 64], ["GiB", "available"]),
        (["--config", "no.cfg"], ["no.cfg"]),
        (["--simd", "MMX"], ["MMX", "auto"]),
        (["--output", "/proc/nothing/x.h5"], ["/proc/nothing"]),
    ],
    ids=lambda value: "_".join(map(str, value)) if isinstance(value, list) else None,
)
def test_bench_refuses(tmp_path, arguments, words):
    output = [] if "--output" in arguments else ["--output", tmp_path / "out.h5"]
    refused(run(2, "bench", *output, *arguments, timeout=60), *words)


def test_bench_refuses_a_corpus_that_is_too_short(tmp_path):
    (tmp_path / "short.txt").write_text("In the beginning")
    arguments = ["--dataset", tmp_path / "short.txt", "--seq-len", 64, "--batch", 2]
    refused(run(2, "bench", "--output", tmp_path / "out.h5", *arguments), "short.txt", "16 tokens", "128")
    assert not (tmp_path / "out.h5").exists()


@pytest.mark.parametrize("ranks", [None, 3])
def test_an_unknown_command_names_the_nearest(ranks):
    refused(run(ranks, "bensh"), "bensh", "bench")


@pytest.mark.parametrize(
    "arguments, word",
    [(["bensh"], "bensh"), (["plan", "--seq-len", 0], "seq-len"), (["bench", "--seq-len", 0], "seq-len")],
)
def test_the_error_is_said_once_although_rank_0_comes_last(arguments, word):
    words = command(None, *arguments)
    late = ["sh", "-c", 'sleep 1; exec "$@"', "sh", *words]
    refused(run_apart(late, words), word)


def test_a_rank_that_fails_alone_without_mpi_says_so():
    good, bad = command(None, "plan", "--seq-len", 64), command(None, "plan", "--seq-len", 0)
    finished = run_apart(good, bad)
    assert finished.returncode != 0
    assert any("seq-len" in line for line in error_lines(finished)), finished.stderr
    refused(run_apart(bad, good), "seq-len")


def test_attend_refuses_a_missing_file(tmp_path):
    refused(run(2, "attend", "--input", tmp_path / "no.h5", "--output", tmp_path / "out.h5"), "no.h5")


def test_attend_refuses_a_file_that_is_not_hdf5(tmp_path):
    (tmp_path / "in.h5").write_text("q k v")
    refused(run(2, "attend", "--input", tmp_path / "in.h5", "--output", tmp_path / "out.h5"), "in.h5", "HDF5", "/q")


def test_attend_refuses_a_truncated_file(tmp_path):
    whole = tensors(tmp_path / "whole.h5", q=numpy.ones((1, 2, 5000, 8), "f4")).read_bytes()
    (tmp_path / "in.h5").write_bytes(whole[: len(whole) // 2])
    refused(run(2, "attend", "--input", tmp_path / "in.h5", "--output", tmp_path / "out.h5"), "in.h5", "truncated")
    assert not (tmp_path / "out.h5").exists()


@pytest.mark.parametrize(
    "replaced, words",
    [
        (dict(v=None), ["/v"]),
        (dict(q=numpy.ones((2, 9, 8), "f4")), ["/q", "3 dimensions", "4"]),
        (dict(k=numpy.ones((1, 2, 9, 8), "i4")), ["/k", "integers", "f32 or f64"]),
        (dict(k=numpy.ones((1, 2, 9, 16), "f4")), ["/k", "(1, 2, 9, 16)"]),
        (dict(k=numpy.ones((1, 3, 9, 8), "f4"), v=numpy.ones((1, 3, 9, 8), "f4")), ["2", "3", "heads"]),
        (dict(q=numpy.ones((1, 2, 0, 8), "f4")), ["/q", "0"]),
    ],
    ids=["missing", "dimensions", "type", "shape", "heads", "empty"],
)
def test_attend_refuses_wrong_tensors(tmp_path, replaced, words):
    tensors(tmp_path / "in.h5", **replaced)
    refused(run(2, "attend", "--input", tmp_path / "in.h5", "--output", tmp_path / "out.h5"), *words)
    assert not (tmp_path / "out.h5").exists()


@pytest.mark.parametrize("layout", ["contiguous", "zigzag", "striped"])
def test_attend_names_the_first_nan(tmp_path, layout):
    k = numpy.ones((1, 2, 9, 8), "f4")
    k[0, 0, 7, 2] = k[0, 1, 3, 5] = numpy.nan
    k[0, 0, 8, 0] = numpy.inf
    tensors(tmp_path / "in.h5", k=k)
    finished = run(3, "attend", "--input", tmp_path / "in.h5", "--output", tmp_path / "out.h5", "--layout", layout)
    refused(finished, "/k[0, 0, 7, 2]")
    assert not (tmp_path / "out.h5").exists()


def test_bench_refuses_an_existing_result_of_another_configuration(tmp_path):
    arguments = ["--seq-len", 256, "--repetitions", 2, "--max-time", 0.05, "--output", tmp_path / "out.h5"]
    assert run(2, "bench", *arguments).returncode == 0
    before = (tmp_path / "out.h5").read_bytes()
    again = run(2, "bench", *arguments)
    assert again.returncode == 0 and "already complete" in again.stdout
    refused(run(2, "bench", *arguments, "--heads", 4), "out.h5", "another configuration")
    refused(run(3, "bench", *arguments), "another configuration")
    assert (tmp_path / "out.h5").read_bytes() == before


def test_bench_keeps_a_file_that_is_not_its_own(tmp_path):
    (tmp_path / "out.h5").write_text("precious")
    refused(run(2, "bench", "--output", tmp_path / "out.h5"), "out.h5")
    assert (tmp_path / "out.h5").read_text() == "precious"


def test_plan_says_why_a_case_cannot_run():
    arguments = ["--ranks", 4, "--seq-len", "1M", "--strategy", "allgather"]
    assert run(None, "plan", *arguments, "--node-memory", 1024).returncode == 0
    finished = run(None, "plan", *arguments, "--node-memory", 1)
    assert finished.returncode == 1
    assert "cannot run" in finished.stdout and "it has 1 GiB" in finished.stdout
