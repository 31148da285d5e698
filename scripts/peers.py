#!/usr/bin/env python3
"""Compares longseq's attention kernels on this machine's cores with what one would pick instead: PyTorch's
scaled_dot_product_attention (sdpa), softmax(QKᵀ)V composed by hand (naive), and FlexAttention (flex).

Each is a process of its own, pinned to the same cores; longseq's threads have a core each, PyTorch's go where
the system puts them (bound by OMP_PROC_BIND they took 0 to 4 % longer). They take turns call by call, in an
order shuffled for each round, so that a minute in which the machine is slow is slow for all. The time is that of
one call; gradients are timed without the forward pass before them. Errors are relative, in the Frobenius norm, against f64."""

import importlib.metadata
import random
import re
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import peer_options
import peer_table
import peer_workers
from figures import NothingToDraw
from figures.peers import draw
from peer_cases import SEED, PeersError, attention_f64, inputs, relative_error, sample, to_f64
from peer_library import Library
from peer_workers import PEERS, Unavailable


class Processes:
    """One process per peer, started when it is first asked, and anew if it died."""

    def __init__(self, cpus):
        self._cpus, self._pools = cpus, {}

    def ask(self, peer, function, *arguments):
        """The result of the call in the peer's process; raises Unavailable."""
        if peer not in self._pools:
            self._pools[peer] = ProcessPoolExecutor(1, get_context("spawn"), peer_workers.begin, (self._cpus,))
        try:
            return self._pools[peer].submit(function, *arguments).result()
        except BrokenProcessPool:
            del self._pools[peer]
            raise Unavailable("its process died; out of memory?") from None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pool in self._pools.values():
            pool.shutdown(cancel_futures=True)


def compare(processes, case, peers, options):
    """name -> seconds, round by round, and error, or the reason why there are none, longseq first; and the
    ceilings before and after the rounds."""
    results, order = {}, random.Random(SEED)

    def ask(peer, function, *arguments):
        try:
            return processes.ask(peer, function, *arguments)
        except Unavailable as reason:
            if peer == "longseq":
                raise PeersError(f"longseq: {reason}") from None
            results[peer] = str(reason)

    for peer in ("longseq", *peers):
        values = ask(peer, peer_workers.prepare, peer, case, options.library, options.memory_limit)
        if values is not None:
            results[peer] = dict(values=values, seconds=[])
    before = ask("longseq", peer_workers.ceiling, options.library, case.threads)
    for _ in range(options.repetitions):
        running = [peer for peer, result in results.items() if isinstance(result, dict)]
        for peer in order.sample(running, len(running)):
            seconds = ask(peer, peer_workers.repeat)
            if seconds is not None:
                results[peer]["seconds"].append(seconds)
    after = ask("longseq", peer_workers.ceiling, options.library, case.threads)
    # Only now: the threads of NumPy's products spin for a while after them, on the cores that are measured.
    o, *gradients = reference(replace(case, backward=False))
    for result in results.values():
        if isinstance(result, dict):
            result["error"] = relative_error(result.pop("values"), gradients if case.backward else [o])
    return results, (before, after)


@lru_cache(maxsize=1)  # both passes of a problem follow each other
def reference(case):
    return attention_f64(case, *(sample(case, to_f64(tensor)) for tensor in inputs(case)))


def machine(library):
    """What the numbers belong to."""
    info = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return dict(
        cpu_model=model[1] if model else "unknown",
        simd_target=library.simd_target(),
        torch_version=importlib.metadata.version("torch"),
    )


def run(options):
    """Every case, one after the other; the CSV is complete after each."""
    library = Library(options.library)
    here, table = machine(library), []
    print(f"{here['cpu_model']}, {options.threads} threads, {here['simd_target']}; PyTorch {here['torch_version']}")
    print(peer_table.HEADER)
    with Processes(peer_options.cores()[: options.threads]) as processes:
        for number, case in enumerate(peer_options.cases(options)):
            flops = case.flops(library.area(case))
            peers = [name for name in options.peers if case.pattern in PEERS[name].patterns]
            results, ceilings = compare(processes, case, peers, options)
            rows = peer_table.rows(number, case, flops, ceilings, results, here)
            print(peer_table.case_text(case, ceilings), *map(peer_table.row_text, rows), sep="\n", flush=True)
            table += rows
            peer_table.write_csv(table, options.output_csv)
    return table


def main(argv=None):
    options = peer_options.parse(argv, __doc__)
    try:
        importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        raise PeersError("PyTorch is not installed; scripts/setup.sh --peers gets it") from None
    table = run(options)
    print(f"peers: {options.output_csv}")
    draw(table, {name: peer.title for name, peer in PEERS.items()}).savefig(options.figure)
    print(f"peers: {options.figure}")
    if wrong := [row for row in table if row["peer"] == "longseq" and row["reason"]]:
        raise PeersError(f"longseq's results are wrong in {len(wrong)} cases: {wrong[0]['reason']}")


if __name__ == "__main__":
    try:
        main()
    except (PeersError, NothingToDraw, OSError) as error:
        sys.exit(f"peers.py: {error}")
    except KeyboardInterrupt:
        sys.exit("peers.py: interrupted; the cases that were finished are in the CSV file")
