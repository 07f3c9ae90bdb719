"""Runs in processes that begin with a run's imports done: many short runs spend their time on training, not on importing torch.

One process imports what every run needs and does nothing else; each run is a fork of it, so runs share no state but code.
"""

import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Sequence
from multiprocessing import forkserver
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


def start(words: Sequence[str], log: Path) -> Forked:
    """The program on these words in a process of its own; what it says on standard error goes to `log`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)  # heard only before the first start
    process = context.Process(target=program, args=(list(words), os.getcwd(), str(log)))
    process.start()
    return Forked(process)


def able(words: Sequence[str]) -> bool:
    """Whether a run may be forked: the system can, and it starts no processes of its own by its command line."""
    return "forkserver" in multiprocessing.get_all_start_methods() and not any(
        w.startswith(("trainer", "-m", "hydra", "sweep")) for w in words
    )


def begin() -> None:
    """Start the process that runs are forked from, in this process's environment."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    forkserver.ensure_running()


def program(words: list[str], folder: str, log: str) -> None:
    """In the fork: the command line, with its own streams and folder."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.chdir(folder)
    for stream, path in ((0, os.devnull), (1, os.devnull), (2, log)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND), stream)
    sys.argv = ["maskbench", *words]
    runpy.run_module("maskbench", run_name="__main__")  # which exits; an import of the program would close a circle
