#!/usr/bin/env python3
"""Draws one figure from results files: plot.py FIGURE FILE... --output figure.png (or .svg, .pdf)."""

import argparse
import sys
from pathlib import Path

from figures import FIGURES, NothingToDraw
from longseq_results import ResultsError, load

FORMATS = (".png", ".svg", ".pdf")


def arguments(argv):
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="figure", required=True, metavar="FIGURE")
    for row in FIGURES:
        command = commands.add_parser(row.name, help=row.title.lower(), description=f"{row.title}. {row.caption}")
        command.add_argument("files", nargs="+", metavar="FILE", help="results of longseq bench")
        command.add_argument("--output", required=True, metavar="FIGURE", help="a .png, .svg or .pdf file")
        for flag, keywords in row.options:
            command.add_argument(flag, **keywords)
    return vars(parser.parse_args(argv))


def main(argv=None):
    options = arguments(argv)
    name = options.pop("figure")
    row = next(row for row in FIGURES if row.name == name)
    output = Path(options.pop("output"))
    if output.suffix not in FORMATS:
        raise ResultsError(f"{output}: the figure's name must end in {', '.join(FORMATS)}")
    row.draw(load(*options.pop("files")), **options).savefig(output)
    print(output)


if __name__ == "__main__":
    try:
        main()
    except (ResultsError, NothingToDraw, OSError) as error:
        sys.exit(f"plot.py: {error}")
