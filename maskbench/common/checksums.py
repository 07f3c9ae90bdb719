"""SHA-256 of what a run leaves: files.json lists every file of a finished run, and what a run resumes from carries its own.

A run of before that has no files.json is "not recorded", which is no fault. Imports no torch.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from maskbench.common.files import Damaged, content, read_json, replace, sync

NAME = "files.json"
MAGIC = b"maskbench sha256 "  # then 64 hex digits and a line end, then what they are of
HEAD = len(MAGIC) + 65
# what later commands write again (Hydra's copy of the config, logs), and what others than this run do
PASSED_OVER = {NAME, ".lock", ".hydra", ".redo", "state", "result.json"}
WANDB = {"data", "cache", "logs", "tmp"}  # scratch folders of W&B
CHUNK = 2**20  # bytes read at a time


# ---- the files of a finished run


def write(run: Path, result: bytes) -> None:
    """List the files that lie in the run directory now, and `result`, which result.json will hold; all of them are on the disk
    before the list is."""
    listed = {path.relative_to(run).as_posix(): entry(path) for path in files(run)}
    for folder in {path.parent for path in files(run)}:
        sync(folder)
    listed["result.json"] = {"bytes": len(result), "sha256": hashlib.sha256(result).hexdigest()}
    put(run, listed)


def renew(run: Path, paths: Iterable[Path]) -> None:
    """Take up files that were written into a finished run later, such as figures drawn anew; nothing where none are recorded."""
    if listed := recorded(run):
        put(run, listed | {path.relative_to(run).as_posix(): entry(path) for path in paths})


def put(run: Path, listed: dict[str, Any]) -> None:
    about = {"files": listed, "sha256": of_list(listed)}
    replace(run / NAME, lambda path: path.write_text(json.dumps(about, indent=1)))


def entry(path: Path) -> dict[str, Any]:
    """What is recorded of a file, once its data are on the disk."""
    sync(path)
    return {"bytes": (size := path.stat().st_size), "sha256": digest(path, size)}


def files(run: Path) -> Iterator[Path]:
    """The files of a run directory that stay as they are once it is finished."""
    for path in sorted(run.rglob("*")):
        parts = path.relative_to(run).parts
        theirs = parts[0] == "wandb" and (WANDB & set(parts) or not (path.suffix == ".wandb" or "media" in parts))
        ours = not (parts[0] in PASSED_OVER or path.suffix == ".log" or path.name.startswith(".") or theirs)
        if ours and path.is_file() and not path.is_symlink():
            yield path


def digest(path: Path, size: int) -> str:
    """SHA-256 of the first `size` bytes."""
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        while size > 0 and (chunk := file.read(min(CHUNK, size))):
            sha.update(chunk)
            size -= len(chunk)
    return sha.hexdigest()


def of_list(listed: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest()


def recorded(run: Path) -> dict[str, Any]:
    """name -> bytes, sha256 of the files of a finished run; empty where they were not recorded.

    Raises:
        Unreadable, Damaged: the list itself is of no use.
    """
    about = read_json(run / NAME)
    listed = about.get("files")
    if about and not (isinstance(listed, dict) and about.get("sha256") == of_list(listed)):
        raise Damaged(f"{run / NAME} is damaged: it is not the list that was written")
    return listed or {}


def fault(run: Path, name: str, one: dict[str, Any]) -> str:
    """What is wrong with a file of a run beside what was recorded of it, in a sentence; empty when nothing is."""
    path, size = run / name, one["bytes"]
    try:
        there = path.stat().st_size
        grown = there > size and path.suffix != ".wandb"  # W&B's process may write its last words after the run's end
        sound = not grown and digest(path, size) == one["sha256"]
    except FileNotFoundError:
        return f"{path} is missing"
    except OSError as error:
        return f"{path} cannot be read ({(error.strerror or str(error)).lower()})"
    return "" if sound else f"{path} is damaged: its content is not what the run wrote (SHA-256)"


def check(run: Path, *names: str) -> None:
    """Hold files of a finished run to their SHA-256.

    Raises:
        Damaged: one of these files is not as the finished run wrote it.
    """
    listed = recorded(run)
    for name in names:
        if name in listed and (text := fault(run, name, listed[name])):
            raise Damaged(text)


def read_result(run: Path) -> dict[str, Any]:
    """result.json of a run directory; empty while the run is not finished, and where no run.json says what it answers.

    Raises:
        Unreadable: result.json or run.json may be there, and cannot be read.
        Damaged: one of them is not what was written.
    """
    about, result = read_json(run / "run.json"), read_json(run / "result.json")
    if not (about and result):
        return {}
    check(run, "run.json", "result.json")
    return result


# ---- what a run resumes from: files that carry their own


def seal(inner: bytes) -> bytes:
    """`inner` behind a line that holds its SHA-256."""
    return MAGIC + hashlib.sha256(inner).hexdigest().encode() + b"\n" + inner


def unseal(path: Path) -> bytes:
    """What was sealed in `path`; the whole of an older file, which has no such line.

    Raises:
        Unreadable: the file may be there, and cannot be read.
        Damaged: it is missing, or not what was written.
    """
    whole = content(path, most=None)
    if whole is None:
        raise Damaged(f"{path} is missing")
    if not whole.startswith(MAGIC):
        return whole
    if hashlib.sha256(whole[HEAD:]).hexdigest().encode() + b"\n" != whole[len(MAGIC) : HEAD]:
        raise Damaged(f"{path} is damaged: its content is not what was written (SHA-256)")
    return whole[HEAD:]
