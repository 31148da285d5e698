#!/usr/bin/env python3
"""Makes one self-contained HTML page from results files: report.py FILE... --output report.html"""

import argparse
import sys
from pathlib import Path

import jinja2

import report_tables
from figures import FIGURES, NothingToDraw, to_svg
from figures.labels import case_labels, common_options
from figures.style import percent, si
from longseq_results import ResultsError, load

TEMPLATE = Path(__file__).with_name("report_template.html")


def headline(results):
    """The few facts that say whose numbers these are: [(value, what it is)]."""
    summary, environment = results.summary, results.environment
    facts = []
    if len(summary):
        jobs = list(dict.fromkeys(report_tables.job_size(case) for case in summary.to_dict("records")))
        facts.append((", ".join(jobs[:4]) + (", …" if len(jobs) > 4 else ""), "MPI ranks × threads"))
        facts.append((f"{int(summary['holds'].sum())} of {len(summary)}", "cases whose verdict holds"))
        held = summary[summary["holds"]]
        if "fma_peak" in summary:
            facts.append((si(float(summary["fma_peak"].max()), "FLOP/s"), "FMA peak, in the same job"))
        if len(held) and "fraction_of_bound" in held:
            bounds = held["fraction_of_bound"]
            facts.append((f"{100 * bounds.min():.0f} – {100 * bounds.max():.0f} %", "of its bound reached, by case"))
        if {"output_error", "output_bound"} <= set(summary):
            ratio = (summary["output_error"] / summary["output_bound"]).max()
            facts.append((percent(ratio, 0), "of the allowed error, at worst"))
    machine = " · ".join(
        str(environment[key]) for key in ("cpu_model", "mpi_library", "compiler", "simd_target") if environment.get(key)
    )
    return dict(facts=facts, machine=machine, code=report_tables.code_version(environment))


def draw_figures(results, folder=None):
    """[(row of FIGURES, svg, reason why there is none)]; with a folder also as PNG files there."""
    drawn = []
    for row in FIGURES:
        try:
            figure = row.draw(results)
        except NothingToDraw as reason:
            drawn.append((row, None, str(reason)))
            continue
        if folder:
            figure.savefig(folder / f"{row.name}.png")
        drawn.append((row, to_svg(figure, row.title), None))
    return drawn


def page(results, figures_folder=None):
    """The report as HTML text."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    figures = draw_figures(results, figures_folder)
    return template.render(
        title=", ".join(run.path.stem for run in results.runs),
        created=results.runs[0].attributes.get("created", ""),
        headline=headline(results),
        common=common_options(results.summary),
        cases=report_tables.cases(results),
        figures=[(row, svg) for row, svg, _ in figures if svg],
        left_out=[(row.title, reason) for row, svg, reason in figures if not svg],
        runs=[report_tables.run(run) for run in results.runs],
        warnings=report_tables.warnings(results),
    )


def summary_line(results):
    """One line for the terminal."""
    summary = results.summary
    if not len(summary):
        return "no case is finished"
    held = summary[summary["holds"]]
    line = f"{len(held)} of {len(summary)} cases hold (VALID, CONVERGED, CLEAN)"
    if len(held) and "fraction_of_peak" in held:
        best = held["fraction_of_peak"].idxmax()
        label = case_labels(summary)[best]
        line += f"; best {percent(held['fraction_of_peak'][best])} of the FMA peak: {label}"
    return line


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", metavar="FILE", help="results of longseq bench")
    parser.add_argument("--output", type=Path, default=Path("report.html"), metavar="PAGE", help="default: report.html")
    parser.add_argument("--figures", type=Path, metavar="FOLDER", help="also write the figures there, as PNG")
    options = parser.parse_args(argv)
    results = load(*options.files)
    if options.figures:
        options.figures.mkdir(parents=True, exist_ok=True)
    options.output.write_text(page(results, options.figures), encoding="utf-8")
    print(f"report: {summary_line(results)}")
    print(f"report: {options.output.resolve()}")


if __name__ == "__main__":
    try:
        main()
    except (ResultsError, OSError) as error:
        sys.exit(f"report.py: {error}")
