"""A data folder on disk: files checked against their MD5, written under a temporary name, one run at a time. No torch."""

import contextlib
import errno
import gzip
import hashlib
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from filelock import FileLock, Timeout

from maskbench.common.errors import UsageError

LOCK_SECONDS = 1800  # for another run to finish fetching
OURS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)  # errors of our disk, not of a source


class Named(Protocol):
    """A data set: `name` for files, `title` for people, and how many megabytes are needed to fetch it."""

    name: str
    title: str
    megabytes: int


class Held(NamedTuple):
    """What a folder holds: content of the good files, and what is wrong with the bad ones in words, by file name."""

    good: dict[str, bytes]
    bad: dict[str, str]


def read(folder: Path, checksums: dict[str, str]) -> Held:
    """Read each file, plain or ending in .gz, and check the MD5 of its uncompressed content."""
    held = Held({}, {})
    for file, expected in checksums.items():
        for path in (folder / file, folder / f"{file}.gz"):
            if not path.is_file():
                continue
            try:
                content = path.read_bytes()
                content = gzip.decompress(content) if path.suffix == ".gz" else content
                actual = md5(content)
            except (EOFError, gzip.BadGzipFile, zlib.error):
                content, actual = b"", "of a broken gzip file"
            if actual == expected:
                held.good[file] = content
                held.bad.pop(file, None)
                break
            held.bad[file] = f"{path} is damaged (MD5 {actual}, expected {expected})"
    return held


def install(files: dict[str, bytes], kind: str, folder: Path, work: Path) -> None:
    """Write files in `work`, then rename them into `folder`, with a note of where they came from."""
    folder.mkdir(parents=True, exist_ok=True)
    note = json.dumps(notes(folder) | dict.fromkeys(files, kind), indent=2) + "\n"
    for file, content in {"SOURCE.json": note.encode(), **files}.items():
        part = work / f"{file}.part"
        part.write_bytes(content)
        os.replace(part, folder / file)


def notes(folder: Path) -> dict[str, str]:
    """Which source each file was fetched from; files a user put there are not named."""
    try:
        content = json.loads((folder / "SOURCE.json").read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


@contextlib.contextmanager
def usable(spec: Named, root: Path) -> Iterator[None]:
    """Turn a full disk or a folder that cannot be written into one sentence."""
    try:
        yield
    except OSError as error:
        where = f" at {error.filename}" if error.filename else ""
        raise UsageError(
            f"The data folder {root} cannot be used for {spec.title} ({error.strerror or error}{where}): make it "
            f"writable with {spec.megabytes} MB of free space, or name another with paths.data=FOLDER."
        ) from error


@contextlib.contextmanager
def locked(spec: Named, root: Path) -> Iterator[None]:
    """Only one run at a time fetches a data set; what a killed run left half done is swept away."""
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / f".{spec.name}.lock", timeout=LOCK_SECONDS)
    try:
        lock.acquire()
    except Timeout:
        raise UsageError(
            f"Another run has been fetching {spec.title} for half an hour: wait for it, or end it and start again "
            f"(the lock is {lock.lock_file})."
        ) from None
    try:
        for left in root.glob(f".{spec.name}-*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def workplace(spec: Named, root: Path) -> Iterator[Path]:
    """A temporary folder on the disk of the final one, so that renaming is atomic."""
    with tempfile.TemporaryDirectory(prefix=f".{spec.name}-", dir=root, ignore_cleanup_errors=True) as work:
        yield Path(work)


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
