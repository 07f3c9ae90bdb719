"""The run directory: what was asked, how it went and what came out, in plain JSON, CSV and safetensors.

run.json      what was asked and on what: config, versions, machine, commit, hashes of the code, data checksums, attempts, costs
metrics.csv   the history, one row per number: stage, phase, step, metric, value
files.json    SHA-256 of every file of a finished run, of result.json too
result.json   written last and at once; that it exists means the run is finished (without a run.json it is done anew)
weights.safetensors, masks.safetensors   the method's final state, and its masks at one bit a weight
.redo/        a finished run done anew: the same files, which take the earlier ones' place once the new result is whole
"""

import errno
import hashlib
import json
import logging
import math
import os
import platform
import shutil
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from maskbench.common import checksums, provenance
from maskbench.common.checksums import read_result
from maskbench.common.errors import UsageError
from maskbench.common.files import anew, content, glance, make_folder, read_json, replace, sync
from maskbench.report import remarks
from maskbench.report.freshness import modules

REDO = ".redo"
PATIENCE = 1.0  # seconds between two tries to get a run that is in other hands

log = logging.getLogger("maskbench")


class History:
    """metrics.csv: numbers by stage, phase and step. Holds nothing that differs between two runs of one config.

    Rows wait in memory until `flush`, so that a full disk is met where it can be borne.
    """

    HEAD = b"stage,phase,step,metric,value\n"

    def __init__(self, path: Path, write: bool = True) -> None:
        self.path, self.write = path, write
        self.file: FileIO | None = None
        self.waiting = bytearray()  # rows that are not in the file yet
        self.position = 0  # bytes, with those that wait
        self.sha = hashlib.sha256()  # of them

    def rewind(self, position: int, sha256: str | None = None) -> None:
        """Go back to `position` (bytes; 0: the start), dropping what was written after it.

        Raises:
            UsageError: the file holds less than that, or not what it held then (`sha256`).
        """
        if not self.write:
            return
        self.close()
        kept = b""
        if position:
            kept = (content(self.path, most=None) or b"")[:position]
            changed = sha256 is not None and hashlib.sha256(kept).hexdigest() != sha256
            if len(kept) < position or changed:
                lost = "is damaged" if len(kept) == position else "lost rows since the run was interrupted"
                raise UsageError(f"{self.path} {lost}; {anew(self.path.parent / 'state')}")
        self.waiting.clear()
        self.file = open(self.path, "ab", buffering=0)
        self.file.truncate(position)
        self.position, self.sha = position, hashlib.sha256(kept)
        if position == 0:
            self._put(self.HEAD)
        sync(self.path.parent)

    def add(self, stage: str, phase: str, step: int, values: dict[str, float]) -> None:
        if self.file is not None:
            rows = (f"{stage},{phase},{step},{name},{value!r}\n" for name, value in values.items())
            self._put("".join(rows).encode())

    @property
    def sha256(self) -> str:
        return self.sha.hexdigest()

    def flush(self) -> None:
        """Bring the rows to the disk; after an error those that did not get there wait on."""
        if self.file is None:
            return
        number = self.file.fileno()
        while self.waiting:
            del self.waiting[: os.write(number, self.waiting)]
        os.fsync(number)

    def close(self) -> None:
        if self.file is not None:
            try:
                self.flush()
            finally:
                self.file.close()
                self.file = None

    def _put(self, rows: bytes) -> None:
        self.waiting += rows
        self.position += len(rows)
        self.sha.update(rows)


class Busy(UsageError):
    """A run directory is in the hands of another process."""


