"""`maskbench results`: one row for each run below an output folder, or one for each group of them."""

import math
import shutil
import sys
import textwrap
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskbench.cli.commands.common import arguments, forms, sorted_words, typeset
from maskbench.common import collector
from maskbench.common.errors import UsageError
from maskbench.common.foreign import printable
from maskbench.report import runs as records
from maskbench.report.differing import differing, several
from maskbench.report.direction import lower
from maskbench.report.filters import number, parse_condition, refuse_unknown
from maskbench.report.fitted import Column, fitted
from maskbench.report.freshness import MIXED, STALE, listed
from maskbench.report.groups import cell, split, varied
from maskbench.report.mixing import outdated
from maskbench.report.runs import HEAD, Run
from maskbench.report.writers import Sheet, comma_separated, text

SHOWN = 4  # metric columns of the table; CSV has all
KEYS = ("group", "pivot", "strata", "columns")  # words whose values are keys of runs
WORDS = (*KEYS, "metrics", "mixed")  # KEY=VALUE words that are no filters
RANKS = {"key": 0, "method": 0, "seed": 0, "data": 1, "status": 1}  # who gets room first, further columns after them
ABOUT = """One row for each run, with the keys in which the runs differ; what all share is said once. On a terminal the table fits
its width. With group= one row for each group, mean and 95 % interval over its finished runs.

KEY=VALUE filters: method=supsup seed=0,1 optimizer.lr=0.1 status=finished experiment=lottery/mnist_quick tags=first.
--where "KEY op VALUE" (< <= > >= = !=), as often as needed: --where "accuracy > 0.9" --where "optimizer.lr <= 0.01".
--sort COLUMN: a metric from its best, anything else upwards. --best METRIC: of each method and data set the one best run.
columns=KEY,...: further columns. metrics=NAME,...: which metrics; * stands for anything, as in accuracy/ticket/*.
group=KEY,...: one row for each value. pivot=KEY: its values side by side, of one metric.
strata=KEY: with group=, the interquartile mean over all runs and its interval by a bootstrap stratified by KEY.
mixed=allow: put runs together whose data sources, budgets or code differ, which is refused otherwise.
--stale: only runs that other code made than the present one (stale) or several versions of it (mixed), and why."""


@collector.held_back()
def main(argv: list[str]) -> int:
    parser = arguments("results", ABOUT)
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="filters, and the words above")
    parser.add_argument("--output", type=Path, default=Path("outputs"), help="folder of the runs (paths.output)")
    form = forms(parser, "CSV with every metric")
    parser.add_argument("--stale", action="store_true", help="only runs whose code is not the present one")
    parser.add_argument("--where", action="append", default=[], metavar='"KEY op VALUE"', help="only runs of which this holds")
    parser.add_argument("--sort", metavar="COLUMN", help="order of the rows: a key or a metric")
    parser.add_argument("--reverse", action="store_true", help="with --sort: the other way round")
    parser.add_argument("--best", metavar="METRIC", help="one row for each method and data set: its best run")
    form.add_argument("--parquet", type=Path, metavar="FILE", help="write FILE; needs pandas and pyarrow")
    parser.add_argument("--tidy", action="store_true", help="with --csv or --parquet: one row a number instead of one a run")
    if (given := parser.read(argv)) is None:
        return 0
    options, filters = sorted_words(given.words, WORDS)
    single(options, given)
    runs = records.read(given.output, [*filters, *map(parse_condition, given.where)])
    refuse_unknown(runs, [key for name in KEYS for key in options.get(name, [])])
    runs = [run for run in runs if run.freshness in (STALE, MIXED)] if given.stale else runs
    patterns, notes = options.get("metrics", []), []
    if given.best and runs:
        runs, notes = best(runs, given.best)
        patterns = patterns or [given.best]
    if given.sort:
        runs = in_order(runs, given.sort, given.reverse)
    if not runs:
        if given.csv:
            print(",".join([*HEAD, "run"]))
        else:
            print(f"no {'stale ' * given.stale}runs in {given.output}{' that fit' if filters or given.where else ''}")
    elif "group" in options or "pivot" in options:
        grouped(runs, options, given)
    elif given.csv or given.parquet:
        frame(runs, patterns, options.get("columns", []), given)
        print(*map(printable, notes), sep="\n", end="\n" if notes else "", file=sys.stderr)
    else:
        names = records.chosen_metrics(runs, patterns) if patterns else main_metrics(runs)
        listing(runs, names, options, notes, given)
    return 0


