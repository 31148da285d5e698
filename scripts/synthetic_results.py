"""Results files for the tests of these scripts: laid out by results/SCHEMA.md with h5py, filled with invented
but plausible numbers. Nothing here is a measurement."""

import h5py
import numpy

PHASES = ("compute", "communication", "waiting", "merging", "total")
DEFAULTS = dict(
    pattern="full", causal=True, window_left=0, window_right=0, global_tokens=0, segment_length=0, memory_length=0,
    document_length=0, seq_len=16384, batch=1, heads=8, kv_heads=8, head_dim=64, dtype="f32", position="rotary",
    dataset="english", strategy="ring", layout="zigzag", overlap=True, threads=1,
)  # fmt: skip
CASES = (
    dict(layout="contiguous"),
    dict(layout="zigzag"),
    dict(layout="striped"),
    dict(layout="zigzag", overlap=False),
    dict(strategy="allgather", layout="zigzag", kv_heads=2),
    dict(causal=False, layout="contiguous"),
    dict(pattern="local", window_left=512, strategy="halo", layout="contiguous"),
    dict(pattern="local", causal=False, window_left=256, window_right=256, strategy="halo", layout="contiguous"),
    dict(pattern="global", causal=False, window_left=256, window_right=256, global_tokens=64, strategy="halo",
         layout="contiguous"),
    dict(pattern="segment", segment_length=2048, memory_length=2048, strategy="halo", layout="contiguous"),
    dict(pattern="document", document_length=2048, layout="striped"),
)  # fmt: skip


def area(case):
    """Visible pairs, roughly: these files only need to look right."""
    tokens = case["seq_len"]
    per_query = {
        "full": tokens,
        "local": case["window_left"] + case["window_right"] + 1,
        "global": case["window_left"] + case["window_right"] + case["global_tokens"] * 2,
        "segment": case["memory_length"] + case["segment_length"] / 2,
        "document": case["document_length"],
    }[case["pattern"]]
    halved = case["causal"] and case["pattern"] in ("full", "document")
    return tokens * per_query * (0.5 if halved else 1)


def write(path, ranks=2, cases=CASES, repetitions=14, complete=True, version="1.1.0", seed=7):
    """Writes a results file with `cases`, each a dict of options that differ from DEFAULTS."""
    random = numpy.random.default_rng(seed)
    with h5py.File(path, "w", track_order=True) as file:
        _attributes(file, dict(schema_name="longseq-results", schema_version=version, created="2026-01-02T03:04:05Z",
                               run_uuid="00000000-0000-4000-8000-000000000000", configuration_id="c0ffee",
                               complete=complete))  # fmt: skip
        _header(file, ranks, random)
        rows = []
        for number, options in enumerate(cases):
            rows.append(_case(file, number, {**DEFAULTS, **options}, ranks, repetitions, random))
        summary = file.create_group("summary", track_order=True)
        if rows:
            _scale(summary, "case", numpy.arange(len(rows)))
        for name in rows[0] if rows else ():
            _dataset(summary, name, [row[name] for row in rows], ["case"])
    return path


def _header(file, ranks, random):
    environment = file.create_group("environment", track_order=True)
    _attributes(environment, dict(code_version="v0.1.0-12-gabc1234", code_dirty=True, compiler="GCC 12.2.0",
                                  compiler_flags="-O3 -DNDEBUG", mpi_library="Open MPI 4.1.4", simd_target="AVX3_ZEN4",
                                  cpu_model="An invented processor", cores=ranks, ranks=ranks, nodes=1,
                                  memory_bytes=25 * 2**30, started="2026-01-02T03:04:05Z"))  # fmt: skip
    _scale(environment, "rank", numpy.arange(ranks))
    _dataset(environment, "hostname", ["node1"] * ranks, ["rank"])
    _dataset(environment, "binding", [str(rank) for rank in range(ranks)], ["rank"])
    _attributes(file.create_group("config", track_order=True), dict(dataset="english", experiment="quick"))
    calibration = file.create_group("calibration", track_order=True)
    _scale(calibration, "rank", numpy.arange(ranks))
    sizes = 2 ** numpy.arange(3, 27, 2)
    _scale(calibration, "message_size", sizes, "B")
    _dataset(calibration, "fma_peak_f32", random.normal(150e9, 2e9, ranks), ["rank"], "flop/s")
    _dataset(calibration, "triad_bandwidth", random.normal(11e9, 3e8, ranks), ["rank"], "B/s")
    latency = 4e-7 + sizes / 7e9
    _dataset(calibration, "pingpong_latency", latency, ["message_size"], "s")
    _dataset(calibration, "pingpong_bandwidth", sizes / latency, ["message_size"], "B/s")
    _dataset(calibration, "ring_shift_bandwidth", 0.8 * sizes / latency, ["message_size"], "B/s")
    _dataset(calibration, "cold_shift_bandwidth", 0.5 * sizes / latency, ["message_size"], "B/s")
    _dataset(calibration, "timer_cost", 2.5e-8, [], "s")


