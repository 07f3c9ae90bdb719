"""Images that took long to read, kept as arrays beside their data: one file, which counts for the very files it was read from.

The name of the file is a hash of the name, size, times of change and inode of every one of them, so that no change goes
unnoticed; what it holds is compared again with its checksums by who reads it. Imports no torch.
"""

import hashlib
import logging
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from maskbench.common.files import replace

log = logging.getLogger("maskbench")

FOLDER = ".images"  # in the data folder
VERSION = 1  # of what is kept and how it is read


def file(root: Path, name: str, files: Mapping[str, Iterable[tuple]]) -> Path:
    """Where the arrays of these files are kept."""
    from PIL import __version__ as reader

    state = hashlib.sha256(f"{VERSION} {reader}\n".encode())
    for part, own in files.items():
        for one in own:
            state.update(f"{part} {tuple(one)!r}\n".encode("utf-8", "surrogateescape"))
    return root / FOLDER / f"{name}-{state.hexdigest()[:16]}.npz"


def read(path: Path, *names: str) -> dict[str, np.ndarray] | None:
    """The arrays, or those that are named; None if there are none or the file is damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names or arrays.files}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        log.warning(f"{path} is damaged, reading the images again.")
        return None


def write(path: Path, arrays: Mapping[str, Any]) -> None:
    """Keep the arrays in the place of what was kept of this set before; where the folder cannot be written, do without."""

    def save(temporary: Path) -> None:
        with open(temporary, "wb") as out:
            np.savez(out, **arrays)

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, save)
        for old in path.parent.glob(f"{path.name.rpartition('-')[0]}-*.npz"):
            if old != path:
                old.unlink(missing_ok=True)
    except OSError as error:
        log.info(f"the images are not kept in {path.parent} ({error.strerror or error}), and are read anew each time.")
