import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import h5py
import pytest

import report
import synthetic_results
from longseq_results import load

SCRIPTS = Path(__file__).parent
VOID = {"meta", "br", "link", "img", "hr", "input"}


class Balance(HTMLParser):
    """Collects what a browser would have to repair, and every address that the page would fetch."""

    def __init__(self):
        super().__init__()
        self.open, self.faults, self.fetched, self.text = [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.fetched += [value for name, value in attributes if name in ("src", "href", "xlink:href") and
                         not value.startswith(("#", "data:"))]  # fmt: skip
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.faults.append(tag)

    def handle_data(self, data):
        self.text.append(data)


def parsed(html):
    page = Balance()
    page.feed(html)
    assert page.faults == [] and page.open == []
    return page


def test_the_page_is_whole_and_fetches_nothing(results_file):
    html = report.page(load(results_file))
    assert parsed(html).fetched == []
    assert "<script" not in html and "@import" not in html
    assert html.count("<svg") == 7


def test_every_case_is_listed_and_a_withheld_one_shows_its_reason_but_not_its_time(results_file):
    results = load(results_file)
    results.summary.loc[3, "median_time"] = 0.777  # no other figure reads like it
    html = report.page(results)
    assert html.count('class="withheld"') == 1 and "withheld: not converged" in html
    assert "±3.4 % of the median" in html and "777 ms" not in html
    assert html.count("valid · converged · clean") == len(synthetic_results.CASES) - 1


def test_text_from_the_file_is_escaped(tmp_path):
    path = synthetic_results.write(tmp_path / "odd.h5", cases=synthetic_results.CASES[:1])
    with h5py.File(path, "a") as file:
        file["environment"].attrs["cpu_model"] = "<script>alert(1)</script>"
    assert "<script" not in report.page(load(path))


def test_a_file_without_a_case_and_one_that_is_not_complete(tmp_path):
    path = synthetic_results.write(tmp_path / "begun.h5", cases=(), complete=False)
    text = " ".join(parsed(report.page(load(path))).text)
    assert "not complete" in text and "No case is finished" in text


def test_missing_columns_are_survived(tmp_path):
    path = synthetic_results.write(tmp_path / "old.h5", cases=synthetic_results.CASES[:4], repetitions=8)
    needed = {"case", "launch", "pattern", "valid", "converged", "clean", "median_time"}
    with h5py.File(path, "a") as file:
        for name in set(file["summary"]) - needed:
            del file["summary"][name]
    assert "full" in report.page(load(path))


def test_several_files_make_one_page(scaling_files, tmp_path):
    output = tmp_path / "report.html"
    report.main([*map(str, scaling_files), "--output", str(output), "--figures", str(tmp_path / "figures")])
    page = parsed(output.read_text())
    assert "parallel efficiency, % of ideal" in " ".join(page.text)
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        "breakdown.png", "distribution.png", "efficiency.png", "exchange.png", "patterns.png", "roofline.png",
        "scaling.png", "timeline.png",
    ]  # fmt: skip


def test_summary_line(results_file):
    assert re.match(
        r"10 of 11 cases hold .*; best 7\d\.\d % of the FMA peak: ", report.summary_line(load(results_file))
    )


@pytest.mark.parametrize("program", (["report.py"], ["plot.py", "roofline"]))
def test_a_wrong_file_ends_in_one_line_and_writes_nothing(tmp_path, program):
    (tmp_path / "text.h5").write_text("not HDF5")
    output = tmp_path / "out.png"
    run = subprocess.run(
        [sys.executable, SCRIPTS / program[0], *program[1:], tmp_path / "text.h5", "--output", output],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 1 and len(run.stderr.splitlines()) == 1 and "text.h5" in run.stderr
    assert not output.exists()
