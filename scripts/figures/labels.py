"""Names for cases: short, and different wherever the cases differ."""

import pandas

# option -> how a label shows it, in this order
OPTIONS = {
    "pass": "{}", "seq_len": "S={}", "batch": "B={}", "heads": "H={}", "kv_heads": "Hkv={}", "head_dim": "D={}",
    "dtype": "{}", "position": "position {}", "dataset": "{}", "ulysses_degree": "U={}", "ranks": "P={}",
    "threads": "threads={}", "seed": "seed {}",
}  # fmt: skip
IDENTITY = ("pattern", "causal", "window_left", "window_right", "global_tokens", "segment_length", "memory_length",
            "document_length", "strategy", "layout", "overlap", *OPTIONS)  # fmt: skip


def pattern_label(case):
    """ "local 512+0 causal": the pattern with the parameters that it reads."""
    get = case.get
    window = f"{get('window_left', 0)}+{get('window_right', 0)}"
    parameters = {
        "local": window,
        "global": f"g={get('global_tokens', 0)} {window}",
        "segment": f"T={get('segment_length', 0)} M={get('memory_length', 0)}",
        "document": f"~{get('document_length', 0)}",
    }.get(get("pattern"), "")
    # Transformer-XL's segments are causal by definition.
    causal = "causal" if get("causal") and get("pattern") != "segment" else ""
    return " ".join(word for word in (str(get("pattern", "?")), parameters, causal) if word)


def varying_options(summary):
    """Option -> the value that labels need not show: the one that most cases have; None where none has."""
    usual = {}
    for name in OPTIONS:
        if name in summary and summary[name].nunique(dropna=False) > 1:
            counts = summary[name].value_counts()
            swept = name in ("seq_len", "ranks") or counts.iloc[0] <= len(summary) / 2
            usual[name] = None if swept else counts.index[0]
    return usual


def common_options(summary):
    """ "S=16384 H=8 D=64 f32": what all cases share, or most of them where labels name the others."""
    if not len(summary):
        return ""
    varying = varying_options(summary)
    shared = {name: varying.get(name, summary[name].iloc[0]) for name in OPTIONS if name in summary}
    return " · ".join(OPTIONS[name].format(value) for name, value in shared.items() if value is not None)


def case_label(case, varying=None):
    """`varying` as varying_options gives it: these options are named where they are not the usual."""
    words = [pattern_label(case), f"{case.get('strategy', '')}/{case.get('layout', '')}".strip("/")]
    words += [
        OPTIONS[name].format(case.get(name)) for name, usual in (varying or {}).items() if case.get(name) != usual
    ]
    if case.get("overlap") is not None and not case.get("overlap"):
        words.append("no overlap")
    return " · ".join(word for word in words if word)


def case_labels(summary):
    """One label per row; files whose cases are otherwise the same are told apart by name."""
    varying = varying_options(summary)
    labels = pandas.Series([case_label(case, varying) for case in summary.to_dict("records")], index=summary.index)
    twice = labels.duplicated(keep=False)
    if "file" in summary and twice.any():
        labels[twice] += " · " + summary["file"][twice]
    twice = labels.duplicated(keep=False)
    labels[twice] += " · case " + summary["case"][twice].astype(str) if twice.any() else ""
    return labels


def verdict_label(case):
    """ "VALID · NOT CONVERGED · CLEAN"."""
    return " · ".join(("" if case.get(axis) else "NOT ") + axis.upper() for axis in ("valid", "converged", "clean"))


def failed_axes(case):
    """ "not valid, not clean"; empty where the verdict holds."""
    return ", ".join(f"not {axis}" for axis in ("valid", "converged", "clean") if not case.get(axis))
