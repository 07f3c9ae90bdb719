"""The ends of intervals among the metrics of a run: `ece_low` and `ece_high` belong to `ece`, `auroc_mi_low/noise` to
`auroc_mi/noise`."""

from collections.abc import Mapping

ENDS = ("_low", "_high")


def ends(name: str) -> tuple[str, str]:
    """What the ends of a metric's interval are called."""
    what, slash, rest = name.partition("/")
    low, high = (f"{what}{end}{slash}{rest}" for end in ENDS)
    return low, high


def is_end(name: str, metrics: Mapping[str, object]) -> bool:
    """Whether the metric is the end of another one's interval."""
    what, slash, rest = name.partition("/")
    return any(what.endswith(end) and f"{what.removesuffix(end)}{slash}{rest}" in metrics for end in ENDS)