def single(options: dict[str, list[str]], given: Namespace) -> None:
    """Refuse what orders or picks single runs where groups are asked for."""
    asked = [f"--{name}" for name in ("sort", "best") if getattr(given, name)]
    if asked and ("group" in options or "pivot" in options):
        raise UsageError(f"{asked[0]} is about single runs; leave out group= and pivot=, or {asked[0]}.")
    if given.reverse and not given.sort:
        raise UsageError("--reverse turns the order of --sort COLUMN round; name the column.")


def in_order(runs: Sequence[Run], column: str, reverse: bool) -> list[Run]:
    """The runs by a column: metrics from their best, other numbers and words upwards; those without a value come last."""
    refuse_unknown(runs, [column])
    known = [run for run in runs if defined(run.value(column))]
    metric = column == "objective" or any(column in run.metrics for run in runs)
    down = metric and not lower(column)
    known.sort(key=lambda run: sortable(run.value(column)), reverse=down != reverse)
    return [*known, *(run for run in runs if not defined(run.value(column)))]


def defined(value: object) -> bool:
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def sortable(value: object) -> tuple[bool, float, str]:
    return (False, float(value), "") if number(value) else (True, 0.0, str(value))


def best(runs: Sequence[Run], metric: str) -> tuple[list[Run], list[str]]:
    """(of each method and data set the run with the best metric; what to say of the choice)."""
    (metric,) = [metric] if metric == "objective" else records.chosen_metrics(runs, [metric])[:1]
    groups: dict[tuple[str | None, str | None], list[Run]] = {}
    for run in runs:
        if number(value := run.value(metric)) and math.isfinite(value):
            groups.setdefault((run.method, run.data), []).append(run)
    if not groups:
        raise UsageError(f"--best {metric}: no run here has a number for it yet.")
    turn = -1 if lower(metric) else 1
    picked = [max(members, key=lambda run: turn * run.value(metric)) for members in groups.values()]
    of = ", ".join(f"{' on '.join(filter(None, group))} of {len(members)}" for group, members in groups.items())
    note = f"The run with the {'lowest' if turn < 0 else 'highest'} {metric} ({of}): picked by the number that is shown, so it"
    return picked, [f"{note} flatters; group=method gives means."] if len(runs) > len(picked) else []


def main_metrics(runs: Sequence[Run]) -> list[str]:
    """The metrics most runs have, in their own order; a family such as accuracy/<density> is left to CSV."""
    order = list(dict.fromkeys(name for run in runs for name in run.metrics))
    counts = Counter(name for run in runs for name in run.metrics if "/" not in name)
    chosen = {name for name, _ in counts.most_common(SHOWN)}
    return [name for name in order if name in chosen]


# ---- one row a run


def frame(runs: Sequence[Run], patterns: Sequence[str], columns: Sequence[str], given: Namespace) -> None:
    names = records.chosen_metrics(runs, patterns)
    if given.tidy:
        rows = [row for row in records.tidy(runs, columns) if row["metric"] in set(names)]
    else:
        rows = records.wide(runs, names, columns)
    head = list(dict.fromkeys(name for row in rows for name in row)) or [*HEAD, "run"]
    if given.parquet:
        parquet(rows, given.parquet)
    else:
        sys.stdout.write(comma_separated(head, [[row[name] for name in head] for row in rows]))


