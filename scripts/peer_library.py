"""longseq's kernels through their C interface, kernels/bench/peer_library.h."""

import ctypes
from pathlib import Path

import numpy

from peer_cases import ACCUMULATED, PATTERNS, PeersError, aligned

DEFAULT = Path(__file__).parent.parent / "build" / "liblongseq_peer.so"
DTYPES = ("f32", "bf16", "f64")


class Problem(ctypes.Structure):
    """struct LongseqProblem."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("batch", "heads", "kv_heads", "tokens", "head_dim")),
        *((name, ctypes.c_int64) for name in ("window_left", "window_right", "global_tokens")),
        *((name, ctypes.c_int32) for name in ("pattern", "causal", "dtype", "threads")),
    ]


class Library:
    def __init__(self, path=DEFAULT):
        if not Path(path).is_file():
            raise PeersError(
                f"{path}: no such file; build it with: cmake --preset release &&"
                " cmake --build --preset release --target longseq_peer"
            )
        try:
            self._library = ctypes.CDLL(str(Path(path).resolve()))
            problem, tensor = ctypes.POINTER(Problem), numpy.ctypeslib.ndpointer(flags="C_CONTIGUOUS")
            self._declare("longseq_forward", ctypes.c_int, problem, *5 * [tensor])
            self._declare("longseq_backward", ctypes.c_int, problem, *9 * [tensor])
            self._declare("longseq_area", ctypes.c_int64, problem)
            self._declare("longseq_fma_rate", ctypes.c_double, ctypes.c_int32, ctypes.c_double)
            self._declare("longseq_simd_target", ctypes.c_char_p)
            self._declare("longseq_error", ctypes.c_char_p)
        except (OSError, AttributeError) as error:
            raise PeersError(f"{path}: not longseq's peer library, or of another machine ({error})") from error

    def forward(self, case, q, k, v):
        """A function that computes o and lse, into the same arrays each time, and returns them."""
        problem = _problem(case)
        o, lse = aligned(q.shape, q.dtype), aligned(q.shape[:-1], ACCUMULATED[case.dtype])

        def call():
            self._check(self._library.longseq_forward(problem, q, k, v, o, lse))
            return o, lse

        return call

    def backward(self, case, q, k, v, d_o):
        """A function that computes dq, dk and dv from the results of one forward pass, made here."""
        problem = _problem(case)
        o, lse = self.forward(case, q, k, v)()
        gradients = [aligned(like.shape, ACCUMULATED[case.dtype]) for like in (q, k, v)]

        def call():
            self._check(self._library.longseq_backward(problem, q, k, v, o, lse, d_o, *gradients))
            return gradients

        return call

    def area(self, case):
        """Visible pairs of a head."""
        area = self._library.longseq_area(_problem(case))
        self._check(area < 0)
        return area

    def fma_rate(self, threads, seconds=0.2):
        rate = self._library.longseq_fma_rate(threads, seconds)
        self._check(rate < 0)
        return rate

    def simd_target(self):
        return self._library.longseq_simd_target().decode()

    def _declare(self, name, result, *arguments):
        function = getattr(self._library, name)
        function.restype, function.argtypes = result, arguments

    def _check(self, refused):
        if refused:
            raise PeersError(f"longseq refuses: {self._library.longseq_error().decode()}")


def _problem(case):
    return Problem(
        batch=case.batch,
        heads=case.heads,
        kv_heads=case.kv_heads,
        tokens=case.seq_len,
        head_dim=case.head_dim,
        window_left=case.window_left,
        window_right=case.window_right,
        global_tokens=case.global_tokens,
        pattern=PATTERNS.index(case.pattern),
        causal=case.causal,
        dtype=DTYPES.index(case.dtype),
        threads=case.threads,
    )
