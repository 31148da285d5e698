"""`longseq attend` against an f64 oracle in numpy that is written from the definitions alone: every pattern, causal or
not, every strategy and layout, 1 to 5 ranks, uneven and tiny sequences, grouped heads, odd head sizes, large scores."""

import h5py
import numpy
import pytest

from program import error_lines, run

PATTERNS = ("full", "local", "global", "segment", "document")
STRATEGIES = ("ring", "allgather", "ulysses", "usp", "halo")
LAYOUTS = ("contiguous", "zigzag", "striped")


def mask(pattern, causal, s, options, starts):
    i, j = numpy.arange(s)[:, None], numpy.arange(s)[None, :]
    left, right = options.get("window-left", 0), options.get("window-right", 0)
    window = (j >= i - left) & (j <= i + right)
    if pattern == "full":
        seen = numpy.ones((s, s), bool)
    elif pattern == "local":
        seen = window
    elif pattern == "global":
        seen = window | (j < options["global-tokens"]) | (i < options["global-tokens"])
    elif pattern == "segment":
        seen = (j <= i) & (j >= i // options["segment-length"] * options["segment-length"] - options["memory-length"])
    else:
        document = numpy.searchsorted(starts, numpy.arange(s), side="right")
        seen = document[:, None] == document[None, :]
    return seen & (j <= i) if causal else seen


def rotated(x, sign=1):
    """RoFormer, equation 34; with the sign -1 its transpose."""
    s, d = x.shape[-2:]
    angle = sign * numpy.arange(s)[:, None] * 10000.0 ** (-2 * numpy.arange(d // 2) / d)
    turned = (x[..., 0::2] + 1j * x[..., 1::2]) * numpy.exp(1j * angle)
    out = numpy.empty_like(x)
    out[..., 0::2], out[..., 1::2] = turned.real, turned.imag
    return out


def distances(s):
    return numpy.arange(s)[:, None] - numpy.arange(s)[None, :]


def digits(s, count):
    """Binary digits of the distance, the lowest first; none of a key that comes later. (count, s, s)"""
    return numpy.stack([numpy.maximum(distances(s), 0) >> n & 1 for n in range(count)])


def sinusoids(s, width):
    """R of Transformer-XL for each pair: sines, then cosines, of the distance. (s, s, width)"""
    angle = distances(s)[..., None] * 10000.0 ** (-2 * numpy.arange(width // 2) / width)
    return numpy.concatenate([numpy.sin(angle), numpy.cos(angle)], axis=-1)


def relative_keys(s, parameters):
    """W_R R of each pair, (s, s, d), one head after the other: together they would take a gigabyte."""
    weights = parameters["relative_weights"]
    for head in range(weights.shape[1]):
        yield sinusoids(s, weights.shape[0]) @ weights[:, head]


def oracle(q, k, v, seen, position, parameters):
    q, k, v = (numpy.asarray(x, numpy.float64) for x in (q, k, v))
    heads, s, d = q.shape[1:]
    if position == "rotary":
        q, k = rotated(q), rotated(k)
    group = heads // k.shape[1]
    k, v = numpy.repeat(k, group, axis=1), numpy.repeat(v, group, axis=1)
    scores = q @ k.swapaxes(-1, -2) / numpy.sqrt(d)
    if position == "relative":
        u, v_r = (parameters[name][:, None, :] for name in ("content_bias", "position_bias"))
        scores = (q + u) @ k.swapaxes(-1, -2)
        for h, r in enumerate(relative_keys(s, parameters)):
            scores[:, h] += numpy.einsum("bid,ijd->bij", (q + v_r)[:, h], r)
        scores /= numpy.sqrt(d)
    if position == "learned":
        bias = parameters["bias"]
        reach = bias.shape[1] // 2
        scores += bias[:, numpy.clip(distances(s), -reach, reach) + reach]
    if position == "elan":
        scores += numpy.einsum("hn,nij->hij", parameters["elan"], digits(s, parameters["elan"].shape[1]))
    if position == "alibi":
        assert heads & (heads - 1) == 0
        scores -= 2.0 ** (-8.0 * (numpy.arange(heads) + 1) / heads)[:, None, None] * abs(distances(s))
    scores = numpy.where(seen, scores, -numpy.inf)
    highest = scores.max(-1, keepdims=True)
    weights = numpy.exp(scores - highest)
    total = weights.sum(-1, keepdims=True)
    return (weights / total) @ v, (highest + numpy.log(total))[..., 0], weights / total, abs(scores[numpy.isfinite(scores)]).max()


def gradients(q, k, v, d_o, weights, position, parameters):
    """dq, dk, dv and that of the position term's parameters, for the sum of d_o * o: maths.md, sections 1 and 5. Each
    with the square of what its errors are held against, beside itself: where nearly everything cancels (rows that see
    one key, a table of one column), numbers of size 1, or what was summed."""
    q, k, v, d_o = (numpy.asarray(x, numpy.float64) for x in (q, k, v, d_o))
    if position == "rotary":
        q, k = rotated(q), rotated(k)
    batch, kv_heads, s, d = k.shape
    group = q.shape[1] // kv_heads
    wide_k, wide_v = (numpy.repeat(x, group, axis=1) for x in (k, v))
    d_weights = d_o @ wide_v.swapaxes(-1, -2)
    d_bias = weights * (d_weights - (weights * d_weights).sum(-1, keepdims=True))
    d_scores = d_bias / numpy.sqrt(d)
    over_group = lambda x: x.reshape(batch, kv_heads, group, s, d).sum(2)  # noqa: E731
    dq, dk = d_scores @ wide_k, over_group(d_scores.swapaxes(-1, -2) @ q)
    if position == "rotary":
        dq, dk = rotated(dq, -1), rotated(dk, -1)
    if position == "relative":
        u, v_r = (parameters[name][:, None, :] for name in ("content_bias", "position_bias"))
        du = dq.sum((0, 2))
        dk = over_group(d_scores.swapaxes(-1, -2) @ (q + u))
        dq_r, d_weights_r = numpy.empty_like(q), numpy.empty_like(parameters["relative_weights"])
        for h, r in enumerate(relative_keys(s, parameters)):
            dq_r[:, h] = numpy.einsum("bij,ijd->bid", d_scores[:, h], r)
            d_r = numpy.einsum("bij,bid->ijd", d_scores[:, h], (q + v_r)[:, h])
            d_weights_r[:, h] = numpy.tensordot(sinusoids(s, d_weights_r.shape[0]), d_r, ((0, 1), (0, 1)))
        dq = dq + dq_r
    named = {"dq": (dq, dq.size), "dk": (dk, dk.size), "dv": (over_group(weights.swapaxes(-1, -2) @ d_o), dk.size)}
    if position == "relative":  # sums over all queries, in which much cancels
        for name, exact in (("content_bias", du), ("position_bias", dq_r.sum((0, 2))), ("relative_weights", d_weights_r)):
            named["d" + name] = (exact, exact.size * batch * s)
    if position == "learned":
        reach = parameters["bias"].shape[1] // 2
        at = (numpy.clip(distances(s), -reach, reach) + reach).ravel()
        d_table = numpy.stack([numpy.bincount(at, x.ravel(), 2 * reach + 1) for x in d_bias.sum(0)])
        named["dbias"] = (d_table, numpy.sum((weights * d_weights) ** 2))
    if position == "elan":
        d_digits = numpy.einsum("bhij,nij->hn", d_bias, digits(s, parameters["elan"].shape[1]))
        named["delan"] = (d_digits, numpy.sum((weights * d_weights) ** 2))
    return named


def make_case(random):
    pattern = random.choice(PATTERNS)
    ranks = int(random.integers(1, 6))
    s = int(random.choice([1, 2, 3, 5, 7, 31, 97, 127, 128, 211, 307]))
    position = random.choice(["none", "none", "rotary", "alibi", "learned", "elan", "relative", "relative"])
    kv_heads = int(random.choice([1, 2]))
    heads = kv_heads * int(random.choice([1, 2, 4] if position == "alibi" else [1, 2, 3]))
    options = {
        "local": {"window-left": int(random.integers(0, 60)), "window-right": int(random.integers(0, 60))},
        "global": {"window-left": int(random.integers(0, 40)), "window-right": int(random.integers(0, 40)),
                   "global-tokens": int(random.integers(0, min(s, 40) + 1))},
        "segment": {"segment-length": int(random.integers(1, 70)), "memory-length": int(random.integers(0, 90))},
    }.get(pattern, {})  # fmt: skip
    return dict(
        pattern=pattern, causal=bool(random.integers(0, 2)), ranks=ranks, s=s, position=position, heads=heads,
        kv_heads=kv_heads, d=int(random.choice([8, 16, 40, 64, 80, 128, 256])), batch=int(random.choice([1, 1, 2])),
        strategy=random.choice(STRATEGIES), layout=random.choice(LAYOUTS), options=options,
        dtype=random.choice(["f4", "f8"]), magnitude=float(random.choice([1.0, 1.0, 10.0])),
        overlap=random.choice(["on", "off"]),
    )  # fmt: skip


def attend(path, case, random, *more):
    """Writes an input, runs attend, gives its output, the oracle's (o, lse, weights, largest score), and its input and
    the position term's parameters."""
    shape = (case["batch"], case["heads"], case["s"], case["d"])
    kv_shape = (case["batch"], case["kv_heads"], case["s"], case["d"])
    q, k = (case["magnitude"] * random.standard_normal(x) for x in (shape, kv_shape))
    v = random.standard_normal(kv_shape)
    d_o = random.standard_normal(shape)
    starts = numpy.unique(numpy.concatenate([[0], random.integers(0, case["s"], 1 + case["s"] // 20)]))
    few = int(random.integers(0, 30))
    shapes = {
        "learned": {"bias": (case["heads"], 2 * few + 1)},
        "elan": {"elan": (case["heads"], max((case["s"] - 1).bit_length(), 1) + few % 3)},
        "relative": {"relative_weights": (2 * few + 2, case["heads"], case["d"]),
                     "content_bias": (case["heads"], case["d"]), "position_bias": (case["heads"], case["d"])},
    }.get(case["position"], {})  # fmt: skip
    parameters = {name: random.standard_normal(own).astype(case["dtype"]) for name, own in shapes.items()}
    if case["position"] == "relative":
        parameters["relative_weights"] /= numpy.sqrt(few + 1).astype(case["dtype"])
    q, k, v, d_o = (x.astype(case["dtype"]) for x in (q, k, v, d_o))
    if "bf16" in more:  # what is rounded exactly is not judged
        q, k, v, d_o = (rounded_to_bf16(x) for x in (q, k, v, d_o))
    with h5py.File(path / "in.h5", "w") as file:
        file.update({"q": q, "k": k, "v": v, "do": d_o, "document_starts": starts})
        file.update(parameters)
    arguments = [word for name, value in case["options"].items() for word in (f"--{name}", value)]
    finished = run(
        case["ranks"], "attend", "--input", path / "in.h5", "--output", path / "out.h5", "--pattern", case["pattern"],
        "--causal" if case["causal"] else "--no-causal", "--strategy", case["strategy"], "--layout", case["layout"],
        "--position", case["position"], "--overlap", case["overlap"], "--threads", 1, *arguments, *more,
    )  # fmt: skip
    assert finished.returncode == 0, (case, finished.stderr)
    seen = mask(case["pattern"], case["causal"], case["s"], case["options"], starts)
    with h5py.File(path / "out.h5") as file:
        output = {name: file[name][()] for name in file}
    parameters = {name: values.astype(numpy.float64) for name, values in parameters.items()}
    return output, oracle(q, k, v, seen, case["position"], parameters), (q, k, v, d_o, parameters)


def rounded_to_bf16(x):
    bits = x.astype(numpy.float32).view(numpy.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(numpy.uint32).view(numpy.float32)


def tolerance(case, largest_score):
    """maths.md, section 7, for f32; in f64 scores beyond a few units move their weights by their own rounding."""
    return 3e-6 if case["dtype"] == "f4" else 6e-15 * max(1.0, largest_score / 8)


@pytest.mark.parametrize("seed", range(60))
def test_attend_matches_the_oracle(tmp_path, seed):
    random = numpy.random.default_rng(seed)
    case = make_case(random)
    output, (o, lse, _, largest), _ = attend(tmp_path, case, random)
    assert output["o"].dtype == case["dtype"] and output["o"].shape == o.shape
    error = numpy.linalg.norm(output["o"] - o) / numpy.linalg.norm(o)
    assert error <= tolerance(case, largest), case
    assert abs(output["lse"] - lse).max() <= tolerance(case, largest) * max(1.0, abs(lse).max()), case


def expect_gradients(output, expected, bound, case):
    for name, (exact, scale) in expected.items():
        assert output[name].shape == exact.shape
        error = numpy.linalg.norm(output[name] - exact) / numpy.sqrt(numpy.sum(exact**2) + scale)
        assert error <= bound, (name, case)


@pytest.mark.parametrize("seed", range(100, 160))
def test_gradients_match_the_oracle(tmp_path, seed):
    random = numpy.random.default_rng(seed)
    case = make_case(random) | dict(magnitude=1.0)
    output, (_, _, weights, _), tensors = attend(tmp_path, case, random, "--pass", str(random.choice(["both", "backward"])))
    expect_gradients(output, gradients(*tensors[:4], weights, case["position"], tensors[4]), 1e-5 if case["dtype"] == "f4" else 1e-14, case)


@pytest.mark.parametrize("seed", range(200, 220))
def test_bf16_stays_within_its_bound(tmp_path, seed):
    random = numpy.random.default_rng(seed)
    case = make_case(random) | dict(magnitude=1.0, dtype="f4", position=("none", "relative")[seed % 2])
    output, (o, _, weights, _), tensors = attend(tmp_path, case, random, "--pass", "both", "--dtype", "bf16")
    assert numpy.linalg.norm(output["o"] - o) / numpy.linalg.norm(o) <= 1e-2, case
    expect_gradients(output, gradients(*tensors[:4], weights, case["position"], tensors[4]), 1e-2, case)


@pytest.mark.parametrize("position", ("rotary", "relative"))
def test_every_strategy_layout_and_number_of_ranks_gives_one_answer(tmp_path, position):
    case = dict(
        pattern="global", causal=False, s=101, position=position, heads=4, kv_heads=2, d=40, batch=1, dtype="f8",
        options={"window-left": 9, "window-right": 4, "global-tokens": 23}, magnitude=1.0, overlap="on",
    )  # fmt: skip
    answers = []
    for ranks in (1, 3, 5):
        for strategy in STRATEGIES:
            for layout in LAYOUTS:
                where = tmp_path / f"{ranks}{strategy}{layout}"
                where.mkdir()
                random = numpy.random.default_rng(5)
                own = case | dict(ranks=ranks, strategy=strategy, layout=layout)
                answers.append(attend(where, own, random, "--pass", "both")[0])
    for name in answers[0]:
        assert max(abs(answer[name] - answers[0][name]).max() for answer in answers) < 3e-14, name


def test_the_strategy_may_be_left_to_the_predictor(tmp_path):
    random = numpy.random.default_rng(10)
    case = make_case(random) | dict(pattern="document", ranks=2, s=307, strategy="auto", dtype="f8", magnitude=1.0)
    output, (o, _, weights, _), tensors = attend(tmp_path, case, random, "--pass", "both")
    assert numpy.linalg.norm(output["o"] - o) / numpy.linalg.norm(o) < 1e-14
    expect_gradients(output, gradients(*tensors[:4], weights, case["position"], tensors[4]), 1e-14, case)


@pytest.mark.parametrize("digits", (3, 64))
def test_elan_with_too_few_or_too_many_digits_is_refused(tmp_path, digits):
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file.update({name: numpy.ones((1, 2, 9, 8), "f4") for name in "qkv"} | {"elan": numpy.ones((2, digits), "f4")})
    where = ("--input", tmp_path / "in.h5", "--output", tmp_path / "out.h5")
    said = error_lines(run(2, "attend", *where, "--position", "elan"))
    assert len(said) == 1 and f"/elan has the shape (2, {digits})" in said[0] and "N from 4" in said[0]


@pytest.mark.parametrize(
    "name, shape", (("relative_weights", (3, 2, 8)), ("relative_weights", (4, 1, 8)), ("content_bias", (2, 7)),
                    ("position_bias", (1, 8)))
)  # fmt: skip
def test_relative_parameters_of_another_shape_are_refused(tmp_path, name, shape):
    shapes = {"relative_weights": (4, 2, 8), "content_bias": (2, 8), "position_bias": (2, 8)} | {name: shape}
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file.update({name: numpy.ones((1, 2, 9, 8), "f4") for name in "qkv"})
        file.update({name: numpy.ones(own, "f4") for name, own in shapes.items()})
    said = error_lines(run(2, "attend", "--input", tmp_path / "in.h5", "--output", tmp_path / "out.h5", "--position", "relative"))
    assert len(said) == 1 and f"/{name} has the shape ({', '.join(map(str, shape))})" in said[0] and "H = 2, D = 8" in said[0]


def test_gradients_without_do_are_refused(tmp_path):
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file.update({name: numpy.ones((1, 1, 4, 8), "f4") for name in "qkv"})
    finished = run(2, "attend", "--input", tmp_path / "in.h5", "--output", tmp_path / "out.h5", "--pass", "both")
    assert finished.returncode != 0
    assert len(error_lines(finished)) == 1 and "/do" in error_lines(finished)[0]
    assert not (tmp_path / "out.h5").exists()


def test_a_degree_that_does_not_divide_the_ranks_is_refused_alike(tmp_path):
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file.update({name: numpy.ones((1, 1, 8, 8), "f4") for name in "qkv"})
    usp = ("--strategy", "usp", "--ulysses-degree", 2)
    said = [
        error_lines(run(None, "plan", "--ranks", 3, *usp)),
        error_lines(run(3, "bench", *usp, "--output", tmp_path / "r.h5")),
        error_lines(run(3, "attend", *usp, "--input", tmp_path / "in.h5", "--output", tmp_path / "out.h5")),
    ]
    assert len(said[0]) == 1 and "ulysses-degree is 2 with 3 ranks" in said[0][0]
    assert said[0] == said[1] == said[2]


def test_weights_are_the_softmax(tmp_path):
    random = numpy.random.default_rng(8)
    case = dict(
        pattern="local", causal=True, ranks=3, s=65, position="relative", heads=2, kv_heads=1, d=16, batch=2, dtype="f8",
        strategy="halo", layout="contiguous", options={"window-left": 11, "window-right": 0}, magnitude=1.0, overlap="on",
    )  # fmt: skip
    output, (_, _, weights, _), _ = attend(tmp_path, case, random, "--weights")
    assert output["weights"].shape == (2, 2, 65, 65)
    assert abs(output["weights"] - weights).max() < 1e-14


def test_f64_input_may_be_computed_in_f32(tmp_path):
    random = numpy.random.default_rng(9)
    case = make_case(random) | dict(dtype="f8", magnitude=1.0)
    output, (o, _, _, _), _ = attend(tmp_path, case, random, "--dtype", "f32")
    assert output["o"].dtype == numpy.float32
    assert numpy.linalg.norm(output["o"] - o) / numpy.linalg.norm(o) < 3e-6


def test_an_output_that_exists_is_refused_and_kept(tmp_path):
    (tmp_path / "out.h5").write_text("precious")
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file.update({name: numpy.ones((1, 1, 4, 8), "f4") for name in "qkv"})
    finished = run(2, "attend", "--input", tmp_path / "in.h5", "--output", tmp_path / "out.h5")
    assert finished.returncode != 0
    assert len(error_lines(finished)) == 1 and "exists" in error_lines(finished)[0]
    assert (tmp_path / "out.h5").read_text() == "precious"