class Record:
    """One run directory. Create it, `acquire` it, `open` it for an attempt, `finish` or `fail` it, `settle` and `release` it."""

    def __init__(self, folder: Path) -> None:
        self.home = folder
        self.folder = folder  # where this attempt writes: the run directory, or its folder for a redo
        self.lock = FileLock(folder / ".lock", timeout=0.5)  # longer than a look at it takes (report/runs.py, state)
        self.about: dict[str, Any] = {}
        self.elsewhere = 0.0  # CPU seconds of this attempt in another process

    @property
    def result(self) -> dict[str, Any] | None:
        """What result.json says; None while the run is not finished.

        Raises:
            Unusable: result.json or run.json is there and cannot be read, or is damaged.
        """
        return read_result(self.home) or None

    def acquire(self, wait: bool = True) -> None:
        """Keep other processes out of the directory until `release`; waits for one that is at work in it.

        Raises:
            Busy: another process is, and nobody waits for it.
            UsageError: the file system has no locks.
        """
        make_folder(self.home)
        told = False
        while not self._lock():
            text = f"{self.home} is being written by {holder(self.home)}"
            if not wait:
                raise Busy(text)
            if not told:
                log.warning("%s: waiting for it (another seed or key would not have to)", text)
            told = True
            time.sleep(PATIENCE)

    def open(self, about: dict[str, Any], fresh: bool, beside: bool = False) -> None:
        """Start an attempt. `about` is what was asked; `fresh` forgets an earlier attempt's progress; `beside` leaves the result
        that is there until a new one is whole. A result that is there and of no use is moved aside."""
        self.folder = self.home / REDO if beside else self.home
        make_folder(self.folder)
        for half in [*self.folder.glob(".*.[0-9]*"), *self.folder.glob("state/.*.[0-9]*")]:
            half.unlink(missing_ok=True)  # what a killed attempt was writing
        if fresh or (self.folder / "result.json").exists():  # one that is still there is of no use, else no attempt would begin
            move_aside(self.folder / "result.json")
            self.forget()
        before = (glance if fresh else read_json)(self.folder / "run.json")
        attempts = [] if fresh else before.get("attempts", [])
        for attempt in attempts:
            if attempt["status"] == "running":
                attempt["status"] = "interrupted"
        patch = provenance.imported()[1]
        resumed = (self.folder / "state" / "checkpoint.pt").exists()
        attempt = {"started": now(), "status": "running", "code": provenance.code(about, patch), "resumed": resumed}
        attempt |= {"process": f"process {os.getpid()} on {platform.node() or 'an unnamed machine'}"}
        data = {"data": before["data"]} if resumed and "data" in before else {}
        self.about = data | about | {"status": "running", "attempts": [*attempts, attempt]} | codes_before(before, about)
        self.begun = provenance.cost()
        if patch:
            replace(self.folder / "uncommitted.patch", lambda path: path.write_text(patch))
        self._write()

    def learns(self, data: dict[str, Any]) -> None:
        """Say in run.json which data this is.

        Raises:
            UsageError: an earlier attempt, which this one takes up, learnt from other data.
        """
        before = self.about.get("data") or {}
        if before.get("fingerprints", data["fingerprints"]) != data["fingerprints"]:
            raise UsageError(
                f"{self.home} was interrupted while it learnt from other data (source: {before.get('source')}; here: "
                f"{data['source']}): put those back, or start it anew with force=true."
            )
        self.add(data=data)

    def add(self, **facts: Any) -> None:
        """Add to run.json what became known on the way (data source, logger)."""
        self.about |= facts
        self._write()

    def finish(self, result: dict[str, Any]) -> None:
        """Close the attempt, list all files with their SHA-256 and write result.json last, when all it stands for is on the
        disk; then the resume state is no longer needed and goes. JSON has no word for a number that is not finite: it is null
        there."""
        self._close("finished")
        text = json.dumps(finite(result), indent=1).encode()
        replace(self.folder / "state.json", lambda path: path.write_text(json.dumps({"status": "finished"})))
        checksums.write(self.folder, text)
        replace(self.folder / "result.json", lambda path: path.write_bytes(text))
        shutil.rmtree(self.folder / "state", ignore_errors=True)

    def fail(self, status: str) -> None:
        """Close the attempt without a result: `failed` or `interrupted`. What was saved for resuming stays; so does the record
        of an attempt that was interrupted after its result was written."""
        if not (self.folder / "result.json").exists():
            self._close(status)

    def forget(self) -> None:
        """Remove results and resume state of earlier attempts."""
        forget(self.folder)

    def settle(self) -> None:
        """Put a redo whose result is whole in the place of the earlier one; goes on where it was killed. Nothing is done while
        another process is at work here.

        The earlier result.json goes first and the new one comes last, so that nobody reads one with files of the other.
        """
        redo = self.home / REDO
        if not (redo / "result.json").exists() or redo.is_symlink() or self.home.joinpath(".lock").is_symlink():
            return  # we make no links: one that is there leads to files of something else
        held = self.lock.is_locked
        if not self._lock():
            return
        try:
            if (redo / "result.json").exists():  # no other process has settled it
                swap(redo, self.home)
        finally:
            if not held:
                self.lock.release()

    def release(self) -> None:
        self.lock.release()

    def _lock(self) -> bool:
        """Whether the directory is ours now.

        Raises:
            UsageError: the file system has no locks.
        """
        try:
            self.lock.acquire()
        except Timeout:
            return False
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
                raise
            raise UsageError(
                f"the file system of {self.home} gives no locks ({(error.strerror or str(error)).lower()}), which keep two "
                "processes from writing one run; choose a folder on another one (paths.output=)"
            ) from error
        return True

    def _close(self, status: str) -> None:
        self.about["status"] = self.about["attempts"][-1]["status"] = status
        cost = provenance.cost(since=self.begun)
        cost["cpu_seconds"] += self.elsewhere
        self.about["attempts"][-1] |= {"ended": now(), "cost": cost}
        self.about["cost"] = total(attempt["cost"] for attempt in self.about["attempts"] if "cost" in attempt)
        self._write()

    def _write(self) -> None:
        replace(self.folder / "run.json", lambda path: path.write_text(json.dumps(self.about, indent=1)))


