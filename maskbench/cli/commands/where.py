"""`maskbench where KEY=VALUE ...`: the directory of each run a command would start, its state, and whether the code that made
it is the present one; --live: over and over."""

import time
from collections import Counter
from pathlib import Path

from maskbench.cli.commands.common import aligned
from maskbench.common import identity
from maskbench.common.files import glance
from maskbench.report.runs import load, state

EVERY = 2.0  # seconds between two looks
SHOWN = 30  # runs of a live table; the others are counted
AT_WORK, OVER = ("new", "running", "interrupted"), ("finished", "failed", "damaged", "unreadable")
HELP = """maskbench where [-m] KEY=VALUE ...: run directory, state, and fresh, stale or mixed of a finished run;
values with commas give one line per run.
--live: a live table of a sweep that is running elsewhere, until all its runs are over."""


def main(argv: list[str]) -> int:
    from maskbench.cli import command_line, preflight

    if argv in (["--help"], ["-h"]):
        print(HELP)
        return 0
    live, argv = "--live" in argv, [word for word in argv if word != "--live"]
    command = command_line.parse(argv)
    if any(override.is_sweep_override() for override in command.overrides) and "-m" not in argv:
        argv = [*argv, "-m"]
    command = preflight.check(argv, starts=False)
    folders = [identity.run_dir(command.compose(job)).absolute() for job in command_line.jobs(command)]
    if live:
        return watch(folders)
    print(aligned([[str(run.folder), run.status, run.freshness] for run in map(load, folders)]))
    return 0


def watch(folders: list[Path]) -> int:
    """A live table on a terminal, elsewhere a line whenever the counts change; returns when every run is over."""
    from rich.console import Console
    from rich.live import Live

    console, before = Console(highlight=False), ""
    with Live(console=console, auto_refresh=False, transient=False) as live:
        while True:
            states = [state(folder) for folder in folders]
            counts = ", ".join(f"{n} {name}" for name, n in Counter(sorted(states, key=(*AT_WORK, *OVER).index)).items())
            if console.is_terminal:
                live.update(grid(folders, states, counts), refresh=True)
            elif counts != before:
                print(counts, flush=True)
            before = counts
            if all(name in OVER for name in states):
                return 0
            time.sleep(EVERY)


def grid(folders: list[Path], states: list[str], counts: str):
    from rich.table import Table

    table = Table(title=counts, title_justify="left", box=None, pad_edge=False)
    for name in ("run", "state", "objective"):
        table.add_column(name, justify="right" if name == "objective" else "left", no_wrap=True)
    order = ("running", "failed", "damaged", "unreadable", "interrupted", "finished", "new")
    for folder, now in sorted(zip(folders, states, strict=True), key=lambda pair: order.index(pair[1]))[:SHOWN]:
        objective = glance(folder / "result.json").get("objective")
        table.add_row("/".join(folder.parts[-2:]), now, "" if objective is None else f"{objective:.4f}")
    return table
