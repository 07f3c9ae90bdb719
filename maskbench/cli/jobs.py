"""Runs started side by side, each the program itself in a process of its own: one that crashes takes no other with it.

What is finished is not started, what was interrupted is taken up by the same command, and a run that another process is
at work on is waited for. On a terminal a live table shows how far each job is; elsewhere a line when one starts or ends, and
every two minutes one that says how far those under way are and what is left.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

from rich.console import Console as Terminal
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from maskbench.cli import forks
from maskbench.cli.estimates import Estimates, Outlook, outlook
from maskbench.cli.interrupts import terminable
from maskbench.common.files import glance
from maskbench.report import durations
from maskbench.report.runs import state

SHOWN = 24  # jobs of a live table; the others are counted
MOST = 5  # runs that train side by side: more share little more of a step's cost, and each holds its own data
GRACE = 3.0  # seconds for processes to stop by themselves
PATIENCE = 2.0  # seconds between two checks of a run that another process is at work on
PERIOD = 120.0  # seconds between two lines about what is under way, on no terminal
OVER = ("finished", "failed", "interrupted", "earlier")
PART = re.compile(r"part (\d[\d,]*(?: of \d[\d,]*)?), .*: ")  # what a run says when a part of it is done
PROGRAM = (sys.executable, "-m", "maskbench")
MARKS = {
    "waiting": "dim",
    "elsewhere": "yellow",
    "running": "bold",
    "finished": "green",
    "failed": "red",
    "interrupted": "yellow",
    "earlier": "dim",
}


@dataclass
class Job:
    """One process: overrides, the run directories it fills, and how it stands.

    status: waiting, elsewhere (another process does it), running, finished, failed, interrupted, or earlier (nothing to do).
    """

    label: str
    words: Sequence[str]
    folders: Sequence[Path]
    fresh: bool = False  # do it anew although it is finished
    warm: bool = False  # fork it from a process that has the imports done
    group: str = ""  # of runs that train side by side, where they are begun together
    status: str = "waiting"
    note: str = ""
    turn: int = 0  # those of a lower one are begun first
    steps: int | None = None  # of a phase of training, where the command says so
    parts: str = ""  # such as 3 of 10, of which the run has said that they are done
    missing: Sequence[Path] = ()  # of the folders, those without a finished run when the jobs began
    spent: float = 0.0  # seconds that earlier attempts put into them
    started: float = 0.0
    seconds: float = 0.0
    process: "subprocess.Popen | forks.Forked | None" = field(default=None, repr=False)
    link: Connection | None = field(default=None, repr=False)  # to those beside it

    @property
    def done(self) -> bool:
        return not self.fresh and all(state(folder) == "finished" for folder in self.folders)

    @property
    def taken(self) -> bool:
        return any(state(folder) == "running" for folder in self.folders)

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started if self.status == "running" else self.seconds

    @property
    def standing(self) -> str:
        """How far it is, as far as the run says: `3 of 10 parts done, step 1,200 of 4,000`."""
        saved = glance(self.folders[0] / "state.json")
        parts, at = self.parts or saved.get("parts_done"), saved.get("at")
        step = f"step {at:,}" + (f" of {self.steps:,}" if self.steps and at <= self.steps else "") if at else ""
        return ", ".join(filter(None, (f"{parts} parts done" if parts else "", step)))

    def left(self, times: Estimates) -> float | None:
        """Seconds until it is done; None: nobody knows."""
        lengths = [times.of(folder) for folder in self.missing or self.folders]
        return None if None in lengths else max(0.0, sum(lengths) - self.spent - self.elapsed)


def ahead(jobs: Sequence[Job], parallel: int, times: Estimates) -> Outlook:
    """What is left of the jobs."""
    running = [job.left(times) for job in jobs if job.status == "running"]
    return outlook([job.left(times) for job in jobs if job.status in ("waiting", "elsewhere")], parallel, running)


def run(jobs: Sequence[Job], parallel: int, times: Estimates | None = None) -> list[Job]:
    """Do the jobs, at most `parallel` at a time, and return those that failed; each holds the reason in `note`.

    Args:
        times: how long runs take, for what is shown; learns of those that end.
    """
    stop = threading.Event()
    settle(jobs)
    todo = [job for job in jobs if job.status != "earlier"]
    if any(job.warm for job in todo):
        os.environ.update(threads())
        forks.begin()
    with shown(jobs, parallel, times or Estimates({})) as tell, terminable(), ThreadPoolExecutor(max(1, parallel)) as pool:
        futures = [pool.submit(_do_together, group, stop, tell) for group in grouped(todo, parallel)]
        try:
            while not all(future.done() for future in futures):
                time.sleep(0.25)
                tell.refresh()
        finally:
            stop.set()
            end([job for job in todo if job.process is not None])
        for future in futures:
            future.result()
    return [job for job in jobs if job.status in ("failed", "interrupted")]


def grouped(jobs: Sequence[Job], parallel: int) -> list[list[Job]]:
    """The jobs in turn, those that train side by side together: as few at once as leave work for every process."""
    most = min(MOST, -(-len(jobs) // max(1, parallel)))
    groups: dict[object, list[list[Job]]] = {}
    made: list[list[Job]] = []
    for job in jobs:
        mine = groups.setdefault(job.group if job.warm and job.group else id(job), [])
        if not mine or len(mine[-1]) >= most:
            mine.append([])
            made.append(mine[-1])
        mine[-1].append(job)
    return made


def settle(jobs: Sequence[Job]) -> None:
    """Look which jobs are done already, and how far the others were brought."""
    for job in jobs:
        job.missing = [folder for folder in job.folders if job.fresh or state(folder) != "finished"]
        if not job.missing:
            job.status = "earlier"
        elif not job.fresh:
            job.spent = sum(map(durations.spent, job.missing))


def end(jobs: Sequence[Job]) -> None:
    """On an interruption: let the processes stop by the terminal's own signal, then tell those that did not get one.

    A first signal lets a run end the block it is at and save, a second ends it at once, so no second one is sent early.
    """
    patience = time.monotonic() + GRACE
    while time.monotonic() < patience and any(job.process.poll() is None for job in jobs):
        time.sleep(0.05)
    for job in jobs:
        if job.process.poll() is None:
            job.process.send_signal(signal.SIGTERM)


def _do_together(group: Sequence[Job], stop: threading.Event, tell: "Progress") -> None:
    """Do the jobs of a group at once, so that they train side by side; those in other hands after them."""
    free = [job for job in group if not (job.taken or job.done)] if len(group) > 1 else []
    if len(free) > 1 and not stop.is_set():
        with forks.side_by_side(len(free)) as links, ThreadPoolExecutor(len(free)) as pool:
            for job, link in zip(free, links, strict=True):
                job.link = link
            list(pool.map(partial(_do, stop=stop, tell=tell), free))
        group = [job for job in group if job not in free]
    for job in group:
        _do(job, stop, tell)


def _do(job: Job, stop: threading.Event, tell: "Progress") -> None:
    while job.taken and not stop.is_set():
        job.status, job.note = "elsewhere", "another process is at work on it"
        stop.wait(PATIENCE)
    if stop.is_set():
        job.status = "waiting"
        return
    if job.done:
        job.status = "earlier"
        tell.line(job)
        return
    job.started, job.status, job.note = time.monotonic(), "running", ""
    tell.line(job)
    complaint = _follow(job)
    job.seconds = time.monotonic() - job.started
    code = job.process.returncode
    job.fresh = False
    job.status = "finished" if code == 0 and job.done else "interrupted" if code == 130 else "failed"
    if job.status == "failed":
        end = f"killed by signal {-code}" if code < 0 else f"exit status {code}"
        job.note = complaint or f"{end}{f'; the last it said: {job.note}' if job.note else ''}"
    tell.ended(job)


def _follow(job: Job) -> str:
    """Start the process and read what it says until it ends; its last complaint."""
    complaint = ""
    with tempfile.TemporaryDirectory(prefix="maskbench-") as folder:
        log = Path(folder) / "log"
        log.touch()
        job.process = forks.start(job.words, log, job.link) if job.warm else _start(job.words, log)
        with open(log, errors="replace") as output:
            ended, rest = False, ""
            while not ended:
                ended = job.process.poll() is not None  # asked before reading, so that no line is missed
                *lines, rest = (rest + output.read() + "\n" * ended).split("\n")
                for line in filter(None, map(str.strip, lines)):
                    job.note = line
                    job.parts = found[1] if (found := PART.match(line)) else job.parts
                    if line.startswith("maskbench: "):
                        complaint = line.removeprefix("maskbench: ")
                    elif complaint.endswith(":"):  # of a sweep: below it stand the jobs
                        complaint += f" {line}"
                if not ended:
                    time.sleep(0.1)
    return complaint


def _start(words: Sequence[str], log: Path) -> subprocess.Popen:
    environment = os.environ | threads()
    with open(log, "a") as output:
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": output}
        return subprocess.Popen([*PROGRAM, *words], env=environment, **streams)


def threads() -> dict[str, str]:
    """What processes side by side need in their environment: one thread each unless the user says otherwise."""
    return {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"), "OMP_WAIT_POLICY": "PASSIVE"}


# ---- what is shown of it


class Progress:
    """How the jobs stand, on standard error: a live table; or a line when one starts or ends, and now and then one of all."""

    def __init__(self, jobs: Sequence[Job], live: Live | None, parallel: int, times: Estimates) -> None:
        self.jobs, self.live, self.parallel, self.times = jobs, live, parallel, times
        self.out = Terminal(stderr=True, highlight=False)
        self.begun = self.told = time.monotonic()
        self.turn = threading.Lock()

    @property
    def over(self) -> str:
        """How many jobs are over, whatever came of them."""
        return f"{sum(one.status in OVER for one in self.jobs)} of {len(self.jobs)} jobs over"

    def refresh(self) -> None:
        if self.live:
            self.live.update(self.grid())
        elif time.monotonic() - self.told > PERIOD:
            self.told = time.monotonic()
            self.print(f"{self.over}, {self.clock()}: {'; '.join(map(self.one, self.under_way))}")

    def print(self, text: str) -> None:
        self.out.print(text, markup=False, soft_wrap=True)

    def ended(self, job: Job) -> None:
        for folder in job.folders:
            self.times.look(folder)
        self.line(job)

    def line(self, job: Job) -> None:
        """On no terminal: one line when a job starts or ends."""
        if self.live:
            return
        ending = {
            "running": "started",
            "finished": f"finished in {job.seconds:.0f} s",
            "earlier": "finished by another process",
            "interrupted": "interrupted",
        }.get(job.status, f"failed: {job.note}")
        with self.turn:  # a later line never counts fewer
            left = "" if job.status != "finished" or not self.left else f"; {self.clock()}"
            self.print(f"{self.over}, {job.label}: {ending}{left}")

    @property
    def under_way(self) -> list[Job]:
        return [job for job in self.jobs if job.status == "running"]

    @property
    def left(self) -> list[Job]:
        return [job for job in self.jobs if job.status not in OVER]

    def clock(self) -> str:
        """The time since the start, and what is left."""
        rest = ahead(self.jobs, self.parallel, self.times)
        after = f", {rest.told(' left')}" if rest.seconds else ""
        return f"{durations.words(time.monotonic() - self.begun)} so far{after}"

    def one(self, job: Job) -> str:
        """How far one job is, and what is left of it."""
        left = job.left(self.times)
        told = filter(None, (job.standing, f"about {durations.words(left)} left" if left else ""))
        return f"{job.label} ({'; '.join(told) or durations.words(job.elapsed)})"

    def grid(self) -> Table:
        """On a terminal: the table of jobs, those that need attention first."""
        counts = {status: sum(job.status == status for job in self.jobs) for status in MARKS}
        title = ", ".join(f"{n} {status}" for status, n in counts.items() if n)
        title += f"; {self.clock()}" if self.under_way else ""
        table = Table(title=title, title_justify="left", box=None, pad_edge=False, expand=True)
        table.add_column("job", no_wrap=True)
        table.add_column("", no_wrap=True)
        table.add_column("s", justify="right")
        table.add_column("", no_wrap=True, ratio=1)
        table.add_column("left", justify="right", no_wrap=True)
        order = ("failed", "interrupted", "running", "elsewhere", "waiting", "finished", "earlier")
        shown = sorted(self.jobs, key=lambda job: order.index(job.status))[:SHOWN]
        for job in shown:
            mark = f"[{MARKS[job.status]}]{job.status}"
            left = None if job.status in OVER else job.left(self.times)
            note = job.note if job.status != "running" else ": ".join(filter(None, (job.standing, job.note)))
            seconds = f"{job.elapsed:.0f}" if job.elapsed else ""
            table.add_row(job.label, mark, seconds, escape(note), durations.words(left) if left else "")
        return table


@contextmanager
def shown(jobs: Sequence[Job], parallel: int, times: Estimates) -> Iterator[Progress]:
    if not sys.stderr.isatty():
        yield Progress(jobs, None, parallel, times)
        return
    with Live(console=Terminal(stderr=True, highlight=False), refresh_per_second=4, transient=True) as live:
        yield Progress(jobs, live, parallel, times)
