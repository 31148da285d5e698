"""The files of `longseq attend` for testhosts.sh: makes a random input, and compares the outputs of two runs."""

import argparse
import sys

import h5py
import numpy

TOLERANCE = 1e-6  # of the largest number: f32 sums in another order


def make(path, heads, sequence, head_dim):
    """/q, /k and /v (1, heads, sequence, head_dim), f32."""
    random = numpy.random.default_rng(1)
    with h5py.File(path, "w") as file:
        for name in "qkv":
            file[name] = random.standard_normal((1, heads, sequence, head_dim)).astype("f4")


def difference(path, other_path):
    """The largest difference in /o or /lse, as a share of the largest number there."""
    worst = 0.0
    with h5py.File(path) as file, h5py.File(other_path) as other:
        for name in ("o", "lse"):
            a, b = file[name][()], other[name][()]
            if a.shape != b.shape or not (numpy.isfinite(a).all() and numpy.isfinite(b).all()):
                sys.exit(f"/{name} is {a.shape} and {b.shape}; expected one shape, and finite numbers")
            worst = max(worst, numpy.abs(a - b).max() / numpy.abs(a).max())
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make", help="a random input, the same each time")
    making.add_argument("file")
    making.add_argument("heads", type=int)
    making.add_argument("sequence", type=int)
    making.add_argument("head_dim", type=int)
    comparing = commands.add_parser("compare", help="says how equal two outputs are; fails beyond rounding")
    comparing.add_argument("file")
    comparing.add_argument("other")
    options = parser.parse_args()
    if options.command == "make":
        make(options.file, options.heads, options.sequence, options.head_dim)
        return
    worst = difference(options.file, options.other)
    if worst > TOLERANCE:
        sys.exit(f"the answers differ by {worst:.1e} of the largest number; expected {TOLERANCE:.0e} at most")
    print("bit for bit" if worst == 0 else f"to rounding ({worst:.1e})")


if __name__ == "__main__":
    main()
