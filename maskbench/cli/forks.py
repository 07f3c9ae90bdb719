"""Runs in processes that begin with a run's imports done: many short runs spend their time on training, not on importing torch.

One process imports what every run needs and does nothing else; each run is a fork of it, so runs share no state but code.
"""

import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path

PRELOAD = ["maskbench.cli.preloaded"]


class Forked:
    """What subprocess.Popen offers of a process, of one that was forked."""

    def __init__(self, process: multiprocessing.Process) -> None:
        self.process = process

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.process.pid, number)


def start(words: Sequence[str], log: Path, link: Connection | None = None) -> Forked:
    """The program on these words in a process of its own; what it says on standard error goes to `log`.

    Args:
        link: to the process that trains it beside others; closed here.
    """
    process = forking().Process(target=program, args=(list(words), os.getcwd(), str(log), link))
    process.start()
    if link is not None:
        link.close()  # that the run has left is to be heard at the other end
    return Forked(process)


def forking() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)  # heard only before the first start
    return context


@contextmanager
def side_by_side(runs: int) -> Iterator[list[Connection]]:
    """A process that trains so many runs together, and the link for each of them; it ends when all have left."""
    pairs = [multiprocessing.Pipe() for _ in range(runs)]
    process = forking().Process(target=train_together, args=([ours for ours, _ in pairs], os.getcwd()))
    process.start()
    for ours, _ in pairs:
        ours.close()
    try:
        yield [theirs for _, theirs in pairs]
    finally:
        for _, theirs in pairs:
            theirs.close()
        process.join()


def able(words: Sequence[str]) -> bool:
    """Whether a run may be forked: the system can, and it starts no processes of its own by its command line."""
    return "forkserver" in multiprocessing.get_all_start_methods() and not any(
        w.lstrip("+~").startswith(("trainer", "-m", "hydra", "sweep")) for w in words
    )


def begin() -> None:
    """Start the process that runs are forked from, in this process's environment."""
    forking()
    forkserver.ensure_running()


def train_together(links: list[Connection], folder: str) -> None:
    """In the fork: training for the runs at these links. What ends them by a signal ends this too, a moment later."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.path.append(folder)  # nets of the user's own modules
    import_module("maskbench.runs.machine").prepare(1)
    import_module("maskbench.training.group").serve(links)


def program(words: list[str], folder: str, log: str, link: Connection | None) -> None:
    """In the fork: the command line, with its own streams and folder."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    import_module("maskbench.training.side_by_side").link = link
    os.chdir(folder)
    for stream, path in ((0, os.devnull), (1, os.devnull), (2, log)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND), stream)
    sys.argv = ["maskbench", *words]
    runpy.run_module("maskbench", run_name="__main__")  # which exits; an import of the program would close a circle
