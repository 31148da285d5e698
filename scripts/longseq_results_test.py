import h5py
import numpy
import pytest

import synthetic_results
from longseq_results import ResultsError, load, samples_total


def test_summary_has_one_row_per_case_with_options_and_figures(results_file):
    summary = load(results_file).summary
    assert len(summary) == len(synthetic_results.CASES)
    with h5py.File(results_file) as file:
        assert summary["median_time"].tolist() == file["summary/median_time"][:].tolist()
        assert summary["strategy"].tolist() == file["summary/strategy"].asstr()[:].tolist()
    assert summary["causal"].dtype == bool
    assert summary["holds"].tolist() == [number != 3 for number in range(len(summary))]
    assert "±3.4 %" in summary["reasons"][3] and summary["reasons"][0] == ""


def test_case_gives_every_sample(results_file):
    case = load(results_file).case(0)
    assert case["samples"].dims == ("phase", "rank", "repetition")
    assert case["samples"].attrs["units"] == "s"
    with h5py.File(results_file) as file:
        raw = file["cases/0000/samples"][:]
    assert numpy.array_equal(case["samples"].values, raw)
    total, warmup = samples_total(case)
    assert numpy.array_equal(total, raw[4].max(axis=0))
    assert warmup.tolist() == [True] + [False] * 13


def test_median_of_the_samples_is_the_figure_of_merit(results_file):
    results = load(results_file)
    for row in results.summary.index:
        total, warmup = samples_total(results.case(row))
        assert numpy.median(total[~warmup]) == pytest.approx(results.summary.at[row, "median_time"], rel=1e-12)


def test_environment_and_calibration(results_file):
    results = load(results_file)
    assert results.environment["mpi_library"] == "Open MPI 4.1.4"
    assert results.environment["hostname"] == ["node1", "node1"]
    assert results.calibration["fma_peak_f32"].dims == ("rank",)
    assert results.calibration["pingpong_bandwidth"].attrs["units"] == "B/s"


def test_files_are_concatenated(scaling_files):
    results = load(*scaling_files)
    assert results.summary["ranks"].tolist() == [1] * 4 + [2] * 4 + [4] * 4 + [8] * 4
    assert results.case(8).sizes["rank"] == 4
    assert results.run_of(8).path == scaling_files[2]


def test_unfinished_file_without_a_case(tmp_path):
    results = load(synthetic_results.write(tmp_path / "begun.h5", cases=(), complete=False))
    assert len(results.summary) == 0 and not results.runs[0].complete


def test_a_minor_version_is_read(tmp_path):
    assert len(load(synthetic_results.write(tmp_path / "later.h5", version="1.7.0")).summary)


def broken_files(folder):
    whole = synthetic_results.write(folder / "whole.h5")
    content = whole.read_bytes()
    (folder / "cut.h5").write_bytes(content[: len(content) // 2])
    (folder / "text.h5").write_text("not HDF5")
    (folder / "empty.h5").write_bytes(b"")
    h5py.File(folder / "foreign.h5", "w").close()
    synthetic_results.write(folder / "future.h5", version="2.0.0")
    damaged = synthetic_results.write(folder / "damaged.h5")
    with h5py.File(damaged, "a") as file:
        del file["cases/0002"]
    return {
        "cut": "not a readable HDF5 file", "text": "not a readable HDF5 file", "empty": "not a readable HDF5 file",
        "foreign": "not a longseq results file", "future": "version 2.0.0", "damaged": "damaged",
        "absent": "no such file",
    }  # fmt: skip


def test_what_is_no_results_file_is_refused_in_one_line(tmp_path):
    for name, expected in broken_files(tmp_path).items():
        with pytest.raises(ResultsError) as error:
            load(tmp_path / f"{name}.h5")
        assert expected in str(error.value) and f"{name}.h5" in str(error.value)
        assert "\n" not in str(error.value)


def test_a_case_that_is_not_there(results_file):
    with pytest.raises(ResultsError, match="no case 99; there are cases 0 to 10"):
        load(results_file).case(99)
