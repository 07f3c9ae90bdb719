"""Reads the .wandb files of a run directory back: what W&B would show, without an account. Imports no torch.

The W&B package writes these files but has no public reader. A file is a header of 7 bytes (`:W&B` first) and a LevelDB
log: blocks of 32768 bytes hold chunks of (checksum, length, kind, body), a message is one or more chunks, and each
message is a protobuf `Record`. The checksum is zlib's CRC-32 of kind and body; what fails it is skipped up to the next
block.
"""

import json
import struct
import zlib
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from maskbench.common import foreign
from maskbench.common.files import Unusable, content

LONGEST = 512 * foreign.MB  # bytes of a file
BLOCK, HEADER, CHUNK = 32768, 7, 7  # bytes: a block, the file's header, a chunk's header
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4  # kinds of chunk


@dataclass
class WandbRun:
    """One W&B run: of a single attempt, or of all attempts with its id merged in order of time.

    Attributes:
        history: one dict a row, `step` and metrics; where an attempt went back to an earlier step, its rows count.
        summary: last values and what was put in the summary; later attempts win.
        tables: rows of each logged table, [] if its file is gone.
        images: name -> path of each logged image, relative to the run directory.
        artifacts: name -> `type` and `files` (paths inside the artifact) of each artifact that was recorded.
        exit_code: of the last attempt; None while it runs, or when it was killed.
        attempts: how many attempts left a record.
    """

    id: str
    project: str = ""
    entity: str = ""
    group: str = ""
    job_type: str = ""
    name: str = ""
    tags: list[str] = field(default_factory=list)
    notes: str = ""
    commit: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    artifacts: dict[str, dict[str, Any]] = field(default_factory=dict)
    exit_code: int | None = None
    attempts: int = 1
    started: float = 0.0  # seconds since 1970
    resume: bool = False  # whether a server takes the rows for more of a run that it has
    rows: tuple[int, ...] = ()  # W&B's own steps of the first and the last row


def read(run_dir: str | Path) -> WandbRun | None:
    """The newest W&B run below `run_dir`, all its attempts merged; None where there is none to read."""
    attempts: dict[str, list[WandbRun]] = defaultdict(list)
    for path in sorted(Path(run_dir).glob("wandb/*run-*/run-*.wandb")):
        attempt = read_attempt(path, Path(run_dir))
        if attempt is not None:
            attempts[attempt.id].append(attempt)
    if not attempts:
        return None
    return merge(max(attempts.values(), key=lambda group: max(attempt.started for attempt in group)))


def merge(attempts: Iterable[WandbRun]) -> WandbRun:
    """One run out of the attempts at it (at least one)."""
    merged, *later = sorted(attempts, key=lambda attempt: attempt.started)
    for attempt in later:
        merged = replace(
            attempt,
            started=merged.started,
            attempts=merged.attempts + attempt.attempts,
            rows=(*merged.rows[:1], *attempt.rows[-1:]),
            history=_continue(merged.history, attempt.history),
            **{name: getattr(merged, name) | getattr(attempt, name) for name in _BY_NAME},
        )
    return merged


_BY_NAME = ("config", "summary", "tables", "images", "artifacts")


def _continue(before: list[dict], after: list[dict]) -> list[dict]:
    """History of an attempt that took up an earlier one: the steps it did again replace those done before."""
    first = min((row["step"] for row in after if "step" in row), default=float("inf"))
    return [row for row in before if row.get("step", -1) < first] + after


def read_attempt(path: Path, run_dir: Path) -> WandbRun | None:
    """What one .wandb file says, as far as it can be read; None when it stops before naming its run."""
    from google.protobuf.message import DecodeError
    from wandb.proto import wandb_internal_pb2 as proto

    run = None
    for message in messages(content(path, LONGEST) or b""):
        try:
            record = proto.Record.FromString(message)
        except DecodeError:
            continue
        kind = record.WhichOneof("record_type")
        if kind == "run" and run is None:
            run = _open(record.run)
        elif run is not None and kind in _TAKE:
            _TAKE[kind](run, getattr(record, kind))
    if run is not None:
        _gather_media(run, path.parent, run_dir)
    return run


def next_row(run_dir: str | Path, run_id: str) -> int:
    """W&B's own step of the first row that another attempt at a run adds: behind the rows of all its earlier files, as a server
    drops rows at steps it has."""
    paths = sorted(Path(run_dir).glob(f"wandb/*run-*/run-{run_id}.wandb"))
    attempts = [attempt for path in paths if (attempt := read_attempt(path, Path(run_dir))) is not None]
    return max((last + 1 for attempt in attempts for last in attempt.rows[1:]), default=0)


