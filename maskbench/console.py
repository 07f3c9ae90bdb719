"""What a run says on the terminal: a live bar on a terminal, plain lines elsewhere, and the result table."""

import logging
import sys
from typing import Any

from rich.console import Console as Terminal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

log = logging.getLogger("maskbench")


class Console:
    """Progress of one run over the steps of its task, and its result.

    live: `auto` (a bar when standard error is a terminal), True or False. Silent when `mute` (other DDP ranks).
    """

    def __init__(self, title: str, live: bool | str = "auto", mute: bool = False) -> None:
        self.mute = mute
        self.out, self.err = Terminal(highlight=False), Terminal(stderr=True, highlight=False)
        live = sys.stderr.isatty() if live == "auto" else live
        self.bar = None
        if live and not mute:
            self.bar = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=self.err,
                transient=True,
            )
            self.whole = self.bar.add_task(title, total=None, note="")
            self.phase = self.bar.add_task("", total=1, note="")
            self.bar.start()

    def say(self, text: str) -> None:
        """A line for the person and for the log file."""
        log.info(text)
        if not self.mute:
            self.err.print(text, style="dim", markup=False)

    def watch(self, phase: str, step: int, total: int, values: dict[str, float]) -> None:
        """Training stands at `step` of `total` of a phase."""
        if self.bar is not None:
            note = {"note": numbers(values)} if values else {}
            self.bar.update(self.phase, description=f"  {phase}", completed=step, total=total, **note)

    def part(self, name: str, headline: dict[str, Any], done: int, expected: int | None) -> None:
        """A step of the task is done, `done` of `expected`; `headline` holds the numbers that matter."""
        text = f"{done}/{expected or '?'} {name}: {numbers(headline)}"
        log.info(text)
        if self.bar is not None:
            self.bar.update(self.whole, completed=done, total=expected, note=numbers(headline))
        elif not self.mute:
            self.err.print(text, markup=False)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def result(self, metrics: dict[str, float | None], table: list[dict[str, Any]], notes: list[str], title: str) -> None:
        """The result table, the metrics and the remarks, on standard output."""
        if self.mute:
            return
        for rows, heading in ((table, title), ([{"metric": k, "value": v} for k, v in metrics.items()], None)):
            if not rows:
                continue
            grid = Table(title=heading, title_justify="left", title_style="bold")
            for column, value in rows[0].items():
                grid.add_column(column, justify="left" if isinstance(value, str) else "right")
            for row in rows:
                grid.add_row(*(cell(value) for value in row.values()))
            self.out.print(grid)
        for note in notes:
            self.out.print(f"Note: {note}", markup=False)


def cell(value: Any) -> str:
    """Four decimals; counts as they are; n/a where a metric is undefined."""
    if value is None:
        return "n/a"
    if isinstance(value, float):
        return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.3e}"
    return str(value)


def numbers(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {cell(value)}" for name, value in values.items())
