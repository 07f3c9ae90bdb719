"""What people say of a run: tags and a text given with its command, and notes added later, each in a file of its own.

The notes lie in RUN/notes/, and a finished run lists each among its files. Imports no torch.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskbench.common import checksums
from maskbench.common.files import Unusable, make_folder, read_json, replace

FOLDER = "notes"
FILE = re.compile(r"\d{4,9}\.json")


class Tags(list):
    """Words that mark a run, written as `a, b`."""

    def __str__(self) -> str:
        return ", ".join(self)


@dataclass(frozen=True)
class Note:
    """A text and tags that were added to a run, and when."""

    at: str
    text: str
    tags: tuple[str, ...] = ()


def words(value: Any) -> list[str]:
    """Tags of a config or a record: one word, or a list of them; none where it is null."""
    if value is None:
        return []
    return [str(value)] if isinstance(value, str) or not isinstance(value, Iterable) else [str(one) for one in value]


def files(run: Path) -> list[Path]:
    """The files of the notes that were added to a run, oldest first."""
    folder = run / FOLDER
    if not os.path.isdir(folder):  # as of most
        return []
    return sorted((path for path in folder.glob("*.json") if FILE.fullmatch(path.name)), key=lambda path: int(path.stem))


def read(run: Path) -> list[Note]:
    """The notes that were added to a run; a file that is none of them is passed over."""
    found = []
    for path in files(run):
        try:
            checksums.check(run, path.relative_to(run).as_posix())
            about = read_json(path)
        except Unusable:
            continue
        if told(about):
            found.append(Note(about["at"], about["text"], tuple(about["tags"])))
    return found


def told(about: Mapping[str, Any]) -> bool:
    tags = about.get("tags")
    return all(isinstance(about.get(name), str) for name in ("at", "text")) and (
        isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)
    )


def add(run: Path, note: Note) -> Path:
    """Add a note to a run whose lock is held. What was there before stays as it is, whenever this is stopped: the note is whole
    before the list of a finished run's files names it."""
    numbers = [int(path.stem) for path in files(run)]
    path = run / FOLDER / f"{max(numbers, default=0) + 1:04d}.json"
    make_folder(path.parent)
    text = json.dumps({"at": note.at, "text": note.text, "tags": list(note.tags)}, indent=1)
    replace(path, lambda temporary: temporary.write_text(text))
    checksums.renew(run, [path])
    return path
