import dataclasses
import itertools
import os

import numpy
import pytest

from figures_test import sees as sees_pair
from peer_cases import Case, PeersError, attention_f64, inputs, relative_error, sees, to_f64
from peer_library import DEFAULT, Library

# maths.md, section 7.
BOUNDS = {"f64": (1e-14, 1e-14), "f32": (3e-6, 1e-5), "bf16": (1e-2, 1e-2)}
SMALL = Case(pattern="full", causal=False, window_left=0, window_right=0, global_tokens=0, backward=False, seq_len=19,
             batch=1, heads=4, kv_heads=2, head_dim=8, dtype="f64", threads=2)  # fmt: skip
PATTERNS = [
    dict(pattern=pattern, causal=causal, window_left=17, window_right=0 if causal else 5, global_tokens=3)
    for pattern, causal in itertools.product(("full", "local", "global"), (False, True))
]


@pytest.fixture(scope="module")
def library():
    if not DEFAULT.is_file():
        pytest.skip(f"{DEFAULT} is not built")
    before = os.sched_getaffinity(0)
    yield Library()
    os.sched_setaffinity(0, before)  # it has pinned this thread


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: f"{pattern['pattern']}-{pattern['causal']}")
@pytest.mark.parametrize("shape", [dict(seq_len=5, head_dim=8), dict(seq_len=131, head_dim=40, batch=2),
                                   dict(seq_len=300, head_dim=64, kv_heads=4)], ids=str)  # fmt: skip
@pytest.mark.parametrize("dtype", BOUNDS)
def test_longseq_computes_attention_and_its_gradients(library, dtype, shape, pattern):
    case = dataclasses.replace(SMALL, dtype=dtype, **shape, **pattern)
    tensors = inputs(case)
    o, lse = library.forward(case, *tensors[:3])()
    gradients = library.backward(case, *tensors)()
    for entry in range(case.batch):
        expected = attention_f64(case, *(to_f64(tensor[entry]) for tensor in tensors), rows=100)
        forward, backward = BOUNDS[dtype]
        assert relative_error([to_f64(o[entry])], expected[:1]) < forward
        assert relative_error([to_f64(gradient[entry]) for gradient in gradients], expected[1:]) < backward
    assert numpy.isfinite(lse).all()


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_mask_and_area_are_the_definition_s(library, pattern):
    for seq_len, tokens in ((1, 1), (18, 3), (40, 3), (40, 40)):
        case = dataclasses.replace(SMALL, seq_len=seq_len, **pattern | dict(global_tokens=tokens))
        positions = numpy.arange(seq_len)
        columns = case.columns() | dict(segment_length=0, document_length=0)
        expected = [[sees_pair(columns, i, j) for j in positions] for i in positions]
        mask = numpy.broadcast_to(sees(case, positions[:, None], positions), (seq_len, seq_len))
        assert mask.tolist() == expected
        assert library.area(case) == mask.sum()


def test_gradients_of_the_reference_are_differences_of_its_output():
    case = dataclasses.replace(SMALL, **PATTERNS[-1] | dict(window_left=4))
    tensors = [tensor[0] for tensor in inputs(case)]
    gradients = attention_f64(case, *tensors, rows=7)[1:]
    step = 1e-5 * numpy.random.default_rng(1).standard_normal(3)
    for number, gradient in enumerate(gradients):
        direction = numpy.random.default_rng(number).standard_normal(gradient.shape)
        moved = []
        for sign in (1, -1):
            shifted = list(tensors)
            shifted[number] = tensors[number] + sign * step[number] * direction
            moved.append((attention_f64(case, *shifted)[0] * tensors[3]).sum())
        assert (moved[0] - moved[1]) / (2 * step[number]) == pytest.approx((gradient * direction).sum(), rel=1e-6)


def test_bf16_is_rounded_to_nearest():
    case = dataclasses.replace(SMALL, seq_len=300)
    exact, stored = (to_f64(inputs(dataclasses.replace(case, dtype=dtype))[0]) for dtype in ("f32", "bf16"))
    assert 2**-10 < (numpy.abs(stored - exact) / numpy.abs(exact)).max() <= 2**-8
    assert abs((stored - exact).mean()) < 1e-4


def test_refusals_say_why(library):
    q, k, v, _ = inputs(SMALL)
    wrong = dataclasses.replace(SMALL, kv_heads=3)
    with pytest.raises(PeersError, match="kv-heads is 3; expected a divisor of heads = 4"):
        library.forward(wrong, q, k, v)()
    with pytest.raises(PeersError, match="seq-len is 0"):
        library.area(dataclasses.replace(SMALL, seq_len=0))
    with pytest.raises(PeersError, match="threads 0: expected 1 or more"):
        library.fma_rate(0)


def test_a_library_that_is_none(tmp_path):
    with pytest.raises(PeersError, match="cmake --build --preset release --target longseq_peer"):
        Library(tmp_path / "absent.so")
    (tmp_path / "text.so").write_text("no library")
    with pytest.raises(PeersError, match="not longseq's peer library"):
        Library(tmp_path / "text.so")
