"""What was read of runs, kept beside them so that thousands need not be read again. A cache and no record: it may be deleted at
any time, is done without where it cannot be written or read, and never changes an answer. Imports no torch.

A value is taken from it only while every file it was read from is what it was: inode, length, and the times of change of the
content (mtime) and of anything (ctime, which no program can set), to the nanosecond. Of a file that changed in the last MARGIN
seconds nothing is kept: a second change within one tick of the file system's clock would not show. Values that other code made,
by the files of the rooms that read runs, count for nothing.

The file is SQLite's, one for each user, since what it says is believed: one that somebody else owns is not opened. A process
that is killed while it writes leaves what was there before; one that finds another at work waits for it briefly, then does
without. What is not as it was written (a row by its CRC, a part by its hash) is read from the runs again.
"""

import hashlib
import json
import os
import sqlite3
import stat
import sys
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from maskbench.common.shared import Shared

FEWEST = 200  # values read anew that are worth a file
MARGIN = 2.0  # seconds
PATIENCE = 1.0  # seconds that another process may be at work on the file
ROOMS = (Path(__file__).parent, Path(__file__).parent / "html", Path(__file__).parents[1] / "common")
TABLES = (
    "CREATE TABLE IF NOT EXISTS made (by TEXT)",
    "CREATE TABLE IF NOT EXISTS parts (id INTEGER PRIMARY KEY, content TEXT)",
    "CREATE TABLE IF NOT EXISTS facts (run TEXT, what TEXT, stamp TEXT, sum INTEGER, content TEXT, PRIMARY KEY (run, what))",
)
clock = time.time


def path(output: Path) -> Path:
    """The index of the runs below a folder."""
    return output / f".index-{os.getuid()}.sqlite"


