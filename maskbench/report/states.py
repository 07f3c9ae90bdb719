"""The state of a run directory. Imports no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskbench.common.checksums import read_result
from maskbench.common.files import Damaged, Unreadable, read_json

DAMAGED = "damaged"  # status of a run whose record cannot be believed
UNREADABLE = "unreadable"  # of one whose record may be sound, and cannot be read now


def state(run: Path) -> str:
    """new, finished, failed, interrupted or running of a run directory; unreadable or damaged where its files cannot say.

    A run that was killed could not write so; it is told from one at work by the lock, which dies with its process.
    """
    try:
        if (result := read_result(run)).get("status") == "finished":
            return "finished"
        about = read_json(run / "run.json")
    except Unreadable:
        return UNREADABLE
    except Damaged:
        return "running" if _locked(run / ".lock") else DAMAGED
    return standing(run, about, result)


def standing(run: Path, about: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """The state of a run directory whose run.json and result.json, where there are such, are sound and say this."""
    if about and result.get("status") == "finished":
        return "finished"
    status = about.get("status")
    if status is None and not (run / "run.json").exists():
        return "new"
    if status == "running":
        return "running" if _locked(run / ".lock") else "interrupted"
    return status if status == "failed" else "interrupted"


def _locked(path: Path) -> bool:
    """Whether another process holds the lock in this file; it is opened for reading alone, which a read-only copy allows, too."""
    import fcntl

    if path.is_symlink() or not path.is_file():
        return False
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there are no locks here, or not for us: who wants to write the run is told so
        return False
    return False
