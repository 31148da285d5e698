"""What the process of one peer does: it is pinned, prepares a case, and calls it once whenever it is asked.
Each peer has a process of its own, so that their thread pools, allocators and caches of code do not mix."""

import logging
import os
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy

from peer_cases import PATTERNS, inputs, sample, sees, to_f64
from peer_library import Library

# A thread of an idle peer must leave the cores to the one that is being timed.
NO_SPINNING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}


_call = None  # of the case that is prepared


class Unavailable(Exception):
    """Why this peer cannot do this case, in one line."""


class Peer(NamedTuple):
    title: str
    attention: Callable  # case -> function of q, k, v (PyTorch)
    squares: Callable  # case -> matrices of seq_len² that it needs at least
    patterns: tuple = PATTERNS


def begin(cpus):
    """First in the process: before PyTorch, whose threads inherit the CPUs and read the environment."""
    os.sched_setaffinity(0, cpus)
    os.environ.update(NO_SPINNING)
    logging.disable(logging.WARNING)  # that there is no GPU is known


def prepare(name, case, library, memory_limit):
    """Makes `case` the one that repeat() times, calls it once and returns the sample of its results in f64."""
    global _call
    _call = None  # frees the tensors of the case before
    try:
        _call = _longseq(case, library) if name == "longseq" else _torch(PEERS[name], case, memory_limit)
        return [sample(case, to_f64(numpy.asarray(result))) for result in _call()]
    except Exception as error:  # of many types, some of which cannot travel between processes
        while error.__cause__:  # the compiler wraps what went wrong
            error = error.__cause__
        text = str(error).strip() or type(error).__name__
        raise Unavailable(text.splitlines()[0]) from None


def repeat():
    """Seconds of one call, right after an untimed one: the peer before it had the caches."""
    _call()
    start = time.perf_counter()
    _call()
    return time.perf_counter() - start


def ceiling(library, threads):
    """FMA FLOP/s now, and the share of the cores that others left to it."""
    library = Library(library)
    begun, busy = time.perf_counter(), time.process_time()
    rate = library.fma_rate(threads)
    return rate, (time.process_time() - busy) / ((time.perf_counter() - begun) * threads)


def _longseq(case, library):
    q, k, v, d_o = inputs(case)
    if case.backward:
        return Library(library).backward(case, q, k, v, d_o)
    forward = Library(library).forward(case, q, k, v)
    return lambda: forward()[:1]


def _torch(peer, case, memory_limit):
    needed = peer.squares(case) * case.seq_len**2 * (2 if case.dtype == "bf16" else 4)
    if needed > memory_limit:
        raise Unavailable(f"needs {needed / 2**30:.1f} GiB for seq_len² alone, more than --memory-limit")
    import torch

    torch.set_num_threads(case.threads)
    *tensors, d_o = (_tensor(array) for array in inputs(case))
    attention = peer.attention(case)
    if not case.backward:
        return torch.no_grad()(lambda: [_array(attention(*tensors))])
    for tensor in tensors:
        tensor.requires_grad_()
    o = attention(*tensors)
    return lambda: [_array(g) for g in torch.autograd.grad(o, tensors, d_o, retain_graph=True)]


def _tensor(array):
    import torch

    if array.dtype == numpy.uint16:
        return torch.from_numpy(array.view(numpy.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _array(tensor):
    """The same memory as an array as peer_cases stores it."""
    import torch

    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(numpy.uint16)
    return tensor.numpy()


def _mask(case):
    """(seq_len, seq_len), true where the query (row) sees the key."""
    import torch

    positions = torch.arange(case.seq_len)
    return sees(case, positions[:, None], positions)


def _sdpa(case):
    from torch.nn.functional import scaled_dot_product_attention

    if case.pattern == "full":
        return lambda q, k, v: scaled_dot_product_attention(q, k, v, is_causal=case.causal)
    mask = _mask(case)
    return lambda q, k, v: scaled_dot_product_attention(q, k, v, attn_mask=mask)


def _naive(case):
    scale = case.head_dim**-0.5
    hidden = ~_mask(case) if case.causal or case.pattern != "full" else None

    def attention(q, k, v):
        scores = scale * q @ k.transpose(-2, -1)
        if hidden is not None:
            scores = scores.masked_fill(hidden, float("-inf"))
        return scores.softmax(-1) @ v

    return attention


def _flex(case):
    import torch
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    torch.compiler.reset()  # else the limit on recompilations would end in code that was not compiled
    mask = create_block_mask(lambda b, h, i, j: sees(case, i, j), None, None, case.seq_len, case.seq_len, "cpu")
    compiled = torch.compile(flex_attention, fullgraph=True)
    return lambda q, k, v: compiled(q, k, v, block_mask=mask)


# A peer is one row here; longseq itself is what they are held against.
PEERS = {
    "sdpa": Peer("PyTorch scaled_dot_product_attention", _sdpa, lambda case: case.pattern != "full"),
    "naive": Peer("PyTorch softmax(QKᵀ)V", _naive, lambda case: case.batch * case.heads),
    "flex": Peer("PyTorch FlexAttention, compiled", _flex, lambda case: 1, ("local", "global")),
}
