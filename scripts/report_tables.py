"""The tables of a report, as text: what report_template.html prints without thinking."""

import numpy

from figures.breakdown import phase_medians
from figures.exchange import binary
from figures.labels import IDENTITY, case_labels, failed_axes
from figures.style import percent, si

AXES = ("valid", "converged", "clean")
RANKS_SHOWN = 8


def cases(results):
    """One dict per case: its figures as text, withheld where the verdict does not hold, and its details."""
    rows = []
    for (index, case), label in zip(results.summary.iterrows(), case_labels(results.summary)):
        held = bool(case["holds"])
        shown = _figures(case) if held else {}
        rows.append(
            dict(
                label=label,
                pattern=label.partition(" · ")[0],
                how=label.partition(" · ")[2],
                holds=held,
                withheld="withheld: " + (failed_axes(case) or "the verdict is incomplete"),
                axes=[(axis, bool(case.get(axis, False))) for axis in AXES],
                reasons=[reason for reason in str(case.get("reasons", "") or "").splitlines() if reason],
                job=job_size(case),
                bytes_sent=_bytes(case.get("bytes_sent")),
                options=[(name, _option(case[name])) for name in IDENTITY if name in case],
                details=_details(case, held),
                **_per_rank(results.case(index), held),
                **shown,
            )
        )
    return rows


def run(run):
    """One file: its name, what was calibrated, and the environment."""
    return dict(
        name=run.path.name,
        attributes=_pairs(run.attributes),
        environment=_pairs(run.environment),
        config=_pairs({key: value for key, value in run.config.items() if key != "text"}),
        sweep=run.config.get("text", ""),
        calibration=_calibration(run.calibration),
    )


def warnings(results):
    """What a reader must know before believing the page."""
    found = []
    for run in results.runs:
        if not run.complete:
            found.append(f"{run.path.name} is not complete: it holds the {len(run.summary)} cases finished so far.")
        if len(run.summary) and run.summary.get("launch", run.summary["case"] * 0).max() > 0:
            found.append(f"{run.path.name} was measured in several launches; the ceilings below are the first's.")
    dirty = [run.path.name for run in results.runs if run.environment.get("code_dirty")]
    if dirty:
        found.append(f"Measured with uncommitted changes to the code: {', '.join(dirty)}.")
    machines = {str(run.environment.get("cpu_model")) for run in results.runs}
    if len(machines) > 1:
        found.append(f"The files come from different processors ({', '.join(sorted(machines))}): do not compare times.")
    if not len(results.summary):
        found.append("No case is finished.")
    return found


def job_size(case):
    return f"{int(case.get('ranks', 1))} × {int(case.get('threads', 1))}"


def code_version(environment):
    version = str(environment.get("code_version", "unknown version"))
    dirty = environment.get("code_dirty") and not version.endswith("dirty")
    return f"{version} with uncommitted changes" if dirty else version


def _figures(case):
    median = case.get("median_time", numpy.nan)
    half_width = (
        max(median - case.get("interval_low", numpy.nan), case.get("interval_high", numpy.nan) - median) / median
    )
    bound = case.get("fraction_of_bound", numpy.nan)
    return dict(
        time=si(median, "s"),
        half_width=f"± {percent(half_width)}" if numpy.isfinite(half_width) else "",
        rate=si(case.get("flop_rate"), "FLOP/s"),
        tokens=si(case.get("tokens_per_second")),
        peak=percent(case.get("fraction_of_peak")),
        bound=percent(bound),
        bound_width=f"{min(100, max(0, 100 * bound)):.1f}" if numpy.isfinite(bound) else "0",
        imbalance=f"{case['imbalance']:.2f}" if "imbalance" in case else "–",
    )


