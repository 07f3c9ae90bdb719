"""How long the runs of a command take: as finished runs of the same question took, else as their preset says.

A question is a run directory without its seed: runs of one method, on one data set, under one key. What presets say was
measured on another machine, so it is held to those runs that both are known of.
"""

import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from maskbench.cli.commands.notes import NOTHING_ADDED
from maskbench.report import runs as records
from maskbench.report.durations import HOUR, MINUTE, makespan, seconds, words

LENGTH = re.compile(r"\+*(budget|backbone|data|protocol|task|trainer)\b")  # keys by which a run is longer or shorter


def question(folder: Path) -> Path:
    """A run directory without its seed."""
    return folder.with_name(folder.name.split("-", 1)[-1])


def told(note: Mapping[str, Any], given: Sequence[str]) -> float | None:
    """Seconds that a preset (schema.Experiment) says it takes on a core, of the variant whose words are among those given; midway
    between least and most. None too where other words make it longer or shorter (LENGTH): what it says is not of that run."""
    minutes = note.get("minutes") if "core" in str(note.get("machine")) else None
    of_variants = minutes if isinstance(minutes, Mapping) else {NOTHING_ADDED: minutes}
    variants = {name: set(() if name == NOTHING_ADDED else str(name).split()) for name in of_variants}
    fitting = [name for name, added in variants.items() if added <= set(given)]
    if not fitting:
        return None
    best = max(fitting, key=lambda name: len(variants[name]))
    minutes = of_variants[best]
    if minutes is None or any(LENGTH.match(word) for word in set(given) - variants[best]):
        return None
    return MINUTE * fmean(minutes if isinstance(minutes, Sequence) else [minutes])


class Estimates:
    """Seconds that runs take.

    Args:
        told: question -> what its preset says, None where it says nothing.
    """

    def __init__(self, told: Mapping[Path, float | None]) -> None:
        self.told = {one: length for one, length in told.items() if length is not None}
        self.measured: Mapping[Path, Mapping[Path, float]] = {}  # question -> run directory -> seconds; never changed in place
        self.lock = threading.Lock()
        for one in told:
            for folder in sorted(one.parent.glob(f"s*-{one.name}")):
                self.look(folder)

    def look(self, folder: Path) -> None:
        """Take note of how long the run in this folder took, if it is finished."""
        if (taken := seconds(records.load(folder))) is not None:
            one = question(folder)
            with self.lock:  # jobs end side by side
                self.measured = {**self.measured, one: {**self.measured.get(one, {}), folder: taken}}

    def measured_of(self, folder: Path) -> float | None:
        """Seconds that the run in this folder took, or runs of the same question; None: there was none."""
        taken = self.measured.get(question(folder)) or {}
        return taken[folder] if folder in taken else fmean(taken.values()) if taken else None

    def of(self, folder: Path) -> float | None:
        """Seconds that the run in this folder takes; None: nobody knows yet."""
        measured, one = self.measured_of(folder), question(folder)
        return self.told[one] * self.pace if measured is None and one in self.told else measured

    @property
    def pace(self) -> float:
        """How much longer runs took than their presets say."""
        both = [(fmean(taken.values()), self.told[one]) for one, taken in self.measured.items() if self.told.get(one)]
        return sum(taken for taken, _ in both) / sum(said for _, said in both) if both else 1.0

    def whole(self, folders: Iterable[Path], workers: int) -> float:
        """Seconds from the first of these runs to the last, begun in this order, also of those that are finished."""
        return makespan([self.of(folder) or 0.0 for folder in folders], workers)


@dataclass(frozen=True)
class Outlook:
    """What is left of some runs: how many they are, seconds to the end of the last, and of how many nobody knows the length."""

    runs: int
    seconds: float
    unknown: int

    def told(self, end: str = "") -> str:
        """Such as `about 40 min` and what stands behind that."""
        if self.unknown == self.runs:
            return "how long they take is seen after the first"
        more = f", without {self.unknown} that were never timed" if self.unknown else ""
        return f"about {words(self.seconds)}{end}{more}"


def outlook(lengths: Sequence[float | None], workers: int, running: Sequence[float | None] = ()) -> Outlook:
    """What is left of runs that wait, in their order, and of those under way; None: nobody knows."""
    busy = [length or 0.0 for length in running]
    spare = max(workers, len(busy))
    unknown = sum(length is None for length in (*lengths, *running))
    return Outlook(len(lengths) + len(running), makespan([x for x in lengths if x is not None], spare, busy), unknown)


def fitting(seeds: Sequence[int], hours: float, takes: Callable[[Sequence[int]], float]) -> tuple[Sequence[int], str]:
    """As many of the seeds as fit into so many hours, one at least, and a sentence that says so; `takes`: the seconds of some."""
    count = next((n for n in range(len(seeds), 1, -1) if takes(seeds[:n]) <= hours * HOUR), 1)
    length = takes(seeds[:count])
    if count < len(seeds):
        why = f"{count + 1} would take about {words(takes(seeds[: count + 1]))}"
        why += f", and 1 takes about {words(length)}" if length > hours * HOUR else ""
    else:
        why = f"about {words(length)}" + (", which is more" if length > hours * HOUR else "")
    return seeds[:count], f"hours={hours:g}: {count} of {len(seeds)} seeds: {why}."
