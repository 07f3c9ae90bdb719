"""Where in the data folder a copy of an image set lies: images in a folder for each class, or numpy's npz. No torch.

A copy lies in one of the set's places below the data folder, or is the data folder itself: train/CLASS/*.png and
test/CLASS/*.png; train.npz and test.npz with x [rows, height, width, channels] and y [rows]; or NAME.npz with x_train,
y_train, x_test and y_test.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from maskbench.common.errors import UsageError
from maskbench.data.sources.content import Facts, spelt
from maskbench.data.sources.sets import Spec

IMAGES, NPZ = "images by class", "npz"
PARTS = {"train": ("train",), "test": ("test", "val")}  # part -> what its folder may be called
KINDS = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm"}


class File(NamedTuple):
    """A file of one image: its label, where it is, and what changes with its content."""

    label: int
    path: str
    state: tuple[int, ...]


@dataclass(frozen=True)
class Place:
    """Where a copy lies: the folder to name, and its files of each part."""

    folder: Path
    container: str
    files: Mapping[str, list[File]]


def locate(spec: Spec, root: Path) -> Place | None:
    """The first place that holds a copy.

    Raises:
        UsageError: one holds half a copy, or classes that are not the set's.
    """
    if spec.copies is None:
        return None
    for name in (*spec.copies.places, "."):
        folder = root / name
        own = name != "."
        if folder.is_dir() and (place := by_class(spec.copies, folder, own) or arrays_in(spec, folder, own)):
            return place
    return None


def by_class(facts: Facts, folder: Path, own: bool) -> Place | None:
    """A copy as images by class. The data folder itself, which is not the set's `own`, must have its very classes."""
    found = {part: next((folder / name for name in names if (folder / name).is_dir()), None) for part, names in PARTS.items()}
    classes = {part: {entry.name for entry in subfolders(place)} if place else set() for part, place in found.items()}
    known = {part: {facts.labels[spelt(name)] for name in names if spelt(name) in facts.labels}
             for part, names in classes.items()}  # fmt: skip
    if not own and not all(len(known[part]) == len(classes[part]) == len(facts.classes) for part in PARTS):
        return None
    if not any(known.values()) or (all(classes.values()) and not classes["train"] & classes["test"]):
        return None  # folders of other things, such as few-shot splits, whose classes differ
    for part, names in classes.items():
        if not names:
            raise UsageError(
                f"{folder} has images of {facts.title} by class for {' and '.join(p for p in classes if p != part)} and none for "
                f"{part}: put them into {folder / part}/CLASS."
            )
        if strange := sorted(name for name in names if spelt(name) not in facts.labels):
            raise UsageError(
                f"{found[part]} has a folder {strange[0]}, which is no class of {facts.title}: name its folders "
                f"{', '.join(facts.classes[:3])} and so on, and take others away."
            )
    return Place(folder, IMAGES, {part: files_in(facts, place) for part, place in found.items()})


def subfolders(folder: Path) -> list[os.DirEntry]:
    """The folders in a folder, hidden ones left out, by name."""
    with os.scandir(folder) as entries:
        return sorted((e for e in entries if e.is_dir() and not e.name.startswith(".")), key=lambda entry: entry.name)


def files_in(facts: Facts, folder: Path) -> list[File]:
    """The image files of a part, by class and name."""
    files = []
    for below in subfolders(folder):
        label = facts.labels[spelt(below.name)]
        with os.scandir(below.path) as entries:
            for entry in entries:
                if os.path.splitext(entry.name)[1].lower() in KINDS and not entry.name.startswith("."):
                    files.append(File(label, entry.path, state(entry.stat())))
    return sorted(files, key=lambda file: (file.label, file.path))


def state(about: os.stat_result) -> tuple[int, ...]:
    """What changes with a file's content: its size, and the times and the inode, which no program sets back unnoticed."""
    return about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino


def arrays_in(spec: Spec, folder: Path, own: bool) -> Place | None:
    """A copy as npz: a file for each part, or one. In the data folder itself only one that has the set's name."""
    pairs = [{part: folder / f"{part}.npz" for part in PARTS}] if own else []
    whole = [dict.fromkeys(PARTS, folder / f"{name}.npz") for name in dict.fromkeys((spec.name, *spec.copies.places))]
    for files in pairs + whole:
        if all(file.is_file() for file in files.values()):
            return Place(folder, NPZ, {part: [File(-1, str(file), state(file.stat()))] for part, file in files.items()})
        if any(file.is_file() for file in files.values()):
            missing = next(file for file in files.values() if not file.is_file())
            raise UsageError(f"{folder} has no {missing.name} beside its other part of {spec.title}: put it there.")
    return None
