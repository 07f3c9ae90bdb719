"""`maskbench where KEY=VALUE ...`: the directory of each run a command would start, its state, and whether the code that made
it is the present one; --live: over and over."""

import time
from collections import Counter
from datetime import datetime
from pathlib import Path

from maskbench.cli.commands.common import aligned
from maskbench.cli.estimates import Estimates, Outlook, outlook, question
from maskbench.common import identity
from maskbench.common.files import glance
from maskbench.report import durations, spark
from maskbench.report.runs import load, state

EVERY = 2.0  # seconds between two looks
SHOWN = 30  # runs of a live table; the others are counted
AT_WORK, OVER = ("new", "running", "interrupted"), ("finished", "failed", "damaged", "unreadable")
HELP = """maskbench where [-m] KEY=VALUE ...: run directory, state, and fresh, stale or mixed of a finished run;
values with commas give one line per run.
--live: a live table of a sweep that is running elsewhere, until all its runs are over: how far each is, its training loss so
far, and what is left, as runs like these took."""


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
    folders = [identity.run_dir(command.of_job(job)).absolute() for job in command_line.jobs(command)]
    if live:
        return watch(folders)
    print(aligned([[str(run.folder), run.status, run.freshness] for run in map(load, folders)]))
    return 0


def watch(folders: list[Path]) -> int:
    """A live table on a terminal, elsewhere a line whenever the counts change; returns when every run is over."""
    from rich.console import Console
    from rich.live import Live

    console, before = Console(highlight=False), ""
    times = Estimates({question(folder): None for folder in folders})
    known = {folder for folder in folders if state(folder) == "finished"}
    with Live(console=console, auto_refresh=False, transient=False) as live:
        while True:
            states = [state(folder) for folder in folders]
            for folder in {f for f, now in zip(folders, states, strict=True) if now == "finished"} - known:
                times.look(folder)
                known.add(folder)
            counts = ", ".join(f"{n} {name}" for name, n in Counter(sorted(states, key=(*AT_WORK, *OVER).index)).items())
            if (rest := ahead(folders, states, times)).runs:
                counts += f"; {rest.told(' left')}"
            if console.is_terminal:
                live.update(grid(folders, states, counts), refresh=True)
            elif (told := counts.partition(";")[0]) != before:
                print(counts, flush=True)
                before = told
            if all(name in OVER for name in states):
                return 0
            time.sleep(EVERY)


def ahead(folders: list[Path], states: list[str], times: Estimates) -> Outlook:
    """What is left of the runs, by as many processes as are at work now."""
    stand = dict(zip(folders, states, strict=True))
    running = [folder for folder, now in stand.items() if now == "running"]
    lengths = [None if (length := times.of(folder)) is None else max(0.0, length - elapsed(folder)) for folder in running]
    waiting = [times.of(folder) for folder, now in stand.items() if now in AT_WORK and now != "running"]
    return outlook(waiting, max(1, len(running)), lengths)


def elapsed(folder: Path) -> float:
    """Seconds since the attempt under way began, and those of earlier ones that it took up."""
    attempts = glance(folder / "run.json").get("attempts") or [{}]
    try:
        began = datetime.fromisoformat(attempts[-1]["started"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return 0.0
    return max(0.0, time.time() - began) + (durations.spent(folder) if len(attempts) > 1 else 0.0)


def standing(folder: Path) -> str:
    """How far a run is, as its last checkpoint says: `3 parts done, step 1,200`; and its training loss."""
    saved = glance(folder / "state.json")
    done, at = saved.get("parts_done"), saved.get("at")
    loss = spark.latest(folder)
    told = (f"{done} parts done" if done else "", f"step {at:,}" if at else "", f"loss {loss[0]:.4g} {loss[1]}" if loss else "")
    return ", ".join(filter(None, told))


def grid(folders: list[Path], states: list[str], counts: str):
    from rich.table import Table

    table = Table(title=counts, title_justify="left", box=None, pad_edge=False)
    for name in ("run", "state", "", "objective"):
        table.add_column(name, justify="right" if name == "objective" else "left", no_wrap=True)
    order = ("running", "failed", "damaged", "unreadable", "interrupted", "finished", "new")
    for folder, now in sorted(zip(folders, states, strict=True), key=lambda pair: order.index(pair[1]))[:SHOWN]:
        objective = glance(folder / "result.json").get("objective")
        table.add_row("/".join(folder.parts[-2:]), now, standing(folder) if now == "running" else "", told(objective))
    return table


def told(objective: object) -> str:
    return f"{objective:.4f}" if isinstance(objective, int | float) else ""
