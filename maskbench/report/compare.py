"""Two sets of runs paired by seed, and what their differences say. Imports no torch."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from maskbench.common.asked import leaves
from maskbench.common.errors import UsageError
from maskbench.report import runs as records
from maskbench.report import statistics
from maskbench.report.direction import lower
from maskbench.report.groups import number, varied
from maskbench.report.mixing import blend, outdated
from maskbench.report.runs import Run, plain

HEAD = (
    "metric", "pairs", "A", "B", "A - B", "low", "high", "d_z", "wins", "ties", "losses", "sign p",
    "A iqm", "A iqm low", "A iqm high", "B iqm", "B iqm low", "B iqm high",
)  # fmt: skip
TOLD = 6  # differences between A and B that are named


@dataclass(frozen=True)
class Metric:
    """One metric of both sides, in the order of the shared seeds that have it on both."""

    name: str
    seeds: Sequence[int]
    a: Sequence[float]
    b: Sequence[float]
    paired: statistics.Paired


@dataclass(frozen=True)
class Comparison:
    """Two sides paired over their seeds, metric by metric, and what a reader should know of it."""

    metrics: Sequence[Metric]
    notes: Sequence[str]


def comparison(a: Sequence[Run], b: Sequence[Run], *, names: tuple[str, str], metrics: Sequence[str], mixed: bool) -> Comparison:
    """Two sides compared over the seeds they share.

    Raises:
        UsageError: a side has two runs of one seed, no seed or metric is shared, or runs do not belong together.
    """
    left, right = (by_seed(side, name) for side, name in zip((a, b), names, strict=True))
    seeds = sorted(set(left) & set(right))
    if not seeds:
        sides = [", ".join(map(str, sorted(side))) for side in (left, right)]
        raise UsageError(f"A has seeds {sides[0]} and B {sides[1]}: none is shared, and nothing can be paired.")
    a, b = [left[seed] for seed in seeds], [right[seed] for seed in seeds]
    sets = [[run for run in (*a, *b) if run.data == data] for data in dict.fromkeys(run.data for run in (*a, *b))]
    reasons = [reason for one in sets for reason in blend(one, ["source"])]
    reasons += [reason for one in (a, b) for reason in blend(one, ["budget", "arithmetic"])]  # A and B may differ: see notes
    reasons = list(dict.fromkeys([*reasons, *blend([*a, *b], ["code"])]))
    if reasons and not mixed:
        raise UsageError(f"A and B together would mix {'; '.join(reasons)}; mixed=allow insists.")
    metrics_of_both = [one for name in wanted(a, b, metrics) if (one := paired(name, seeds, a, b))]
    if not metrics_of_both:
        raise UsageError(f"A and B share no defined number of {', '.join(metrics or ['objective'])}.")
    return Comparison(metrics_of_both, notes(a, b, left, right, reasons))


def by_seed(runs: Sequence[Run], name: str) -> dict[int, Run]:
    twice = [seed for seed, count in Counter(run.seed for run in runs).items() if count > 1]
    if twice:
        keys = varied(runs)
        differ = f"they differ in {', '.join(keys[:TOLD])}" if keys else "they are recorded twice"
        raise UsageError(
            f"{name} names {len(runs)} runs, several with seed {twice[0]}: {differ}; add filters until a seed has one."
        )
    return {run.seed: run for run in runs}


def wanted(a: Sequence[Run], b: Sequence[Run], metrics: Sequence[str]) -> list[str]:
    """The metrics asked for; without any the objective, by its name if both sides mean the same."""
    if metrics and list(metrics) != ["objective"]:
        return records.chosen_metrics([*a, *b], metrics)
    names = {run.result.get("objective_name") for run in (*a, *b)}
    if len(names) > 1:
        raise UsageError(f"the objectives differ ({', '.join(sorted(map(plain, names)))}); name a metric with metrics=.")
    name = names.pop()
    return [name if name and name in a[0].metrics else "objective"]


def paired(name: str, seeds: Sequence[int], a: Sequence[Run], b: Sequence[Run]) -> Metric | None:
    both = [(seed, number(x, name), number(y, name)) for seed, x, y in zip(seeds, a, b, strict=True)]
    both = [(seed, x, y) for seed, x, y in both if x is not None and y is not None]
    if not both:
        return None
    shared, left, right = zip(*both, strict=True)
    return Metric(name, shared, left, right, statistics.paired(left, right, less=lower(name)))


def notes(a: Sequence[Run], b: Sequence[Run], left: dict, right: dict, reasons: Sequence[str]) -> list[str]:
    one, other = dict(leaves(a[0].config)), dict(leaves(b[0].config))
    keys = [key for key in varied([a[0], b[0]]) if key.split(".")[-1] != "name"]
    gaps = [f"{key} ({plain(one.get(key))} and {plain(other.get(key))})" for key in keys[:TOLD]]
    more = f" and {len(keys) - TOLD} more" if len(keys) > TOLD else ""
    sentences = [f"A and B differ in {', '.join(gaps)}{more}." if gaps else "A and B have the same config."]
    for name, side, rest in (("A", left, right), ("B", right, left)):
        if lonely := sorted(set(side) - set(rest)):
            sentences.append(f"Left out: seed {', '.join(map(str, lonely))}, which only {name} has.")
        if keys := varied(list(side.values())):
            sentences.append(f"The runs of {name} differ in {', '.join(keys[:TOLD])} besides the seed.")
    sentences += [f"mixed=allow: {reason}." for reason in reasons]
    return sentences + [f"{line[0].upper()}{line[1:]}" for line in outdated([*a, *b])]


def row(one: Metric) -> list[Any]:
    p = one.paired
    gap = p.difference
    robust = [value for side in (one.a, one.b) for value in (statistics.iqm([side]), *statistics.bootstrap([side]))]
    a, b = statistics.mean(one.a).mean, statistics.mean(one.b).mean
    return [one.name, gap.n, a, b, gap.mean, gap.low, gap.high, p.effect, p.wins, p.ties, p.losses, p.sign_p, *robust]


def seeds_table(compared: Comparison) -> tuple[list[list[Any]], list[str]]:
    """(rows, head): each seed's numbers and difference."""
    rows = [[m.name, s, x, y, x - y] for m in compared.metrics for s, x, y in zip(m.seeds, m.a, m.b, strict=True)]
    return rows, ["metric", "seed", "A", "B", "A - B"]