def finished(path: Path) -> bool:
    """Whether the file holds the exit record of its run, one of its last."""
    from wandb.proto import wandb_internal_pb2 as proto

    last = deque(messages(path.read_bytes()), maxlen=4)
    return any(proto.Record.FromString(message).HasField("exit") for message in last)


# ---- the container


def messages(data: bytes) -> Iterator[bytes]:
    """Whole messages of a .wandb file, in order; a torn or damaged one is left out."""
    if not data.startswith(b":W&B"):
        return
    at, parts = HEADER, None
    while at + CHUNK <= len(data):
        left = BLOCK - at % BLOCK
        checksum, size, kind = struct.unpack_from("<IHB", data, at) if left >= CHUNK else (0, 0, 0)
        body = data[at + CHUNK : at + CHUNK + size]
        # zeros fill the end of a block: kind 0
        if not FULL <= kind <= LAST or size > left - CHUNK or zlib.crc32(bytes([kind]) + body) != checksum:
            at, parts = at + left, (parts if left < CHUNK else None)
            continue
        at += CHUNK + size
        if kind in (FULL, FIRST):
            parts = []
        if parts is None:  # the rest of a message whose start is lost
            continue
        parts.append(body)
        if kind in (FULL, LAST):
            yield b"".join(parts)
            parts = None


# ---- the records


def _open(record: Any) -> WandbRun:
    run = WandbRun(
        id=record.run_id,
        project=record.project,
        entity=record.entity,
        group=record.run_group,
        job_type=record.job_type,
        name=record.display_name,
        tags=list(record.tags),
        notes=record.notes,
        commit=record.git.commit or None,
        resume=record.resume,
        started=record.start_time.seconds + record.start_time.nanos * 1e-9,
    )
    _take_config(run, record.config)
    return run


def _take_config(run: WandbRun, record: Any) -> None:
    _assign(run.config, record.update)
    for item in record.remove:
        run.config.pop(item.key or item.nested_key[0], None)


def _take_summary(run: WandbRun, record: Any) -> None:
    _assign(run.summary, record.update)
    for item in record.remove:
        run.summary.pop(item.key or item.nested_key[0], None)


def _take_history(run: WandbRun, record: Any) -> None:
    row: dict[str, Any] = {}
    steps = [int(item.value_json) for item in record.item if (list(item.nested_key) or [item.key]) == ["_step"]]
    steps = steps or ([record.step.num] if record.HasField("step") else [])
    run.rows = (run.rows or tuple(steps[:1] * 2))[:1] + tuple(steps[-1:]) if steps else run.rows
    _assign(row, record.item)
    run.history.append(row)


def _take_artifact(run: WandbRun, record: Any) -> None:
    if record.type != "run_table":  # W&B's own copy of a logged table
        files = [entry.path for entry in record.manifest.contents]
        run.artifacts[record.name] = {"type": record.type, "files": files}


def _take_exit(run: WandbRun, record: Any) -> None:
    run.exit_code = record.exit_code


_TAKE = {
    "config": _take_config,
    "summary": _take_summary,
    "history": _take_history,
    "artifact": _take_artifact,
    "exit": _take_exit,
}


def _assign(tree: dict[str, Any], items: Iterable[Any]) -> None:
    """Put each item's JSON value where its key or path of keys says; W&B's own bookkeeping starts with `_`."""
    for item in items:
        *path, last = list(item.nested_key) or [item.key]
        if (path[0] if path else last).startswith("_"):
            continue
        node = tree
        for word in path:
            if not isinstance(node.get(word), dict):
                node[word] = {}
            node = node[word]
        node[last] = json.loads(item.value_json)


# ---- tables and images: the record names a file beside it


def _gather_media(run: WandbRun, folder: Path, run_dir: Path) -> None:
    """Move references to files out of history and summary into `tables` and `images`; drop rows left with no metric."""
    kept = []
    for row in (*run.history, run.summary):
        media = {name: value for name, value in row.items() if isinstance(value, dict) and "_type" in value}
        for name, value in media.items():
            del row[name]
            path = folder / "files" / value.get("path", "")
            if value["_type"] == "table-file":
                run.tables[name] = _table(path)
            elif value["_type"] == "image-file":
                run.images[name] = path.relative_to(run_dir).as_posix()
        if row is not run.summary and not (media and set(row) <= {"step"}):
            kept.append(row)
    run.history = kept


def _table(path: Path) -> list[dict[str, Any]]:
    """Its rows; none where its file is gone, or of no use, which is said."""
    try:
        table = foreign.parse(content(path) or b'{"columns": [], "data": []}')
        return [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    except (Unusable, ValueError, KeyError, TypeError) as error:
        foreign.skip(path, error)
        return []
