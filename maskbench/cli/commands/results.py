"""`maskbench results`: one row for each run below an output folder, or one for each group of them."""

import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maskbench.cli.commands.common import arguments, forms, sorted_words, typeset
from maskbench.common.errors import UsageError
from maskbench.common.foreign import printable
from maskbench.report import runs as records
from maskbench.report.filters import refuse_unknown
from maskbench.report.freshness import MIXED, STALE
from maskbench.report.mixing import outdated
from maskbench.report.runs import HEAD, Run
from maskbench.report.writers import Sheet, aligned, comma_separated, text

SHOWN = 4  # metric columns of the table; CSV has all
KEYS = ("group", "pivot", "strata", "columns")  # words whose values are keys of runs
WORDS = (*KEYS, "metrics", "mixed")  # KEY=VALUE words that are no filters
ABOUT = """One row for each run; with group= one for each group, mean and 95 % interval over its finished runs.

KEY=VALUE filters: method=supsup seed=0,1 optimizer.lr=0.1 status=finished experiment=lottery/mnist_quick.
columns=KEY,...: further columns. metrics=NAME,...: which metrics; * stands for anything, as in accuracy/ticket/*.
group=KEY,...: one row for each value. pivot=KEY: its values side by side, of one metric.
strata=KEY: with group=, the interquartile mean over all runs and its interval by a bootstrap stratified by KEY.
mixed=allow: put runs together whose data sources, budgets or code differ, which is refused otherwise.
--stale: only runs that other code made than the present one (stale) or several versions of it (mixed), and why."""


def main(argv: list[str]) -> int:
    parser = arguments("results", ABOUT)
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="filters, and the words above")
    parser.add_argument("--output", type=Path, default=Path("outputs"), help="folder of the runs (paths.output)")
    form = forms(parser, "CSV with every metric")
    parser.add_argument("--stale", action="store_true", help="only runs whose code is not the present one")
    form.add_argument("--parquet", type=Path, metavar="FILE", help="write FILE; needs pandas and pyarrow")
    parser.add_argument("--tidy", action="store_true", help="with --csv or --parquet: one row a number instead of one a run")
    if (given := parser.read(argv)) is None:
        return 0
    options, filters = sorted_words(given.words, WORDS)
    runs = records.read(given.output, filters)
    refuse_unknown(runs, [key for name in KEYS for key in options.get(name, [])])
    runs = [run for run in runs if run.freshness in (STALE, MIXED)] if given.stale else runs
    patterns = options.get("metrics", [])
    if not runs:
        if given.csv:
            print(",".join([*HEAD, "run"]))
        else:
            print(f"no {'stale ' * given.stale}runs in {given.output}{' that fit' if filters else ''}")
    elif "group" in options or "pivot" in options:
        grouped(runs, options, given)
    elif given.csv or given.parquet:
        frame(runs, patterns, options.get("columns", []), given)
    else:
        names = records.chosen_metrics(runs, patterns) if patterns else main_metrics(runs)
        listing(runs, names, options.get("columns", []), given)
    return 0


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


def listing(runs: Sequence[Run], metrics: Sequence[str], columns: Sequence[str], given: Namespace) -> None:
    known = list(dict.fromkeys([*HEAD, *(["freshness"] if any(run.freshness for run in runs) else []), *columns]))
    rows = [[run.value(name) for name in known] + [run.metrics.get(name) for name in metrics] for run in runs]
    show([*known, *metrics], rows, list(outdated(runs)) if given.stale else [], given)


def show(head: Sequence[str], rows: Sequence[Sequence[object]], notes: Sequence[str], given: Namespace) -> None:
    """The rows in the form that was asked for, on standard output."""
    numeric = [all(isinstance(row[i], int | float | None) for row in rows) for i in range(len(head))]
    sheet = Sheet("", head, [[*map(text, row)] for row in rows], "".join("r" if n else "l" for n in numeric), notes)
    if not typeset(sheet, given):
        print(aligned(rows, head))
        print(*map(printable, notes), sep="\n", end="\n" if notes else "")


# ---- one row a group


def grouped(runs: Sequence[Run], options: dict[str, list[str]], given: Namespace) -> None:
    """One row for each value of group=; the values of pivot= side by side.

    Raises:
        UsageError: pivot= with more than one metric, or strata= with several keys.
    """
    from maskbench.report.groups import split

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
        show(head, rows, [*title, *one.notes], given)


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
        from maskbench.report.groups import cell, varied

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