class Index:
    """The index of the runs below `output`, for use inside a `with`, at whose end it is written if that is worth it."""

    def __init__(self, output: Path) -> None:
        self.file = path(output)
        self.connection: sqlite3.Connection | None = None
        self.broken = False
        self.parts: dict[int, Shared] = {}
        self.rows: dict[str, dict[tuple[str, str], tuple[int, str]]] = {}  # what was read at once, and
        self.texts: dict[int, str] = {}  # of parts
        self.new: list[tuple[str, str, str, int, str]] = []
        self.new_parts: dict[int, str] = {}

    def __enter__(self) -> "Index":
        if _ours(self.file):
            self._attempt(self._open)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None and self.worth:
            self._close()
            self._attempt(self._write)
        self._close()

    @property
    def worth(self) -> bool:
        """Whether enough was read anew to write it down."""
        return len(self.new) >= FEWEST

    def value(self, runs: Sequence[Path], what: str, files: Sequence[str], read: Callable[[], Any]) -> Any:
        """What `read` makes of these files of the runs, which is JSON; None, what is of no use, is not kept."""
        if (now := stamp(runs, files)) is None:
            return read()
        name = ",".join("/".join(str(run).rsplit("/", 2)[-2:]) for run in runs)
        if (found := self.recall(name, what, now[0])) is not None:
            return found
        made = read()
        if made is not None and now[1] < clock() - MARGIN and now == stamp(runs, files):
            self.keep(name, what, now[0], made)
        return made

    def recall(self, name: str, what: str, stamped: str) -> Any:
        """What was kept under a name and is still so stamped; else None."""
        if self.connection is None:
            return None
        if what in self.rows:
            row = self.rows[what].get((name, stamped))
        else:
            ask = "SELECT sum, content FROM facts WHERE run = ? AND what = ? AND stamp = ?"
            row = self._attempt(lambda: self.connection.execute(ask, (name, what, stamped)).fetchone())
        try:
            return json.loads(row[1]) if row and zlib.crc32(row[1].encode()) == row[0] else None
        except (ValueError, TypeError, AttributeError, RecursionError):  # nothing that was written here
            return None

    def at_once(self, what: str) -> None:
        """Read all that was kept of a kind, which is quicker than to ask for each of very many."""
        if self.connection is not None:
            ask = "SELECT run, stamp, sum, content FROM facts WHERE what = ?"
            rows = self._attempt(lambda: self.connection.execute(ask, (what,)).fetchall())
            self.rows[what] = {(run, stamped): (number, text) for run, stamped, number, text in rows or ()}
            self.texts = dict(self._attempt(lambda: self.connection.execute("SELECT id, content FROM parts").fetchall()) or ())

    def keep(self, name: str, what: str, stamped: str, value: Any) -> None:
        text = json.dumps(value, separators=(",", ":"))
        self.new.append((name, what, stamped, zlib.crc32(text.encode()), text))

    # ---- mappings that runs have in common: each is kept once, under its hash

    def fold(self, part: Mapping[str, Any]) -> int:
        """The number of a mapping."""
        text = json.dumps(part, separators=(",", ":"))
        number = _number(text)
        self.new_parts[number] = text
        return number

    def unfold(self, number: int) -> Shared:
        """The mapping of a number, one object for all who ask.

        Raises:
            KeyError: it is not here.
        """
        if number not in self.parts:
            if number in self.texts:
                text = self.texts[number]
            else:
                ask = "SELECT content FROM parts WHERE id = ?"
                row = self._attempt(lambda: self.connection.execute(ask, (number,)).fetchone()) if self.connection else None
                text = row[0] if row else None
            if not isinstance(text, str) or _number(text) != number:
                raise KeyError(number)
            self.parts[number] = Shared(json.loads(text))
        return self.parts[number]

    # ---- the file

    def _attempt(self, work: Callable[[], Any]) -> Any:
        """What the work gives; None where the file or its folder does not let it, and then nothing more is asked of it."""
        try:
            return work()
        except (sqlite3.Error, OSError, UnicodeError) as error:
            self.broken = self.broken or not isinstance(error, sqlite3.OperationalError | OSError)
            self._close()
            return None

    def _open(self) -> None:
        self.connection = sqlite3.connect(self.file, timeout=PATIENCE, isolation_level=None)
        if self.connection.execute("SELECT by FROM made").fetchall() != [(code(),)]:
            self._close()

    def _close(self) -> None:
        if self.connection is not None:
            with suppress(sqlite3.Error):
                self.connection.close()
        self.connection = None

    def _write(self) -> None:
        """Add what is new, all or nothing; to a new file where the one that is there cannot be read, or other code made it."""
        if self.broken:
            for one in (self.file.with_name(f"{self.file.name}-journal"), self.file):
                one.unlink(missing_ok=True)
        if not _ours(self.file) and os.path.lexists(self.file):
            return
        self.connection = sqlite3.connect(self.file, timeout=PATIENCE, isolation_level=None)
        run = self.connection.execute
        run("BEGIN IMMEDIATE")
        for table in TABLES:
            run(table)
        if run("SELECT by FROM made").fetchall() != [(code(),)]:
            for table in ("made", "parts", "facts"):
                run(f"DELETE FROM {table}")
            run("INSERT INTO made VALUES (?)", (code(),))
        self.connection.executemany("INSERT OR REPLACE INTO parts VALUES (?, ?)", self.new_parts.items())
        self.connection.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?, ?, ?, ?)", self.new)
        run("COMMIT")


def stamp(runs: Sequence[Path], files: Sequence[str]) -> tuple[str, float] | None:
    """(what a change of one of the files would change, when the last of them was changed in any way); None where that cannot be
    told."""
    words, latest = [], 0
    for path in [f"{run}/{name}" for run in runs for name in files]:
        try:
            about = os.stat(path)
        except FileNotFoundError:
            words.append("-")
            continue
        except (OSError, ValueError):
            return None
        words.append(f"{about.st_ino} {about.st_size} {about.st_mtime_ns} {about.st_ctime_ns}")
        latest = max(latest, about.st_ctime_ns)
    return ",".join(words), latest / 1e9


def code() -> str:
    """The Python and the files of the package whose work the index keeps, by their lengths and times of change."""
    words = [sys.version]
    for room in ROOMS:
        for entry in sorted(os.scandir(room), key=lambda entry: entry.name):
            if entry.name.endswith(".py"):
                about = entry.stat()
                words.append(f"{room.name}/{entry.name} {about.st_ino} {about.st_size} {about.st_mtime_ns} {about.st_ctime_ns}")
    return hashlib.sha256("\n".join(words).encode()).hexdigest()


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1  # SQLite's are signed


def _ours(file: Path) -> bool:
    """Whether it is a regular file of this user's, and no link."""
    try:
        about = file.lstat()
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(about.st_mode) and about.st_uid == os.getuid()
