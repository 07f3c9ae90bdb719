"""What debug=fast, overfit and profile do to a run: fewer rows, a loss that has to fall, a table of where the time goes.

The config of such a run has a node `debug`, which is part of its identity and marks it in its record.
"""

import csv
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch.profiler import ProfilerActivity, profile

from maskbench.common.errors import Unmet
from maskbench.data.stage import Split, Stage
from maskbench.report import remarks
from maskbench.report.writers import aligned

PROFILE = "profile.txt"
NAME = 34  # characters of an operation's name in the table


def tags(cfg: DictConfig) -> list[str]:
    """What loggers are to mark the run with: the user's tags, and that it is no result."""
    return ["debug"] * bool(OmegaConf.select(cfg, "debug")) + remarks.words(OmegaConf.select(cfg, "tags"))


def notes(cfg: DictConfig, folder: Path) -> list[str]:
    """What a debug run says of itself; a real one nothing.

    Raises:
        Unmet: its training loss was to fall and did not.
    """
    if not (debug := OmegaConf.select(cfg, "debug")):
        return []
    fell = fall(folder / "metrics.csv", debug.fall) if debug.get("fall") else []
    return [f"debug={debug.name}: a trial on few rows or steps, and no result.", *fell]


def looked_at(cfg: DictConfig, folder: Path) -> AbstractContextManager:
    """Inside, torch's profiler looks on where that was asked for."""
    lines = OmegaConf.select(cfg, "debug.lines")
    return profiled(folder, lines) if lines else nullcontext()


# ---- fewer rows


def few(stage: Stage, rows: int) -> Stage:
    """The stage with at most so many rows in each split in memory, taken evenly from the whole."""
    train = some(stage.train, rows)
    made = {
        "train": train,
        "val": train if stage.val is stage.train else some(stage.val, rows),
        "test": some(stage.test, rows),
        "ood": {name: some(split, rows) for name, split in stage.ood.items()},
        "shifted": {name: lambda make=make: some(make(), rows) for name, make in stage.shifted.items()},
    }
    return replace(stage, **made)


def some(split: Split, rows: int) -> Split:
    if not isinstance(split, Split) or len(split) <= rows:  # one that streams, or draws episodes
        return split
    index = torch.linspace(0, len(split) - 1, rows).round().long()
    return replace(split, y=split.y[index], rows=index if split.rows is None else split.rows[index])


# ---- a loss that falls


def fall(history: Path, most: float) -> list[str]:
    """What to say of the training losses in a metrics.csv: from where to where each part's went.

    most: the share of its first loss that the last one may be; a negative first one must only be undercut.

    Raises:
        Unmet: that of some part did not fall so far, or there is none.
    """
    losses: dict[str, list[float]] = {}
    with open(history, newline="") as file:
        for row in csv.DictReader(file):
            if row["metric"] == "loss":
                losses.setdefault(row["stage"], []).append(float(row["value"]))
    ends = {part: (values[0], values[-1]) for part, values in losses.items() if len(values) > 1}
    if not ends:
        raise Unmet("debug=overfit: no training loss was recorded twice in any part of this run; give it more budget.steps.")
    told = {part: f"{part}: training loss from {first:.4g} to {last:.4g}" for part, (first, last) in ends.items()}
    wrong = [told[part] for part, (first, last) in ends.items() if not last <= (most * first if first > 0 else first)]
    if wrong:
        raise Unmet(f"debug=overfit: the loss did not fall to {most:g} of where it began. {'; '.join(wrong)}.")
    return list(told.values())


# ---- where the time goes


@contextmanager
def profiled(folder: Path, lines: int) -> Iterator[None]:
    """Let torch's profiler look at what is done inside, print its costliest operations and write all of them to profile.txt."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    begun = time.perf_counter()
    with profile(activities=activities) as seen:
        yield
    wall = time.perf_counter() - begun
    events = seen.key_averages()
    (folder / PROFILE).write_text(events.table(sort_by="self_cpu_time_total", row_limit=-1, max_name_column_width=80))
    print(table(events, wall, lines))


def table(events: Sequence[Any], wall: float, lines: int) -> str:
    """The operations with the most time of their own, in 80 columns; microseconds become milliseconds."""
    whole = sum(event.self_cpu_time_total for event in events) or 1
    on_device = any(event.self_device_time_total for event in events)
    costly = sorted(events, key=lambda event: -max(event.self_cpu_time_total, event.self_device_time_total))[:lines]
    rows = []
    for event in costly:
        name = event.key if len(event.key) <= NAME else f"{event.key[: NAME - 1]}…"
        own, together = event.self_cpu_time_total, event.cpu_time_total
        row = [name, event.count, f"{own / 1000:.1f}", f"{100 * own / whole:.1f} %", f"{together / 1000:.1f}"]
        rows.append([*row, *([f"{event.self_device_time_total / 1000:.1f}"] if on_device else [])])
    head = ["operation", "calls", "own ms", "share", "with inner", *(["device ms"] if on_device else [])]
    return f"{wall:.2f} s, of which {whole / 1e6:.2f} s of a CPU in torch's operations\n{aligned(rows, head)}"
