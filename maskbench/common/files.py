"""Files that outlive a power cut, and files that are read whole: what is absent, what cannot be read and what is damaged are
three things. Imports nothing heavy: the command line reads records with it.

One rule for all that a run writes: the data of a file are on the disk before anything that points at it, be that a name in a
folder or a number in another file; and so is a name before the next thing that counts on it (`sync` of the folder).
"""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from maskbench.common import foreign
from maskbench.common.errors import UsageError

LENGTH = 64 * foreign.MB  # bytes of a record; those of real runs have thousands


class Unusable(UsageError):
    """A file of a run that is there and of no use."""


class Unreadable(Unusable):
    """A file that may well be sound, but which this machine cannot read now."""


class Damaged(Unusable):
    """A file whose content is not what was written."""


# ---- writing


def sync(path: Path) -> None:
    """Wait until the data of a file, or the names in a folder, are on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP)):  # some file systems sync no folders
            raise
    finally:
        os.close(number)


def replace(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` fill a temporary file, then put it in `path`'s place at once: readers see the old or the new, whole; and
    once this returns a power cut leaves the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        sync(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, to stay."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync(path.parent)


# ---- reading


def content(path: Path, most: int | None = LENGTH) -> bytes | None:
    """The bytes of a regular file; None only where there is none. A device or a pipe, which may never end, is not opened.

    most: bytes of it; None: any number, of files whose length only the disk limits.

    Raises:
        Unreadable: there may be one, and it cannot be read.
        Damaged: it is longer than that.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise OSError("no regular file")
        if most is None or status.st_size <= most:
            return path.read_bytes()
    except (FileNotFoundError, ValueError):  # the latter: a name that no file can have
        return None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        text = f"{path} cannot be read ({reason}); nothing was changed: try again, or mend the disk or the rights"
        raise Unreadable(text) from error
    raise Damaged(f"{path} is damaged: it is longer than {most // foreign.MB} MB")


def read_json(path: Path) -> dict[str, Any]:
    """The object in `path`; empty when there is no such file.

    Raises:
        Unreadable: there may be one, and it cannot be read.
        Damaged: it holds no JSON object, or more than any of ours.
    """
    if (text := content(path)) is None:
        return {}
    try:
        value = foreign.parse(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise Damaged(f"{path} is damaged: it holds no JSON object")
    return value


def glance(path: Path) -> dict[str, Any]:
    """The object in `path` for whoever only shows it: empty also where the file is of no use."""
    try:
        return read_json(path)
    except Unusable:
        return {}


def anew(state: Path) -> str:
    """What to do when a run's resume state is of no use. (force=true goes on with a redo that lies beside a result.)"""
    either = "" if state.parent.name == ".redo" else " or add force=true"
    return f"delete the folder {state}{either} to start the run anew"
