"""The command line of peers.py: which cases, which peers, on which cores."""

import argparse
import itertools
import os
import re
from functools import cache
from pathlib import Path

from peer_cases import PATTERNS, Case
from peer_library import DEFAULT
from peer_table import FEWEST
from peer_workers import PEERS
from plot import FORMATS

PASSES = ("forward", "backward")
PATTERN_NAMES = tuple(name + causal for name in PATTERNS for causal in ("", "_causal"))


def parse(argv, description):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--patterns", type=several(PATTERN_NAMES), default="full,full_causal,local_causal,global_causal",
        metavar="LIST", help=f"of {', '.join(PATTERN_NAMES)} (default: %(default)s)")  # fmt: skip
    add("--passes", type=several(PASSES), default="forward,backward", metavar="LIST", help="(default: %(default)s)")
    add("--seq-lens", type=several(positive), default="1k,4k,8k", metavar="LIST", help="(default: %(default)s)")
    add("--head-dims", type=several(positive), default="64,128", metavar="LIST", help="(default: %(default)s)")
    add("--batch", type=positive, default=1, metavar="N", help="(default: 1)")
    add("--heads", type=positive, default=4, metavar="N", help="(default: 4)")
    add("--window-left", type=positive, default=512, metavar="N", help="local, global: keys seen before the query"
        " (default: 512)")  # fmt: skip
    add("--window-right", type=positive, metavar="N", help="and after it, unless causal (default: as many)")
    add("--global-tokens", type=positive, default=64, metavar="N", help="global: tokens that see and are seen by all"
        " (default: 64)")  # fmt: skip
    add("--dtype", choices=("f32", "bf16"), default="f32", help="of the tensors (default: f32)")
    add("--peers", type=several(PEERS), default=",".join(PEERS), metavar="LIST", help="(default: %(default)s)")
    add("--threads", type=threads, metavar="N", help="and as many cores (default: all)")
    add("--repetitions", type=repetitions, default=7, metavar="N",
        help=f"rounds, {FEWEST} or more for an interval of 95 %% (default: 7)")  # fmt: skip
    add("--memory-limit", type=positive, default="4G", metavar="BYTES", help="a peer whose matrices of seq_len² would"
        " be larger is left out; it may need some times as much (default: 4G)")  # fmt: skip
    add("--library", type=Path, default=DEFAULT, metavar="FILE", help="longseq's (default: build/%s)" % DEFAULT.name)
    add("--output-csv", type=writable(".csv"), default="peers.csv", metavar="FILE", help="(default: %(default)s)")
    add("--figure", type=writable(*FORMATS), default="peers.png", metavar="FILE", help="(default: %(default)s)")
    options = parser.parse_args(argv)
    options.threads = options.threads or len(cores())
    return options


def cases(options):
    """Both passes of a problem follow each other: they share its reference."""
    for pattern, seq_len, head_dim, direction in itertools.product(
        options.patterns, options.seq_lens, options.head_dims, options.passes
    ):
        kind, _, causal = pattern.partition("_")
        right = 0 if causal else options.window_right or options.window_left
        windowed = kind != "full"
        yield Case(
            pattern=kind, causal=bool(causal), window_left=options.window_left if windowed else 0,
            window_right=right if windowed else 0,
            global_tokens=min(options.global_tokens, seq_len) if kind == "global" else 0,
            backward=direction == "backward", seq_len=seq_len, batch=options.batch, heads=options.heads,
            kv_heads=options.heads, head_dim=head_dim, dtype=options.dtype, threads=options.threads,
        )  # fmt: skip


@cache
def cores():
    """One hardware thread of each core that this process may use."""
    found = {}
    for cpu in sorted(os.sched_getaffinity(0)):
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        found.setdefault(siblings.read_text() if siblings.exists() else cpu, cpu)
    return tuple(found.values())


def positive(text):
    """Numbers may end in k, M or G, as on the command line of longseq."""
    match = re.fullmatch(r"(\d+)([kmg]?)", text.strip().lower())
    if not match or not int(match[1]):
        raise argparse.ArgumentTypeError(f"'{text}' is no number of 1 or more, such as 4096 or 4k")
    return int(match[1]) * 1024 ** ("", "k", "m", "g").index(match[2])


def repetitions(text):
    if positive(text) < FEWEST:
        raise argparse.ArgumentTypeError(f"{text} give no interval of 95 %; expected {FEWEST} or more")
    return positive(text)


def threads(text):
    if positive(text) > len(cores()):
        raise argparse.ArgumentTypeError(f"{text} are more than the cores here; expected 1 to {len(cores())}")
    return positive(text)


def several(known):
    """Reads a list with commas of known words, or of what the function `known` reads."""

    def word(text):
        if text not in known:
            raise argparse.ArgumentTypeError(f"'{text}' is unknown; expected some of {','.join(known)}")
        return text

    return lambda text: [(known if callable(known) else word)(part) for part in text.split(",")]


def writable(*suffixes):
    """A file to be written at the end of a long run: what would fail then fails now."""

    def path(text):
        file = Path(text)
        if file.suffix not in suffixes:
            raise argparse.ArgumentTypeError(f"{text}: the name must end in {', '.join(suffixes)}")
        if not os.access(file.parent, os.W_OK):
            raise argparse.ArgumentTypeError(f"{text}: cannot write to the folder {file.parent}; does it exist?")
        return file

    return path