def _case(file, number, case, ranks, repetitions, random):
    flops = 4 * area(case) * case["heads"] * case["head_dim"] * case["batch"]
    ceiling = ranks / (2 * ranks - 1) if case["causal"] and case["layout"] == "contiguous" and ranks > 1 and (
        case["pattern"] == "full") else 1.0  # fmt: skip
    keys = case["seq_len"] / ranks if case["strategy"] != "halo" else case["window_left"] + case["memory_length"]
    sent = (
        2 * (ranks - 1) * keys * case["kv_heads"] * case["head_dim"] * 4 * (1 if case["strategy"] == "halo" else ranks)
    )
    share = numpy.linspace(2 * ceiling - 1, 1, ranks) if ceiling < 1 else numpy.ones(ranks)
    compute = flops / ranks / 110e9 / ceiling * share
    shape = (ranks, repetitions)
    samples = numpy.empty((len(PHASES), *shape))
    samples[0] = compute[:, None] * random.lognormal(0.01, 0.012, shape)
    samples[1] = sent / ranks / 60e9 * random.lognormal(0, 0.1, shape) + 2e-6
    samples[3] = compute[:, None] * 0.01 * random.lognormal(0, 0.1, shape)
    busy = samples[0] + samples[1] + samples[3]
    samples[2] = busy.max(axis=0) - busy + 1e-4 * random.lognormal(0, 0.5, shape)
    samples[4] = samples[:4].sum(axis=0) * 1.003
    samples[:, :, 0] *= 1.4  # the warm-up
    total = numpy.sort(samples[4, :, 1:].max(axis=0))
    median, peak = float(numpy.median(total)), ranks * 150e9
    bound = max(flops / peak, sent / ranks / 5e9)
    converged = number != 3
    row = dict(case, launch=0, ranks=ranks, median_time=median, interval_low=total[2], interval_high=total[-3],
               repetitions=repetitions - 1, imbalance=1 / ceiling, flops=flops, flop_rate=flops / median,
               tokens_per_second=case["seq_len"] / median, fma_peak=peak, fraction_of_peak=flops / median / peak,
               bound_time=bound, fraction_of_bound=bound / median, bytes_sent=sent, exchange_rate=sent / median,
               fraction_of_bandwidth=sent / median / 5e9, overlap_efficiency=0.8 if case["overlap"] else numpy.nan,
               balance_ceiling=ceiling, projection_time=median / 9, output_error=4e-7, output_bound=3e-6,
               lse_error=1e-7, lse_bound=3e-6, valid=True, converged=converged, clean=True)  # fmt: skip
    group = file.create_group(f"cases/{number:04d}", track_order=True)
    reasons = "" if converged else "not converged: the interval is ±3.4 % of the median after 20 s, ±2 % was asked for"
    _attributes(group, dict(case=number, **row, reasons=reasons))
    _scale(group, "phase", list(PHASES))
    for name, length in (("rank", ranks), ("peer", ranks), ("repetition", repetitions)):
        _scale(group, name, numpy.arange(length))
    _dataset(group, "samples", samples, ["phase", "rank", "repetition"], "s")
    _dataset(group, "start_skew", random.exponential(1e-6, shape), ["rank", "repetition"], "s")
    _dataset(group, "warmup", numpy.arange(repetitions) == 0, ["repetition"])
    _dataset(group, "bytes_sent", numpy.full((ranks, ranks), int(sent / ranks**2)), ["rank", "peer"], "B")
    steps = ranks if case["strategy"] == "ring" else 2
    _scale(group, "step", numpy.arange(steps))
    _scale(group, "moment", ["begin", "posted", "computed", "waited", "joined"])
    step_time = median / steps * numpy.array([0, 0.01, 0.9, 0.95, 1])
    moments = step_time + median / steps * numpy.arange(steps)[:, None]
    _dataset(group, "timeline", numpy.repeat(moments[None], ranks, axis=0), ["rank", "step", "moment"], "s")
    _dataset(group, "compute_flops", flops * share / share.sum(), ["rank"], "flop")
    return row


def _attributes(group, values):
    for name, value in values.items():
        group.attrs.create(name, _stored(value))


def _dataset(group, name, values, dims, units=""):
    dataset = group.create_dataset(name, data=_stored(values))
    dataset.attrs["units"] = _stored(units)
    dataset.attrs["long_name"] = _stored(name.replace("_", " "))
    if dataset.dtype.kind == "S":
        dataset.attrs["_Encoding"] = _stored("utf-8")
    for axis, dim in enumerate(dims):
        dataset.dims[axis].attach_scale(group[dim])
    return dataset


def _scale(group, name, values, units="1"):
    _dataset(group, name, values, [], units).make_scale(name)


def _stored(value):
    """Fixed-length UTF-8 for text and u8 for flags, as the writer has it."""
    array = numpy.asarray(value)
    if array.dtype.kind == "U":
        encoded = numpy.char.encode(array, "utf-8")
        return encoded.astype(h5py.string_dtype("utf-8", max(1, encoded.dtype.itemsize)))
    return array.astype("u1") if array.dtype.kind == "b" else array
