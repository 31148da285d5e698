"""The calibrated exchange between ranks: bandwidth over message size."""

from figures.style import BLUE, GREEN, ORANGE, NothingToDraw, new_figure, si

CURVES = (  # dataset, label, colour, marker
    ("pingpong_bandwidth", "ping-pong", BLUE, "o"),
    ("ring_shift_bandwidth", "ring shift, per rank", ORANGE, "s"),
    ("cold_shift_bandwidth", "the same, memory not in cores' caches", GREEN, "^"),
)


def draw(results):
    figure = new_figure(3.9)
    axes = figure.add_subplot()
    drawn = False
    for number, run in enumerate(results.runs):
        for name, label, colour, marker in CURVES:
            if name not in run.calibration or not run.calibration[name].notnull().any():
                continue
            curve = run.calibration[name]
            several = f" ({run.path.stem})" if len(results.runs) > 1 else ""
            axes.plot(curve["message_size"], curve, marker + "-", color=colour, label=label + several,
                      alpha=1 if number == 0 else 0.5)  # fmt: skip
            drawn = True
    if not drawn:
        raise NothingToDraw("no exchange was calibrated (one rank exchanges nothing)")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: binary(value))
    axes.yaxis.set_major_formatter(lambda value, _: si(value, "B/s"))
    axes.grid()
    axes.set_xlabel("message size")
    axes.set_ylabel("bandwidth")
    axes.legend()
    return figure


def binary(count):
    """1048576 -> "1 MiB"."""
    for exponent, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count >= 2**exponent:
            return f"{count / 2**exponent:g} {unit}"
    return f"{count:g} B"
