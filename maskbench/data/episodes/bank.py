"""Images by class, from which episodes are drawn: N classes, K support and Q query images of each. And synthetic ones."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from maskbench.common.errors import UsageError
from maskbench.data.episodes.stages import Episodes


@dataclass(frozen=True, eq=False)
class Bank:
    """The images that episodes are drawn from, class after class.

    Attributes:
        images: uint8 [rows, channels, height, width].
        counts: images of each class, [classes].
        names: of the classes.
    """

    images: Tensor
    counts: np.ndarray
    names: tuple[str, ...]

    @cached_property
    def starts(self) -> np.ndarray:
        return np.cumsum(self.counts) - self.counts

    @cached_property
    def md5(self) -> str:
        content = self.images.numpy().tobytes() + self.counts.astype(np.int64).tobytes()
        return hashlib.md5(content, usedforsecurity=False).hexdigest()

    def rotated(self) -> "Bank":
        """With the quarter turns of each class as classes of their own (Santoro et al. 2016): four times as many."""
        turns = [torch.rot90(self.images, turn, (-2, -1)) for turn in range(4)]
        names = tuple(f"{name} turned {90 * turn}" for turn in range(4) for name in self.names)
        return Bank(torch.cat(turns), np.tile(self.counts, 4), names)

    def with_at_least(self, count: int) -> "Bank":
        """Without the classes that have fewer images."""
        enough = self.counts >= count
        if enough.all():
            return self
        rows = np.repeat(enough, self.counts)
        names = tuple(name for name, stays in zip(self.names, enough, strict=True) if stays)
        return Bank(self.images[torch.from_numpy(rows)], self.counts[enough], names)


def bank(classes: dict[str, np.ndarray]) -> Bank:
    """From uint8 [images, height, width] or [images, height, width, 3] of each class, by its name."""
    stacked = torch.from_numpy(np.concatenate(list(classes.values())))
    images = stacked[:, None] if stacked.ndim == 3 else stacked.permute(0, 3, 1, 2).contiguous()
    return Bank(images, np.array([len(own) for own in classes.values()]), tuple(classes))


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageEpisodes(Episodes):
    """N-way episodes: inputs [tasks, ways * (shots + queries), channels, height, width] from 0 to 1, labels 0 .. ways - 1.

    Support rows come first, and within support and queries class after class. Which class gets which label is drawn.
    """

    bank: Bank
    ways: int

    def __post_init__(self) -> None:
        if (self.bank.counts < self.shots + self.queries).any():
            raise UsageError(
                f"an episode of {self.shots} shots and {self.queries} queries needs {self.shots + self.queries} images of a "
                f"class, and some have {int(self.bank.counts.min())}: take fewer with data.queries or data.test_queries"
            )
        if len(self.bank.counts) < self.ways:
            where = " ".join(map(str, self.stream[2:4]))
            raise UsageError(f"data.ways={self.ways} is too many: {where} has only {len(self.bank.counts)} such classes")

    @property
    def support(self) -> int:
        return self.ways * self.shots

    def draw(self, index: np.ndarray) -> tuple[Tensor, Tensor]:
        rows = self.rows(index)
        x = self.bank.images.index_select(0, torch.from_numpy(rows).flatten()).unflatten(0, rows.shape)
        labels = torch.arange(self.ways)
        y = torch.cat([labels.repeat_interleave(self.shots), labels.repeat_interleave(self.queries)])
        return x.float().div_(255), y.expand(len(index), -1)

    def rows(self, index: np.ndarray) -> np.ndarray:
        """Images of episodes `index`, none twice in one: [tasks, support + queries], row numbers of the bank."""
        classes = first(self.uniform(index, len(self.bank.counts), "classes"), self.ways)  # [tasks, ways]
        most, each = int(self.bank.counts.max()), self.shots + self.queries
        lots = self.uniform(index, self.ways * most, "images").reshape(len(index), self.ways, most)
        counts = self.bank.counts[classes][..., None]
        chosen = first(np.where(np.arange(most) < counts, lots, 2.0), each)  # [tasks, ways, shots + queries]
        rows = self.bank.starts[classes][..., None] + chosen
        parts = rows[..., : self.shots], rows[..., self.shots :]
        return np.concatenate([part.reshape(len(index), -1) for part in parts], 1)

    def update(self, digest: "hashlib._Hash") -> None:
        super().update(digest)
        digest.update(f"{self.ways} {self.bank.md5}".encode())


def first(lots: np.ndarray, count: int) -> np.ndarray:
    """Places of the `count` smallest numbers along the last dimension, smallest first: a draw without replacement."""
    if count < lots.shape[-1]:
        places = np.argpartition(lots, count - 1, -1)[..., :count]
    else:
        places = np.broadcast_to(np.arange(lots.shape[-1]), lots.shape)
    order = np.argsort(np.take_along_axis(lots, places, -1), -1)
    return np.take_along_axis(places, order, -1)


def synthetic(size: int, counts: Sequence[int] = (30, 12, 15), instances: int = 20) -> dict[str, Bank]:
    """Noisy blobs for smoke tests: train, val and test classes, each a coarse pattern that drifts."""
    draw = np.random.RandomState(20240301)  # its stream is frozen across versions of numpy

    def one() -> np.ndarray:
        pattern = np.kron(draw.rand(size // 4, size // 4) ** 2, np.ones((4, 4)))
        drifts = draw.randint(-2, 3, (instances, 2))
        drifted = np.stack([np.roll(pattern, drift, (0, 1)) for drift in drifts])
        return (255 * np.clip(drifted + 0.2 * draw.randn(*drifted.shape), 0, 1)).astype(np.uint8)

    made = zip(("train", "val", "test"), counts, strict=True)
    return {split: bank({f"{split} {i}": one() for i in range(count)}) for split, count in made}