def _details(case, held):
    """(name, value) of what the table above has no room for; what follows from the time only if it holds."""
    timed = [
        ("exchange rate", si(case.get("exchange_rate"), "B/s")),
        ("fraction of the exchange bandwidth", percent(case.get("fraction_of_bandwidth"))),
        ("communication hidden by overlap", percent(case.get("overlap_efficiency"))),
        ("dense projections, timed apart", si(case.get("projection_time"), "s")),
    ]
    rows = [
        ("error of the output, and its bound", _error(case, "output")),
        ("error of lse, and its bound", _error(case, "lse")),
        ("repetitions", _count(case.get("repetitions"))),
        ("FLOPs, mask-exact", si(case.get("flops"), "FLOP")),
        ("ceiling of the layout's load balance", percent(case.get("balance_ceiling"))),
        ("bound on the time", si(case.get("bound_time"), "s")),
    ]
    return [(name, value) for name, value in rows + (timed if held else []) if value not in (None, "–", "– of –")]


def _per_rank(case, held):
    """The first ranks' median times of each phase and what was counted: a row per quantity, a column per rank."""
    phases, total = phase_medians(case)
    timed = {**phases, "total": total} if held else {}
    rows = [(f"{name}, median", [si(value, "s") for value in values[:RANKS_SHOWN]]) for name, values in timed.items()]
    for name, unit in (("bytes_sent", "B"), ("messages_sent", ""), ("compute_flops", "FLOP"), ("peak_memory", "B")):
        if name not in case:
            continue
        values = case[name].sum("peer") if "peer" in case[name].dims else case[name]
        text = [_bytes(value) if unit == "B" else si(float(value), unit) for value in values.values[:RANKS_SHOWN]]
        rows.append((name.replace("_", " "), text))
    return dict(ranks_shown=range(min(RANKS_SHOWN, total.size)), per_rank=rows)


def _calibration(calibration):
    """(name, [value, ...]) for each quantity: totals over ranks, ends over message sizes."""
    rows = []
    for name, variable in calibration.data_vars.items():
        if not numpy.issubdtype(variable.dtype, numpy.number):
            continue
        unit = variable.attrs.get("units", "").replace("flop", "FLOP").replace("1", "")
        values = variable.values.astype(float)
        if variable.dims == ("rank",):
            text = f"{si(values.sum(), unit)} in all, {si(values.min(), unit)} to {si(values.max(), unit)} per rank"
        elif variable.dims == ("message_size",) and values.size:
            sizes = calibration["message_size"].values
            text = f"{si(values[0], unit)} at {binary(sizes[0])}, {si(values[-1], unit)} at {binary(sizes[-1])}"
        else:
            text = ", ".join(si(value, unit) for value in values.ravel()[:8])
        rows.append((variable.attrs.get("long_name") or name.replace("_", " "), text))
    return rows


def _pairs(values):
    """(name, text), lists shortened, equal entries of all ranks said once."""
    rows = []
    for name, value in values.items():
        if isinstance(value, list):
            different = list(dict.fromkeys(map(str, value)))
            text = (
                different[0] + " (every rank)" if len(different) == 1 and len(value) > 1 else ", ".join(different[:32])
            )
            text += ", …" if len(different) > 32 else ""
        else:
            text = _bytes(value) if name.endswith("_bytes") else str(value)
        rows.append((name.replace("_", " "), text))
    return rows


def _error(case, what):
    return f"{_scientific(case.get(f'{what}_error'))} of {_scientific(case.get(f'{what}_bound'))}"


def _scientific(value):
    return "–" if value is None or not numpy.isfinite(value) else f"{value:.1e}"


def _count(value):
    return None if value is None else f"{int(value)}"


def _bytes(value):
    if value is None or not numpy.isfinite(float(value)):
        return "–"
    count = float(value)
    for exponent, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count >= 2**exponent:
            return (
                f"{count / 2**exponent:.3g} {unit}"
                if count < 1000 * 2**exponent
                else f"{count / 2**exponent:.0f} {unit}"
            )
    return f"{count:.0f} B"


def _option(value):
    if isinstance(value, (bool, numpy.bool_)):
        return "on" if value else "off"
    return str(value)
