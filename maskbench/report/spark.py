"""Learning curves in a line of text: the history of a run (metrics.csv) as small bars. Imports no torch."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from maskbench.common.files import Unusable, content

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 24  # characters of a curve
Curve = list[tuple[int, float]]  # (step, value)


def series(run: Path) -> dict[tuple[str, str, str], Curve]:
    """(stage, phase, metric) -> its curve, in the order of the history; empty where there is none, or it is of no use."""
    try:
        text = (content(run / "metrics.csv") or b"").decode(errors="replace")
    except Unusable:
        return {}
    found: dict[tuple[str, str, str], Curve] = {}
    try:
        for row in csv.DictReader(io.StringIO(text)):
            step, value = int(row["step"]), float(row["value"])
            found.setdefault((row["stage"], row["phase"], row["metric"]), []).append((step, value))
    except (KeyError, ValueError, TypeError, csv.Error):
        pass  # a row that is being written is the last one
    return found


def spark(values: Sequence[float], width: int = WIDTH) -> str:
    """The values as bars from the least to the most, at most `width` of them, each the mean of its share; what is not finite is a
    gap."""
    if not values:
        return ""
    count = min(width, len(values))
    shares = [values[len(values) * i // count : len(values) * (i + 1) // count] for i in range(count)]
    means = [sum(share) / len(share) for share in shares]
    known = [mean for mean in means if math.isfinite(mean)]
    low, high = min(known, default=0.0), max(known, default=0.0)
    return "".join(bar(mean, low, high) for mean in means)


def bar(value: float, low: float, high: float) -> str:
    if not math.isfinite(value):
        return " "
    return BARS[round((len(BARS) - 1) * (value - low) / (high - low))] if high > low else BARS[0]


def latest(run: Path, metric: str = "loss") -> tuple[float, str] | None:
    """(last value, bars) of a metric in the part of the run that is under way, all its phases; None where it has none."""
    curves = series(run)
    if not curves:
        return None
    part = list(curves)[-1][0]
    values = [value for (stage, _, name), curve in curves.items() if (stage, name) == (part, metric) for _, value in curve]
    return (values[-1], spark(values, 12)) if values else None
