"""What the peers are asked to compute: the case, its inputs, its mask, and the answer in f64."""

from dataclasses import asdict, dataclass

import numpy

PATTERNS = ("full", "local", "global")
STORED = {"f32": numpy.float32, "bf16": numpy.uint16, "f64": numpy.float64}  # NumPy has no bf16: its bits
ACCUMULATED = {"f32": numpy.float32, "bf16": numpy.float32, "f64": numpy.float64}
ALIGNMENT = 64  # bytes: as PyTorch's tensors and longseq's own
SEED = 2024


class PeersError(Exception):
    """What the user has to change: the message is one line, with a hint."""


@dataclass(frozen=True)
class Case:
    """One problem. The fields have the names of longseq's results, so that its labels fit."""

    pattern: str
    causal: bool
    window_left: int
    window_right: int
    global_tokens: int
    backward: bool
    seq_len: int
    batch: int
    heads: int
    kv_heads: int
    head_dim: int
    dtype: str
    threads: int

    @property
    def query_shape(self):
        return self.batch, self.heads, self.seq_len, self.head_dim

    @property
    def key_shape(self):
        return self.batch, self.kv_heads, self.seq_len, self.head_dim

    def columns(self):
        columns = asdict(self)
        columns["pass"] = "backward" if columns.pop("backward") else "forward"
        return columns

    def flops(self, area):
        """Mask-exact, as everywhere in longseq: 4 · area · H · D forward, 2.5 times that backward."""
        return 4 * area * self.batch * self.heads * self.head_dim * (2.5 if self.backward else 1)


def sees(case, i, j):
    """Whether query i sees key j. Works on numbers, on arrays of NumPy and on tensors of PyTorch."""
    seen = (j >= 0) & (i >= 0)
    if case.pattern != "full":
        seen = (i - j <= case.window_left) & (j - i <= case.window_right)
    if case.pattern == "global":
        seen = seen | (i < case.global_tokens) | (j < case.global_tokens)
    return seen & (j <= i) if case.causal else seen


def inputs(case):
    """q, k, v and the gradient of o in the case's type: in every process the same."""
    random = numpy.random.default_rng(SEED)
    shapes = case.query_shape, case.key_shape, case.key_shape, case.query_shape
    return [_store(random.standard_normal(shape, numpy.float32), case.dtype) for shape in shapes]


def sample(case, array):
    """The part of a tensor that is checked: the first key head, or the query heads that read it."""
    return array[0, : array.shape[1] // case.kv_heads]


def attention_f64(case, q, k, v, d_o, rows=512):
    """o, dq, dk, dv in f64, by definition (maths.md, section 1), `rows` queries at a time. q, d_o: (heads,
    tokens, head_dim); k, v: (kv_heads, tokens, head_dim)."""
    scale, group = case.head_dim**-0.5, len(q) // len(k)
    o, dq, dk, dv = (numpy.zeros_like(like) for like in (q, q, k, v))
    keys = numpy.arange(case.seq_len)
    for head, start in ((head, start) for head in range(len(q)) for start in range(0, case.seq_len, rows)):
        block, kv = slice(start, start + rows), head // group
        scores = numpy.where(sees(case, keys[block, None], keys), scale * q[head, block] @ k[kv].T, -numpy.inf)
        p = numpy.exp(scores - scores.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        o[head, block] = p @ v[kv]
        delta = (d_o[head, block] * o[head, block]).sum(axis=1, keepdims=True)
        ds = p * (d_o[head, block] @ v[kv].T - delta)
        dq[head, block] = scale * ds @ k[kv]
        dk[kv] += scale * ds.T @ q[head, block]
        dv[kv] += p.T @ d_o[head, block]
    return o, dq, dk, dv


def relative_error(values, reference):
    """In the Frobenius norm; of several tensors the worst."""
    return max(numpy.linalg.norm(a - b) / numpy.linalg.norm(b) for a, b in zip(values, reference, strict=True))


def aligned(shape, dtype):
    """An uninitialised array that begins on a cache line, which NumPy does not promise."""
    dtype = numpy.dtype(dtype)
    size = int(numpy.prod(shape)) * dtype.itemsize
    raw = numpy.empty(size + ALIGNMENT, numpy.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)


def to_f64(array):
    """The values of a stored array."""
    if array.dtype == numpy.uint16:
        array = (array.astype(numpy.uint32) << 16).view(numpy.float32)
    return array.astype(numpy.float64)


def _store(values, dtype):
    if dtype == "bf16":  # to nearest, ties to even
        bits = values.view(numpy.uint32)
        values = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    array = aligned(values.shape, STORED[dtype])
    array[...] = values
    return array