def codes_before(before: dict[str, Any], about: dict[str, Any]) -> dict[str, Any]:
    """What an attempt keeps of the code of earlier ones, where it was other code: hash -> modules."""
    earlier, code = dict(before.get("earlier_codes") or {}), before.get("code")
    if modules(before) and code != about.get("code"):
        earlier[code["closure"]] = code["modules"]
    return {"earlier_codes": earlier} if earlier else {}


def holder(home: Path) -> str:
    """Who is at work in a run directory, as its record says."""
    records = [glance(folder / "run.json") for folder in (home / REDO, home)]
    attempts = [attempt for record in records for attempt in record.get("attempts") or []]
    names = [one["process"] for one in attempts if one.get("status") == "running" and one.get("process")]
    return f"another process ({names[0]})" if names else "another process"


def move_aside(path: Path) -> None:
    """Give a file that is of no use another name, under which nothing reads it."""
    if path.exists():
        os.replace(path, path.with_name(f"{path.name}.aside"))
        sync(path.parent)


def forget(folder: Path) -> None:
    """Remove what a run leaves in its folder, but for run.json and what loggers wrote; its result first, and for good before
    anything new is written."""
    (folder / "result.json").unlink(missing_ok=True)
    sync(folder)
    names = [checksums.NAME, "state.json", "metrics.csv", "curves.json", "uncommitted.patch"]
    names += [f"{kind}.safetensors" for kind in ("masks", "weights", "ticket")]
    old = [*folder.glob("*.png"), *folder.glob("*.svg"), *folder.glob("state/*")]
    for path in [*(folder / name for name in names), *old]:
        path.unlink(missing_ok=True)
    for place in (folder / "state", folder):
        if place.is_dir():
            sync(place)


def swap(redo: Path, home: Path) -> None:
    """Let the files of a whole redo take the place of those of the run before; may be killed and called again at any point."""
    (home / "result.json").unlink(missing_ok=True)
    sync(home)
    if (redo / "run.json").exists():  # which is the first to move: after that, what lies in home is new
        forget(home)
        os.replace(redo / "run.json", home / "run.json")
        sync(home)
    shutil.rmtree(redo / "state", ignore_errors=True)
    for path in [path for path in redo.iterdir() if path.name != "result.json"]:
        if path.is_dir() and (home / path.name).exists():
            shutil.rmtree(home / path.name)
        os.replace(path, home / path.name)
    sync(home)  # all that the result stands for, before the result
    os.replace(redo / "result.json", home / "result.json")
    sync(home)
    checksums.renew(home, remarks.files(home))  # what people said of the run stays
    shutil.rmtree(redo)


def finite(value: Any) -> Any:
    """The same containers with None in the place of floats that are not finite."""
    if isinstance(value, dict):
        return {name: finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def total(costs: Iterable[dict[str, float]]) -> dict[str, float]:
    """Seconds add up over attempts; peak memory is the largest."""
    costs = list(costs)
    return {name: (max if name.startswith("peak") else sum)(cost[name] for cost in costs) for name in costs[0]}


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
