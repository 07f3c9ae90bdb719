"""What a run says on the terminal: a live bar on a terminal, plain lines elsewhere, and the result table."""

import logging
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console as Terminal
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column, Table

from maskbench.common.foreign import printable, printable_lines
from maskbench.report.interval_ends import ends, is_end

log = logging.getLogger("maskbench")


class Console(logging.Handler):
    """Progress of one run over its parts, and its result. What the package logs appears here as lines.

    A part is one lasting piece of the task's work: a stage learnt, a level pruned and trained, a stage inferred. "part 3 of 10"
    is the third of them, while it is under way and when it is done.

    stages: their names, which are told apart from counts (`0/1` has the digits 0 and 1).
    live: `auto` (a bar when standard error is a terminal), True or False. Silent when `mute` (other DDP ranks).
    """

    def __init__(self, title: str, live: bool | str = "auto", mute: bool = False) -> None:
        super().__init__(logging.INFO)
        self.mute = mute
        self.stages: Sequence[str] = ()
        self.out, self.err = Terminal(highlight=False), Terminal(stderr=True, highlight=False)
        live = sys.stderr.isatty() if live == "auto" else live
        self.now = ""  # the part under way
        self.bar = None
        if live and not mute:
            self.bar = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(bar_width=12),
                TextColumn("{task.fields[count]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
                console=self.err,
                transient=True,
            )
            self.whole = self.bar.add_task(escape(printable(title)), total=None, count="", note="")
            self.phase = self.bar.add_task("", total=1, count="", note="")
            self.bar.start()
        log.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if not self.mute:
            style = "dim" if record.levelno < logging.WARNING else "yellow"
            self.err.print(printable_lines(record.getMessage()), style=style, markup=False, soft_wrap=True)

    def close(self) -> None:
        log.removeHandler(self)
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
        super().close()

    def begin(self, name: str, done: int, expected: int | None) -> None:
        """Part `name` of the run is under way, after `done` of `expected`."""
        if self.bar is not None:
            self.bar.update(self.whole, completed=done, total=expected, count=count("part", done + 1, expected))
            self.now = self.named(name)

    def watch(self, phase: str, step: int, total: int, values: dict[str, float]) -> None:
        """Training stands at `step` of `total` of a phase."""
        if self.bar is not None:
            note = {"note": numbers(values)} if values else {}
            what = f"  {self.now}: {phase}" if self.now else f"  {phase}"
            told = {"description": escape(printable(what)), "count": count("step", step, total)}
            self.bar.update(self.phase, completed=step, total=total, **told, **note)

    def part(self, name: str, headline: dict[str, Any], done: int, expected: int | None) -> None:
        """A part of the run is done, `done` of `expected`; `headline` holds the numbers that matter."""
        if self.bar is not None:
            self.bar.update(
                self.whole, completed=done, total=expected, count=count("part", done, expected), note=numbers(headline)
            )
        log.info("%s, %s: %s", count("part", done, expected), self.named(name), numbers(headline))

    def named(self, part: str) -> str:
        """The name of a part, in which that of a stage is said to be one: `infer stage 0/1`."""
        for stage in self.stages:
            if part == stage or part.endswith(f" {stage}"):
                return f"{part.removesuffix(stage)}stage {stage}"
        return part

    def result(self, metrics: dict[str, float | None], table: list[dict[str, Any]], notes: list[str], title: str) -> None:
        """The result table, the metrics and the remarks, on standard output.

        Metrics of one cell (`accuracy/<branch>/<density>`) are in the table already, and in result.json.
        """
        if self.mute:
            return
        for rows, heading in ((table, title), (beside_intervals(metrics), None)):
            if not rows:
                continue
            grid = Table(title=heading and escape(printable(heading)), title_justify="left", title_style="bold")
            for column, value in rows[0].items():
                grid.add_column(escape(printable(column)), justify="left" if isinstance(value, str) else "right")
            for row in rows:
                grid.add_row(*(escape(printable(cell(value))) for value in row.values()))
            self.out.print(grid)
        for note in notes:
            self.out.print(printable_lines(f"Note: {note}"), markup=False)


def beside_intervals(metrics: dict[str, float | None]) -> list[dict[str, Any]]:
    """A row for each metric but those of one cell; where there are intervals, their ends stand beside what they are of."""
    shown = {name: value for name, value in metrics.items() if name.count("/") < 2 and not is_end(name, metrics)}
    rows: list[dict[str, Any]] = [{"metric": name, "value": value} for name, value in shown.items()]
    if len(shown) < sum(name.count("/") < 2 for name in metrics):
        for row in rows:
            low, high = (metrics.get(end) for end in ends(row["metric"]))
            row["95 % interval"] = "" if low is None else f"{cell(low)} to {cell(high)}"
    return rows


def count(what: str, number: int, total: int | None) -> str:
    """`part 3 of 10`, or `part 3` where nobody knows of how many."""
    return f"{what} {number:,}" + (f" of {total:,}" if total else "")


def cell(value: Any) -> str:
    """Four decimals; an exact zero as 0.0; counts as they are; n/a where a metric is undefined."""
    if value is None:
        return "n/a"
    if value == 0:
        return str(value)
    if isinstance(value, float):
        return f"{value:.4f}" if 1e-3 <= abs(value) < 1e5 else f"{value:.3e}"
    return str(value)


def numbers(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {cell(value)}" for name, value in values.items())
