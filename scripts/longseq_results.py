"""The one loader of longseq's results files: HDF5 in, pandas and xarray out. Format: results/SCHEMA.md.

results = load("results/quick.h5", "results/more.h5")
results.summary                # DataFrame: one row per case, every option and every figure a column
results.case(0).samples        # xarray: seconds, (phase, rank, repetition)
results.calibration            # xarray.Dataset of the first file; results.runs[1].calibration of the second
"""

from dataclasses import dataclass
from pathlib import Path

import h5py
import pandas
import xarray

SCHEMA_NAME = "longseq-results"
SCHEMA_MAJOR = 1
FLAGS = ("valid", "converged", "clean")


class ResultsError(Exception):
    """A file that cannot be used: the message is one line, with the path and a hint."""


@dataclass
class Run:
    """One file: what a sweep measured, and on what."""

    path: Path
    attributes: dict  # of the file: run_uuid, created, complete, ...
    environment: dict  # attributes, and a list per dataset over ranks (hostname, binding)
    config: dict
    calibration: xarray.Dataset
    summary: pandas.DataFrame

    @property
    def complete(self):
        return bool(self.attributes.get("complete", 0))


@dataclass
class Results:
    """One or several files, their summaries one below the other."""

    runs: list

    def __post_init__(self):
        tables = [run.summary for run in self.runs if len(run.summary)]
        self.summary = pandas.concat(tables, ignore_index=True) if tables else self.runs[0].summary

    @property
    def environment(self):
        return self.runs[0].environment

    @property
    def calibration(self):
        return self.runs[0].calibration

    def run_of(self, row):
        """The Run that row number `row` of the summary comes from."""
        return self.runs[int(self.summary.at[row, "run"])]

    def case(self, row):
        """Everything stored of one case, by its row number in the summary: samples, bytes, messages, ..."""
        if row not in self.summary.index:
            raise ResultsError(f"no case {row}; there are cases 0 to {len(self.summary) - 1}")
        return read_group(self.run_of(row).path, f"cases/{int(self.summary.at[row, 'case']):04d}")


def load(*paths):
    """Reads results files. Throws ResultsError for what is not one, is broken or too new."""
    if not paths:
        raise ResultsError("no results file was named; longseq bench writes them to results/")
    return Results([_load_run(Path(path), number) for number, path in enumerate(paths)])


def read_group(path, group):
    """One group as an xarray.Dataset in memory, text as str; empty if the file does not have it."""
    with h5py.File(path) as file:
        if group not in file:
            return xarray.Dataset()
    with xarray.open_dataset(path, engine="h5netcdf", group=group) as dataset:
        dataset = dataset.load()
    dataset.attrs = {name: _plain(value) for name, value in dataset.attrs.items()}
    for name, variable in dataset.variables.items():
        if variable.dtype.kind == "S":
            dataset[name] = variable.astype("U")
    return dataset


def samples_total(case):
    """Seconds of each repetition, the slowest rank's, and whether it was a warm-up: (values, flags)."""
    total = case["samples"].sel(phase="total").max("rank").values
    if "warmup" not in case:
        return total, total < 0
    warmup = case["warmup"]
    if "rank" in warmup.dims:
        warmup = warmup.max("rank")
    return total, warmup.values.astype(bool)


def _load_run(path, number):
    attributes = _root_attributes(path)
    try:
        summary = _read_summary(path, number)
        environment = _as_dict(read_group(path, "environment"))
        config = _as_dict(read_group(path, "config"))
        calibration = read_group(path, "calibration")
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise ResultsError(f"{path}: a longseq results file, but damaged ({_one_line(error)})") from error
    return Run(path, attributes, environment, config, calibration, summary)


def _root_attributes(path):
    if not path.is_file():
        raise ResultsError(f"{path}: no such file")
    try:
        with h5py.File(path) as file:
            attributes = {name: _plain(value) for name, value in file.attrs.items()}
    except OSError as error:
        raise ResultsError(
            f"{path}: not a readable HDF5 file; is it cut off, or another format? ({_one_line(error)})"
        ) from error
    if attributes.get("schema_name") != SCHEMA_NAME:
        found = attributes.get("schema_name", "no schema_name")
        raise ResultsError(f"{path}: an HDF5 file, but not a longseq results file ({found}, not {SCHEMA_NAME})")
    version = str(attributes.get("schema_version", ""))
    if version.split(".")[0] != str(SCHEMA_MAJOR):
        raise ResultsError(
            f"{path}: its schema is version {version or 'unknown'}, this program reads {SCHEMA_MAJOR}.x;"
            " use the scripts of the longseq that wrote it"
        )
    return attributes


def _read_summary(path, number):
    columns = read_group(path, "summary")
    table = columns.to_dataframe().reset_index() if columns.sizes.get("case") else pandas.DataFrame()
    for name in table.columns:
        if table[name].dtype == "uint8":
            table[name] = table[name].astype(bool)
    if len(table):
        attributes = [_case_attributes(path, case) for case in table["case"]]
        if "reasons" not in table:
            table["reasons"] = [case.get("reasons", "") for case in attributes]
        flags = [name for name in FLAGS if name in table]
        # The figure of merit is withheld unless all three axes hold; what is not known does not hold.
        table["holds"] = table[flags].all(axis=1) & (len(flags) == len(FLAGS))
    table["run"] = number
    table["file"] = path.stem
    return table


def _case_attributes(path, case):
    with h5py.File(path) as file:
        return {name: _plain(value) for name, value in file[f"cases/{int(case):04d}"].attrs.items()}


def _as_dict(dataset):
    values = {name: variable.values.tolist() for name, variable in dataset.data_vars.items()}
    return {**dataset.attrs, **values}


def _plain(value):
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    return value.item() if hasattr(value, "item") and getattr(value, "size", 1) == 1 else value


def _one_line(error):
    return " ".join(str(error).split())
