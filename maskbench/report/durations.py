"""How long runs took, by their records, and durations in words. Imports no torch."""

import heapq
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

from maskbench.common.files import glance
from maskbench.report.runs import Run

MINUTE, HOUR = 60, 3600


def seconds(run: Run) -> float | None:
    """Wall seconds of a finished run, all its attempts together; None where its record does not say."""
    told = (run.about.get("cost") or {}).get("wall_seconds")
    return float(told) if run.status == "finished" and isinstance(told, int | float) else None


def spent(folder: Path) -> float:
    """Wall seconds behind the last checkpoint of a run that was interrupted; 0 where there is none to go on from."""
    try:
        saved = (folder / "state" / "checkpoint.pt").stat().st_mtime
    except OSError:
        return 0.0
    attempts = glance(folder / "run.json").get("attempts") or []
    begun = max((number for number, attempt in enumerate(attempts) if attempt.get("resumed") is False), default=0)
    return sum(max(0.0, min(_moment(attempt.get("ended"), saved), saved) - _moment(attempt.get("started"), saved))
               for attempt in attempts[begun:])  # fmt: skip


def _moment(told: str | None, instead: float) -> float:
    try:
        return datetime.fromisoformat(told).timestamp() if told else instead
    except (ValueError, TypeError):
        return instead


def makespan(lengths: Iterable[float], workers: int, busy: Sequence[float] = ()) -> float:
    """After what time the last of some jobs is done that are begun in order, each by the first worker that is free; `busy`:
    for how long some workers are at something else."""
    free = [*busy, *[0.0] * (workers - len(busy))]
    heapq.heapify(free)
    for length in lengths:
        heapq.heapreplace(free, free[0] + length)
    return max(free, default=0.0)


def words(seconds: float) -> str:
    """`45 s`, `12 min`, `1 h 40 min`, `2 h`."""
    if seconds < 1.5 * MINUTE:
        return f"{seconds:.0f} s"
    minutes = round(seconds / MINUTE)
    if minutes < MINUTE:
        return f"{minutes} min"
    return f"{minutes // 60} h" + (f" {minutes % 60} min" if minutes % 60 else "")
