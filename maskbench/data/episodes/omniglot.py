"""Omniglot as its author packs it, in folders or zips, whole or in part: which drawing is of which letter of which alphabet.

The whole set is images_background and images_evaluation; images_background_small1 and _small2 are parts of the first, which
share alphabets. Each part may be a folder or a zip; an alphabet that is in several counts once.
"""

import io
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from maskbench.common.errors import UsageError, did_you_mean

PARTS = ("images_background", "images_evaluation", "images_background_small1", "images_background_small2")
PLACES = ("omniglot-py", "omniglot", "Omniglot", ".")  # below the data folder; the first is torchvision's
ALPHABETS, LETTERS = 50, 1623  # of the whole set


@dataclass(frozen=True, order=True)
class Packed:
    """A file inside a zip, opened as a `Path` is."""

    archive: Path
    name: str

    def open(self, mode: str = "rb") -> BinaryIO:
        return io.BytesIO(_opened(self.archive).read(self.name))

    def __str__(self) -> str:
        return f"{self.archive}/{self.name}"


Drawings = dict[str, list[Path | Packed]]  # alphabet/letter -> its drawings


def letters(folder: Path) -> Drawings:
    """The drawings of every letter in a folder, by `alphabet/letter`; none where the folder holds no part of the set."""
    found: Drawings = {}
    for part in PARTS:
        there = set(map(alphabet, found))
        own = of_folder(folder / part) if (folder / part).is_dir() else of_zip(folder / f"{part}.zip")
        found |= {name: files for name, files in own.items() if alphabet(name) not in there}
    return found


def place(root: Path) -> Path:
    """The folder that holds the set or parts of it, or would have to."""
    folders = [root / name for name in PLACES]
    names = [f"{part}{kind}" for part in PARTS for kind in ("", ".zip")]
    return next((folder for folder in folders if any((folder / name).exists() for name in names)), folders[0])


def alphabets(letters: Iterable[str]) -> list[str]:
    """The alphabets of letters, each once."""
    return list(dict.fromkeys(map(alphabet, letters)))


def status(root: Path) -> list[dict]:
    """A row like those of sources.status; drawings are not read."""
    folder = place(Path(root).expanduser())
    row = {"name": "omniglot", "present": False, "source": None, "bytes": 0, "folder": str(folder), "damaged": []}
    try:
        found = letters(folder)
    except UsageError as error:
        return [row | {"damaged": [str(error)]}]
    if not found:
        return [row]
    names = alphabets(found)
    source = "folder" if len(found) == LETTERS else f"folder, {len(names)} of {ALPHABETS} alphabets"
    facts = {"letters": len(found), "drawings": sum(map(len, found.values())), "alphabets": ", ".join(names)}
    return [row | {"present": True, "source": source, "facts": facts}]


def alphabet(letter: str) -> str:
    """The alphabet of `alphabet/letter`."""
    return letter.rpartition("/")[0]


def of_folder(folder: Path) -> Drawings:
    """A part as a folder: alphabet/letter/*.png."""
    found: Drawings = {}
    for place in sorted(path for path in folder.glob("*/*") if path.is_dir()):
        if files := sorted(path for path in place.iterdir() if path.suffix.lower() == ".png"):
            found[f"{place.parent.name}/{place.name}"] = files
    return found


def of_zip(archive: Path) -> Drawings:
    """A part as a zip; none where there is no such file.

    Raises:
        UsageError: it is no zip.
    """
    if not archive.is_file():
        return {}
    try:
        names = sorted(_opened(archive).namelist(), key=lambda name: PurePosixPath(name).parts)  # as folders are
    except (OSError, zipfile.BadZipFile) as error:
        raise UsageError(f"{archive} is damaged ({error}): replace it.") from None
    found: Drawings = {}
    for name in names:
        path = PurePosixPath(name)
        if path.suffix.lower() == ".png" and len(path.parts) == 4 and path.parts[0] == archive.stem:
            found.setdefault("/".join(path.parts[1:3]), []).append(Packed(archive, name))
    return found


@lru_cache(maxsize=8)
def _opened(archive: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(archive)


# ---- a part of the set


def chosen(wanted: Sequence[str], here: Sequence[str]) -> dict[str, list[str]]:
    """The alphabets of each split, in the order in which `data.alphabets` names them: the last quarter tests, the eighth before
    it validates, at least one each, and the rest trains.

    Raises:
        UsageError: one is not here, stands there twice, or there are fewer than three.
    """
    for name in wanted:
        if name not in here:
            raise UsageError(f"data.alphabets names {name}, and here are {', '.join(here)}.{did_you_mean(str(name), here)}")
    if len(set(wanted)) < len(wanted) or len(wanted) < 3:
        raise UsageError(
            f"data.alphabets={list(wanted)} must be three or more different ones: some train, one validates, one tests."
        )
    test, val = max(1, len(wanted) // 4), max(1, len(wanted) // 8)
    first = len(wanted) - test - val
    return {"train": list(wanted[:first]), "val": list(wanted[first : first + val]), "test": list(wanted[first + val :])}
