"""One command line of maskbench in a process of the `script` fixture that keeps, after each step it takes on the file system,
what a power cut would leave: nothing of a file but what was fsynced, and of a folder's names as few as the rules allow.

Three images of each moment, as file systems differ in what they keep beyond that: `lost` has the names of the last fsync of
each folder, `kept` those of the moment, `mixed` for each name one or the other.
"""
# ruff: noqa: F821 - the names it is given

import os
import random
import stat
import sys
from collections.abc import Callable
from pathlib import Path

words: list[str]
folder: Path  # where the command is given
output: Path  # its paths.output, the part of the disk that is watched
images: Path
env: dict[str, str]


class Disk:
    """What of the files and folders below `root` is on the disk, by their inodes."""

    def __init__(self, root: Path) -> None:
        self.root, self.data, self.names, self.held = root, {}, {}, {}
        self.moment, self.draw, self.building = 0, random.Random(0), False
        for name in ("fsync", "replace", "rename", "unlink", "mkdir", "rmdir", "truncate", "ftruncate"):
            setattr(os, name, self.watched(getattr(os, name)))

    def watched(self, step: Callable) -> Callable:
        def act(*args, **options):
            if self.building:
                return step(*args, **options)
            self.hold()
            value = step(*args, **options)
            if step.__name__ == "fsync":
                self.synced(os.fstat(args[0]).st_ino)
            self.hold()
            self.cut()
            return value

        return act

    def hold(self) -> None:
        """Keep each inode open, so that its number names nothing else later."""
        for path in [self.root, *self.root.rglob("*")]:
            number = path.lstat().st_ino
            if number not in self.held:
                self.held[number] = os.open(path, os.O_RDONLY)

    def synced(self, number: int) -> None:
        if number not in self.held:
            return
        file = self.held[number]
        if stat.S_ISDIR(os.fstat(file).st_mode):
            self.names[number] = listing(file)
        else:
            self.data[number] = os.pread(file, os.fstat(file).st_size, 0)

    def cut(self) -> None:
        self.building = True
        for kind in ("lost", "kept", "mixed"):
            self.build(self.root.lstat().st_ino, images / f"{self.moment:04d}-{kind}", kind)
        self.moment, self.building = self.moment + 1, False

    def build(self, number: int, place: Path, kind: str) -> None:
        place.mkdir(parents=True)
        before, now = self.names.get(number, {}), listing(self.held[number])
        for name in sorted({*before, *now}):
            inner = {"lost": before, "kept": now, "mixed": self.draw.choice([before, now])}[kind].get(name)
            if inner is None:
                continue
            if stat.S_ISDIR(os.fstat(self.held[inner]).st_mode):
                self.build(inner, place / name, kind)
            else:
                with open(place / name, "wb") as file:
                    file.write(self.data.get(inner, b""))


def listing(folder: int) -> dict[str, int]:
    """Name -> inode of an open folder; nothing of one that was removed."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.inode() for entry in entries}
    except FileNotFoundError:
        return {}


os.environ.update(env)
os.chdir(folder)
for stream, path in ((1, os.devnull), (2, folder / "stderr")):
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
output.mkdir()
from maskbench.cli.main import main  # noqa: E402 - after the environment

Disk(output)
sys.argv = ["maskbench", *words]
sys.exit(main())
