"""Data sets that no client fetches: folders that have to be put into the data folder by hand. Imports no torch."""

from dataclasses import dataclass
from pathlib import Path

from maskbench.common.errors import UsageError


@dataclass(frozen=True)
class Own:
    """A folder below the data folder, the parts that make it complete, and how to get them."""

    folder: str
    parts: tuple[str, ...]
    advice: str


OWN = {
    "imagenet": Own("imagenet", ("train", "val"), "unpack the official archives with torchvision.datasets.ImageNet"),
    "cifar10_c": Own("CIFAR-10-C", ("labels.npy",), "unpack CIFAR-10-C.tar"),
    "cifar100_c": Own("CIFAR-100-C", ("labels.npy",), "unpack CIFAR-100-C.tar"),
}


def fetch(name: str, root: Path) -> str:
    """`folder` if it is complete.

    Raises:
        UsageError: it is not, and how to get it.
    """
    own, folder = OWN[name], Path(root).expanduser() / OWN[name].folder
    if missing := [part for part in own.parts if not (folder / part).exists()]:
        raise UsageError(f"{folder} has no {' and no '.join(missing)}, and no client fetches {name}: {own.advice} there.")
    return "folder"


def status(root: Path) -> list[dict]:
    """Rows like those of sources.status; files are not counted or checked, as there may be a million."""
    return [_row(name, Path(root).expanduser() / own.folder, own) for name, own in OWN.items()]


def _row(name: str, folder: Path, own: Own) -> dict:
    present = all((folder / part).exists() for part in own.parts)
    return {
        "name": name,
        "present": present,
        "source": "folder" if present else None,
        "bytes": 0,
        "folder": str(folder),
        "damaged": [],
    }
