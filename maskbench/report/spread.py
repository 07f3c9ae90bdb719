"""What several seeds spread over in a figure: their range, standard deviation or 95 % interval. Shares stay between 0 and 1."""

import numpy as np

from maskbench.report import look, statistics


def share(scale: float) -> float | None:
    """The most that a number can be, of which `scale` makes what an axis shows: 100, of a share in percent; else None."""
    return 100.0 if scale == 100 else None


def spread(values: np.ndarray, most: float | None = None) -> tuple[np.ndarray, np.ndarray] | None:
    """(low, high) around the mean of values [seeds, ...]; None of one seed. `most`: of shares, what all is (1 or 100)."""
    n = len(values)
    if n < 2:
        return None
    kind = look.current().interval
    if kind == "minmax":
        return values.min(0), values.max(0)
    mean, half = values.mean(0), values.std(0, ddof=1)
    if kind == "t":
        half = statistics.student(statistics.LEVEL, n - 1) * half / np.sqrt(n)
        if most is not None:
            low, high = statistics.bounded(mean / most, half / most)
            return most * low, most * high
    low, high = mean - half, mean + half
    return (low, high) if most is None else (np.clip(low, 0, most), np.clip(high, 0, most))
