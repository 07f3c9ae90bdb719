"""What a process is set to before it computes: threads, and an allocator that keeps the memory it has."""

import ctypes
import platform
import signal

import torch

PR_SET_PDEATHSIG = 1  # of Linux's prctl.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def prepare(threads: int) -> None:
    """Set torch's threads; on glibc, keep freed blocks of up to 32 MB in the process.

    A training step on a CPU makes and drops tensors of a megabyte many times; handed back to the system, each costs its
    page faults again. Results do not depend on it.
    """
    torch.set_num_threads(threads)
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 32 * 2**20)
        libc.mallopt(M_TRIM_THRESHOLD, 2**30)


def end_with_parent() -> None:
    """On Linux, have this process killed when the one that started it has ended, however that came: a rank that waits for another
    one inside a driver would not notice."""
    if platform.system() == "Linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
