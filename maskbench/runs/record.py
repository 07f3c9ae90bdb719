"""The run directory: what was asked, how it went and what came out, in plain JSON, CSV and safetensors.

run.json      what was asked and on what: config, versions, machine, commit, hashes of the code, data checksums, attempts, costs
metrics.csv   the history, one row per number: stage, phase, step, metric, value
result.json   written last and at once; that it exists means the run is finished (without a sound run.json it is done anew)
weights.safetensors, masks.safetensors   the method's final state, and its masks at one bit a weight
.redo/        a finished run done anew: the same files, which take the earlier ones' place once the new result is whole
"""

import json
import math
import os
import shutil
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from maskbench.common import provenance
from maskbench.common.errors import UsageError
from maskbench.common.files import anew, read_json, read_result, replace
from maskbench.report.freshness import modules

REDO = ".redo"


class History:
    """metrics.csv: numbers by stage, phase and step. Holds nothing that differs between two runs of one config."""

    HEAD = "stage,phase,step,metric,value\n"

    def __init__(self, path: Path, write: bool = True) -> None:
        self.path, self.write = path, write
        self.file = None

    def rewind(self, position: int) -> None:
        """Go back to `position` (bytes; 0: the start), dropping what was written after it.

        Raises:
            UsageError: the file holds less than that.
        """
        if not self.write:
            return
        self.close()
        self.file = open(self.path, "a", newline="")
        if self.position < position:
            raise UsageError(f"{self.path} lost rows since the run was interrupted; {anew(self.path.parent / 'state')}")
        self.file.truncate(position)
        self.file.seek(0, os.SEEK_END)  # else the position stays where the file ended before
        if position == 0:
            self.file.write(self.HEAD)

    def add(self, stage: str, phase: str, step: int, values: dict[str, float]) -> None:
        if self.file is not None:
            self.file.writelines(f"{stage},{phase},{step},{name},{value!r}\n" for name, value in values.items())

    @property
    def position(self) -> int:
        return 0 if self.file is None else self.file.tell()

    def flush(self) -> None:
        if self.file is not None:
            self.file.flush()

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None


class Record:
    """One run directory. Create it, `acquire` it, `open` it for an attempt, `finish` or `fail` it, `settle` and `release` it."""

    def __init__(self, folder: Path) -> None:
        self.home = folder
        self.folder = folder  # where this attempt writes: the run directory, or its folder for a redo
        self.lock = FileLock(folder / ".lock", timeout=0.5)  # longer than a look at it takes (report/runs.py, state)
        self.about: dict[str, Any] = {}

    @property
    def result(self) -> dict[str, Any] | None:
        """What result.json says; None while the run is not finished."""
        return read_result(self.home) or None

    def acquire(self) -> None:
        """Keep other processes out of the directory until `release`.

        Raises:
            UsageError: another process is at work in it.
        """
        self.home.mkdir(parents=True, exist_ok=True)
        try:
            self.lock.acquire()
        except Timeout:
            raise UsageError(
                f"{self.home} is being written by another process; wait for it, or change a key or the seed"
            ) from None

    def open(self, about: dict[str, Any], fresh: bool, beside: bool = False) -> None:
        """Start an attempt. `about` is what was asked; `fresh` forgets an earlier attempt's progress; `beside` leaves the result
        that is there until a new one is whole."""
        self.folder = self.home / REDO if beside else self.home
        self.folder.mkdir(exist_ok=True)
        for half in [*self.folder.glob(".*.[0-9]*"), *self.folder.glob("state/.*.[0-9]*")]:
            half.unlink(missing_ok=True)  # what a killed attempt was writing
        if fresh or (self.folder / "result.json").exists():  # one that is still there is of no use, else no attempt would begin
            self.forget()
        before = read_json(self.folder / "run.json")
        attempts = before.get("attempts", []) if not fresh else []
        for attempt in attempts:
            if attempt["status"] == "running":
                attempt["status"] = "interrupted"
        patch = provenance.imported()[1]
        resumed = (self.folder / "state" / "checkpoint.pt").exists()
        attempt = {"started": now(), "status": "running", "code": provenance.code(about, patch), "resumed": resumed}
        self.about = about | {"status": "running", "attempts": [*attempts, attempt]} | codes_before(before, about)
        self.begun = provenance.cost()
        self._write()
        if patch:
            (self.folder / "uncommitted.patch").write_text(patch)

    def add(self, **facts: Any) -> None:
        """Add to run.json what became known on the way (data source, logger)."""
        self.about |= facts
        self._write()

    def finish(self, result: dict[str, Any]) -> None:
        """Close the attempt and write result.json; the resume state is no longer needed and goes. JSON has no word for a number
        that is not finite: it is null there."""
        self._close("finished")
        result = finite(result)
        replace(self.folder / "state.json", lambda path: path.write_text(json.dumps({"status": "finished"})))
        replace(self.folder / "result.json", lambda path: path.write_text(json.dumps(result, indent=1)))
        shutil.rmtree(self.folder / "state", ignore_errors=True)

    def fail(self, status: str) -> None:
        """Close the attempt without a result: `failed` or `interrupted`. What was saved for resuming stays."""
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
        try:
            self.lock.acquire()
        except Timeout:
            return
        try:
            if (redo / "result.json").exists():  # no other process has settled it
                swap(redo, self.home)
        finally:
            if not held:
                self.lock.release()

    def release(self) -> None:
        self.lock.release()

    def _close(self, status: str) -> None:
        self.about["status"] = self.about["attempts"][-1]["status"] = status
        self.about["attempts"][-1] |= {"ended": now(), "cost": provenance.cost(since=self.begun)}
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


def forget(folder: Path) -> None:
    """Remove what a run leaves in its folder, but for run.json and what loggers wrote."""
    names = ["result.json", "state.json", "metrics.csv", "curves.json", "uncommitted.patch"]
    names += [f"{kind}.safetensors" for kind in ("masks", "weights", "ticket")]
    old = [*folder.glob("*.png"), *folder.glob("*.svg"), *folder.glob("state/*")]
    for path in [*(folder / name for name in names), *old]:
        path.unlink(missing_ok=True)


def swap(redo: Path, home: Path) -> None:
    """Let the files of a whole redo take the place of those of the run before; may be killed and called again at any point."""
    (home / "result.json").unlink(missing_ok=True)
    if (redo / "run.json").exists():  # which is the first to move: after that, what lies in home is new
        forget(home)
        os.replace(redo / "run.json", home / "run.json")
    shutil.rmtree(redo / "state", ignore_errors=True)
    for path in sorted(redo.iterdir(), key=lambda path: path.name == "result.json"):
        if path.is_dir() and (home / path.name).exists():
            shutil.rmtree(home / path.name)
        os.replace(path, home / path.name)
    redo.rmdir()


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