def parquet(rows: list[dict[str, Any]], path: Path) -> None:
    try:
        import pandas
        import pyarrow  # noqa: F401 - what pandas writes it with
    except ImportError as missing:
        raise UsageError(
            f"--parquet needs pandas and pyarrow, and {missing.name} is not installed: pip install 'maskbench[frames]'."
        ) from None
    pandas.DataFrame(rows).to_parquet(path, index=False)
    print(path)


def listing(
    runs: Sequence[Run], metrics: Sequence[str], options: dict[str, list[str]], notes: Sequence[str], given: Namespace
) -> None:
    """The runs as rows: what identifies them, the keys in which they differ, and their metrics."""
    asked = options.get("columns", [])
    head = [*HEAD, *(["freshness"] if any(run.freshness for run in runs) else [])]
    if any(run.debug for run in runs):
        head.append("debug")
    own, following = differing(runs)
    notes = [*notes, *(outdated(runs) if given.stale else [])]
    if given.markdown or given.latex:
        known = list(dict.fromkeys([*head, *asked, *own]))
        show([*known, *metrics], [[run.value(n) for n in (*known, *metrics)] for run in runs], notes, given)
        return
    if {run.result.get("objective_name") for run in runs if run.result} <= set(metrics):
        head.remove("objective")  # which stands under its own name
    shared = [name for name in head if name not in ("key", *asked) and len(runs) > 1 and not several(runs, name)]
    head = [name for name in head if name not in shared]
    if len(runs) > 1 and several(runs, "task"):
        head.append("task")
    if shared := [f"{name}={text(value)}" for name in shared if (value := runs[0].value(name)) not in (None, "")]:
        print(printable(f"all {len(runs)} runs: {' '.join(shared)}"))
    said = [name for name in ("tags", "notes") if any(run.value(name) for run in runs)]
    names = list(dict.fromkeys([*head, *asked, *own, *said]))
    wanted = {*asked, *(metrics if "metrics" in options or given.best else [])}
    ranks = {name: RANKS.get(name, 3) for name in names} | {name: 1 for name in wanted}
    columns = [Column(name, [run.value(name) for run in runs], ranks[name], name in wanted) for name in names]
    for i, name in enumerate(metrics):
        rank = 1 if name in wanted else 2 if i == 0 else 4
        columns.append(Column(name, [run.metrics.get(name) for run in runs], rank, name in wanted))
    more = [f"With these also differ {listed(following)} (columns=KEY shows one)."] if following else []
    write(columns, notes, "columns=KEY or metrics=NAME makes some", more)


