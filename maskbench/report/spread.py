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
            low, high = bounded(mean / most, half / most)
            return most * low, most * high
    low, high = mean - half, mean + half
    return (low, high) if most is None else (np.clip(low, 0, most), np.clip(high, 0, most))


def bounded(mean: np.ndarray | float, half: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """(low, high): an interval of shares around `mean`, `half` as wide to each side on the scale of logits.

    The half width is taken there to first order (the delta method), so the ends never leave 0 to 1, and single values may be 0
    or 1; a mean of 0 or of 1 has no width.
    """
    mean = np.clip(np.asarray(mean, dtype=float), 0, 1)
    inside = mean * (1 - mean)
    some = inside > 0
    with np.errstate(over="ignore", under="ignore"):  # beside 0 and 1 the ends are 0 and 1 themselves
        odds = np.exp(-np.where(some, half, 0) / np.where(some, inside, 1))  # what the odds are multiplied or divided by
        low = mean * odds / (1 - mean + mean * odds)
        high = mean / (mean + (1 - mean) * odds + ~some)
    return np.where(some, np.minimum(low, mean), mean), np.where(some, np.clip(np.maximum(high, mean), 0, 1), mean)
