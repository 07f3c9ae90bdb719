"""Runs put into groups, and what a group says about a metric: a cell of a table, or the reason why it is none."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from maskbench.report import statistics
from maskbench.report.direction import share
from maskbench.report.mixing import ASPECTS, blend
from maskbench.report.runs import Run, plain

Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Cell:
    """The numbers of a metric over runs, in the order of the runs; `refused` says why they are not put together.

    iqm, low, high: with strata, the interquartile mean and its bootstrap interval; else None.
    """

    values: Sequence[float]
    mean: statistics.Mean | None
    refused: Sequence[str] = ()
    iqm: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def n(self) -> int:
        return len(self.values)


def split(runs: Sequence[Run], keys: Sequence[str]) -> dict[tuple[str, ...], list[Run]]:
    """Runs by what they say about the keys, groups in the order of their values: numbers as numbers."""
    members: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        members.setdefault(tuple(plain(run.value(key)) for key in keys), []).append(run)
    return dict(sorted(members.items(), key=lambda item: [_order(word) for word in item[0]]))


def _order(word: str) -> tuple[bool, float, str]:
    try:
        return False, float(word), word
    except ValueError:
        return True, 0.0, word


def cell(runs: Sequence[Run], metric: str, *, strata: str | None = None, mixed: bool = False) -> Cell:
    """What the runs say about the metric; undefined numbers are left out.

    mixed: put runs together although sources, budgets or codes differ (the budgets of different strata always may).
    """
    groups = list(split(runs, [strata]).values()) if strata else [list(runs)]
    inside = ("source", "budget") if strata == "data" else ("budget",)  # data sets may come from different places
    reasons = list(dict.fromkeys(reason for group in groups for reason in blend(group, inside)))
    reasons += blend(runs, [aspect for aspect in ASPECTS if aspect not in inside])
    numbers = [[v for run in group if (v := number(run, metric)) is not None] for group in groups]
    numbers = [stratum for stratum in numbers if stratum]
    values = [value for stratum in numbers for value in stratum]
    if (reasons and not mixed) or not values:
        return Cell(values, None, () if mixed else reasons)
    said = {str(run.result.get("objective_name")) for run in runs} if metric == "objective" else {metric}
    mean = statistics.mean(values, most=1.0 if all(map(share, said)) else None)
    if strata is None:
        return Cell(values, mean)
    return Cell(values, mean, (), statistics.iqm(numbers), *statistics.bootstrap(numbers))


def number(run: Run, metric: str) -> float | None:
    value = run.objective if metric == "objective" else run.metrics.get(metric)
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known else None


def splits(run: Run, metric: str) -> list[float] | None:
    """The metric of each division of the data, in their order; None where the run's table lacks one."""
    rows = sorted((row for row in run.result.get("table") or [] if isinstance(row.get("fold"), int)), key=lambda row: row["fold"])
    values = [row.get(metric) for row in rows]
    known = values and all(isinstance(value, int | float) and math.isfinite(value) for value in values)
    return [float(value) for value in values] if known else None


def varied(runs: Sequence[Run], without: Sequence[str] = ()) -> list[str]:
    """The keys in which runs of a group differ, seed aside: what a mean over them averages over."""
    values: dict[str, set[str]] = {}
    having: Counter[str] = Counter()  # runs that have the key at all
    lists = _counted((run.blocks, 1) for run in runs)  # what runs share is looked at once
    for block, count in _counted((block, count) for blocks, count in lists for block in blocks):
        for key, value in block.items():
            values.setdefault(key, set()).add(plain(value))
            having[key] += count
    absent = {key for key, count in having.items() if count < len(runs)}
    return [k for k, v in values.items() if k not in without and len(v | {plain(None)} if k in absent else v) > 1]


def _counted(things: Iterable[tuple[Thing, int]]) -> list[tuple[Thing, int]]:
    """Each object once, in order, with the sum of its counts."""
    counts: dict[int, list[Any]] = {}
    for thing, count in things:
        counts.setdefault(id(thing), [thing, 0])[1] += count
    return [(thing, count) for thing, count in counts.values()]