def write(columns: Sequence[Column], notes: Sequence[str], advice: str, more: Sequence[str] = ()) -> None:
    """The columns, on a terminal as many as have room; then the notes, `advice` on how others get some, and `more`."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    table, left_out = fitted(columns, width)
    print(table)
    if left_out:
        notes = [*notes, f"No room for {listed(left_out)}: {advice}, --csv and --markdown have all."]
    for note in map(printable, [*notes, *more]):
        print(textwrap.fill(note, max(width, 40), break_long_words=False, break_on_hyphens=False) if width else note)


def show(head: Sequence[str], rows: Sequence[Sequence[object]], notes: Sequence[str], given: Namespace, keys: int = 0) -> None:
    """The rows in the form that was asked for, on standard output; the first `keys` columns say what a row is of."""
    numeric = [all(isinstance(row[i], int | float | None) for row in rows) for i in range(len(head))]
    sheet = Sheet("", head, [[*map(text, row)] for row in rows], "".join("r" if n else "l" for n in numeric), notes)
    if not typeset(sheet, given):
        columns = [Column(name, [row[i] for row in rows], rank=int(i >= keys), whole=True) for i, name in enumerate(head)]
        write(columns, notes, "metrics=NAME makes some")


# ---- one row a group


def grouped(runs: Sequence[Run], options: dict[str, list[str]], given: Namespace) -> None:
    """One row for each value of group=; the values of pivot= side by side.

    Raises:
        UsageError: pivot= with more than one metric, or strata= with several keys.
    """
    if given.tidy or given.parquet:
        raise UsageError("--tidy and --parquet give single runs; leave out group= and pivot=.")
    runs = [run for run in runs if run.status == "finished"]
    keys, pivot, strata = options.get("group", []), options.get("pivot", []), options.get("strata", [])
    patterns = options.get("metrics", [])
    metrics = ["objective"] if patterns == ["objective"] else records.chosen_metrics(runs, patterns) if patterns else []
    metrics = metrics or (["objective"] if pivot else main_metrics(runs))
    if pivot and (len(metrics) > 1 or len(pivot) > 1):
        raise UsageError(f"pivot= takes one key and one metric; name it with metrics=, one of {', '.join(metrics)}.")
    if len(strata) > 1 or (strata and not keys):
        raise UsageError("strata= takes one key, such as data, and comes with group=.")
    one = Columns(metrics, strata[0] if strata else None, "mixed" in options, given.csv)
    groups = split(runs, keys)
    if pivot:
        across = list(split(runs, pivot))
        head = [*keys, *(name for (value,) in across for name in one.head(f"{pivot[0]}={value}"))]
        rows = []
        for values, members in groups.items():
            parts = split(members, pivot)
            rows.append([*values, *(c for v in across for c in one.cells(parts.get(v, []), ", ".join((*values, *v))))])
    else:
        head = [*keys, "n", *(name for metric in metrics for name in one.head(metric))]
        rows = [[*v, len(m), *one.row(m, ", ".join(v))] for v, m in groups.items()]
    if given.csv:
        sys.stdout.write(comma_separated(head, rows))
        print(*map(printable, one.notes), sep="\n", end="\n" if one.notes else "", file=sys.stderr)
    else:
        title = [f"{metrics[0]}: mean [95 % interval]"] if pivot else []
        show(head, rows, [*title, *one.notes], given, len(keys))


class Columns:
    """How metrics become columns: one of text, or in CSV one for each number. Gathers the notes on the way."""

    def __init__(self, metrics: Sequence[str], strata: str | None, mixed: bool, numbers: bool) -> None:
        self.metrics, self.strata, self.mixed, self.numbers = metrics, strata, mixed, numbers
        self.notes: list[str] = []

    def head(self, name: str) -> list[str]:
        robust = [f"{name} iqm", f"{name} iqm_low", f"{name} iqm_high"] if self.strata else []
        if self.numbers:
            return [f"{name} n", name, f"{name} low", f"{name} high", *robust]
        return [name, *robust[:1]]

    def row(self, runs: Sequence[Run], where: str) -> list[object]:
        return [cell for metric in self.metrics for cell in self.cells(runs, where or "all runs", metric)]

    def cells(self, runs: Sequence[Run], where: str, metric: str | None = None) -> list[object]:
        summary = cell(runs, metric or self.metrics[0], strata=self.strata, mixed=self.mixed)
        if summary.refused:
            self.note(f"{where}: refused, it would mix {'; '.join(summary.refused)} (mixed=allow insists)")
        elif runs and (keys := varied(runs, without=[self.strata] if self.strata else [])):
            more = f" and {len(keys) - 4} more" if len(keys) > 4 else ""
            self.note(f"{where}: averages over {', '.join(keys[:4])}{more}")
        if self.numbers:
            mean = summary.mean
            numbers = [mean.mean, mean.low, mean.high] if mean else [None] * 3
            return [summary.n, *numbers, *([summary.iqm, summary.low, summary.high] if self.strata else [])]
        if summary.refused:
            return ["refused"] * (2 if self.strata else 1)
        robust = [interval(summary.iqm, summary.low, summary.high)] if self.strata else []
        return [interval(summary.mean.mean, summary.mean.low, summary.mean.high) if summary.mean else "-", *robust]

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def interval(centre: float | None, low: float | None, high: float | None) -> str:
    return text(centre) if low is None else f"{text(centre)} [{text(low)}, {text(high)}]"
