"""Small files, read and replaced whole. Imports nothing heavy: the command line reads records with it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from maskbench.common import foreign


def replace(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` fill a temporary file, then put it in `path`'s place at once: readers see the old or the new, whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any]:
    """The object in `path`; empty when it is missing or damaged."""
    try:
        value = foreign.parse(foreign.content(path))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def read_result(run: Path) -> dict[str, Any]:
    """result.json of a run directory; empty while the run is not finished, and where no run.json says what it answers."""
    return read_json(run / "result.json") if read_json(run / "run.json") else {}


def anew(state: Path) -> str:
    """What to do when a run's resume state is of no use. (force=true goes on with a redo that lies beside a result.)"""
    either = "" if state.parent.name == ".redo" else " or add force=true"
    return f"delete the folder {state}{either} to start the run anew"
