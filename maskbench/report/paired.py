"""Many methods on the same draws: each one's number, and its differences to a baseline seed by seed. Imports no torch.

Where draws of the task differ more than methods do, a deviation over seeds says nothing about methods: what counts is the
difference under one seed, how often it has which sign, and what a sign test says of that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from maskbench.common.errors import UsageError
from maskbench.report import groups, statistics
from maskbench.report.compare import by_seed
from maskbench.report.direction import lower
from maskbench.report.groups import number
from maskbench.report.mixing import blend
from maskbench.report.runs import Run


@dataclass(frozen=True)
class Row:
    """One method in one setting.

    Attributes:
        setting: values of the keys that tell settings apart. mean, n: over all its seeds.
        paired: over the seeds that the baseline has too, method minus baseline; None for the baseline and where there are
            none. error: standard error of the mean difference. wins: seeds on which the method is better.
    """

    setting: tuple[str, ...]
    method: str
    n: int
    mean: float
    paired: statistics.Paired | None
    error: float | None
    wins: int | None


def table(runs: Sequence[Run], metric: str, baseline: str, *, settings: Sequence[str] = (), name: str = "method",
          mixed: bool = False) -> list[Row]:  # fmt: skip
    """Rows of every setting, best mean first.

    Args:
        metric: of result.json. baseline: the value of `name` that the others are compared with.
        settings: keys whose values must be equal for runs to be paired, such as data.n_target.
        name: the key whose value names a row; several joined by + name it together.
        mixed: put runs together although sources or commits differ.

    Raises:
        UsageError: no run of the baseline, a seed twice in one cell, or runs that do not belong together.
    """
    keys, rows = name.split("+"), []
    for setting, some in groups.split(runs, settings).items() if settings else [((), list(runs))]:
        reasons = blend(some, ["source", "code"])
        if reasons and not mixed:
            raise UsageError(f"the runs would mix {'; '.join(reasons)}; mixed=allow insists.")
        cells = {" ".join(words): by_seed(cell, " ".join(words)) for words, cell in groups.split(some, keys).items()}
        budgets = {
            label: mixed_values
            for label, cell in cells.items()
            if (mixed_values := blend(list(cell.values()), ["budget", "arithmetic"]))
        }
        if budgets and not mixed:
            label, mixed_values = next(iter(budgets.items()))
            raise UsageError(f"the runs of {label} would mix {'; '.join(mixed_values)}; mixed=allow insists.")
        if baseline not in cells:
            raise UsageError(f"no finished run of {baseline} to compare with; there are {', '.join(cells) or 'none'}.")
        paired_rows = [row(setting, label, cell, cells[baseline], metric, label == baseline) for label, cell in cells.items()]
        rows += sorted(filter(None, paired_rows), key=lambda one: one.mean if lower(metric) else -one.mean)
    if not rows:
        raise UsageError(f"no run has a number of {metric}.")
    return rows


def row(setting: tuple[str, ...], label: str, cell: dict[int, Run], other: dict[int, Run], metric: str, same: bool) -> Row | None:
    """One method in one setting, paired with the baseline over the seeds both have; None where none has the metric."""
    values = {seed: value for seed, run in cell.items() if (value := number(run, metric)) is not None}
    if not values:
        return None
    theirs = {seed: value for seed, run in other.items() if (value := number(run, metric)) is not None}
    seeds = sorted(set(values) & set(theirs))
    if same or not seeds:
        return Row(setting, label, len(values), fmean(values.values()), None, None, None)
    paired = statistics.paired([values[seed] for seed in seeds], [theirs[seed] for seed in seeds], less=lower(metric))
    gaps = [values[seed] - theirs[seed] for seed in seeds]
    error = stdev(gaps) / len(gaps) ** 0.5 if len(gaps) > 1 else None
    return Row(setting, label, len(values), fmean(values.values()), paired, error, paired.wins)


def head(metric: str, settings: Sequence[str]) -> list[str]:
    return [*settings, "method", "n", metric, "difference", "se", "wins", "pairs", "sign p"]


def cells(one: Row) -> list[Any]:
    """A row as a table shows it; what is undefined is None."""
    start = [*one.setting, one.method, one.n, one.mean]
    if one.paired is None:
        return [*start, None, None, None, None, None]
    return [*start, one.paired.difference.mean, one.error, one.wins, one.paired.difference.n, one.paired.sign_p]
