"""Few-shot tasks as rows of a split: row i is episode i, drawn from (seed, split, i) alone and never stored.

Whatever the order, the batch size, the method or an interruption: episode i is the same. Whole batches are drawn at
once: a counter-based generator gives number j of episode i by hashing (stream, i, j), so there is no state to advance.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from maskbench.common import streams
from maskbench.data.stage import Stage

PIECE = 16  # episodes evaluated at a time, at most: each has weights of its own, and more leave the cache
ENDLESS = 2**21  # training episodes: more than any run here takes, so that none comes twice


class Tasks(NamedTuple):
    """The inputs of a batch of episodes: the support set with its targets, and the query inputs.

    x: [tasks, support + queries, ...], the support first. y: [tasks, support], or [tasks, support, values].
    The targets that go with them are those of the queries, [tasks, queries] or [tasks, queries, values].
    """

    x: Tensor
    y: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Episodes(ABC):
    """A split of `count` episodes, with the methods of `Split`; a subclass draws an episode from its number.

    Args:
        count: how many episodes.
        shots, queries: rows of each class in the support and in the query set.
        stream: the name of the random stream of all draws.
    """

    count: int
    shots: int
    queries: int
    stream: tuple[object, ...]

    @abstractmethod
    def draw(self, index: np.ndarray) -> tuple[Tensor, Tensor]:
        """(inputs [tasks, support + queries, ...], targets [tasks, support + queries, ...]) of episodes `index` [tasks]."""

    @property
    @abstractmethod
    def support(self) -> int:
        """Rows of an episode that are its support set."""

    def uniform(self, index: np.ndarray, numbers: int, what: str) -> np.ndarray:
        """`numbers` draws from [0, 1) for each episode, [tasks, numbers]; `what` names them apart from others."""
        rows = scrambled(index.astype(np.uint64) ^ np.uint64(streams.seed_for(*self.stream, what)))
        return unit(scrambled(rows[:, None] + np.arange(numbers, dtype=np.uint64) * STEP))

    # ---- what a split does

    def __len__(self) -> int:
        return self.count

    def pick(self, index: Tensor, device: torch.device | str = "cpu") -> tuple[Tasks, Tensor]:
        x, y = self.draw(index.numpy())
        x, y = x.to(device), y.to(device)
        return Tasks(x, y[:, : self.support]), y[:, self.support :]

    def tensors(self, device: torch.device | str = "cpu", first: int | None = None) -> tuple[Tasks, Tensor]:
        return self.pick(torch.arange(len(self) if first is None else min(first, len(self))), device)

    def batches(self, size: int, device: torch.device | str = "cpu", first: int | None = None) -> Iterator[tuple[Tasks, Tensor]]:
        count = len(self) if first is None else min(first, len(self))
        return (self.pick(index, device) for index in torch.arange(count).split(min(size, PIECE)))

    def feed(self, device: torch.device | str = "cpu") -> "EpisodeFeed":
        return EpisodeFeed(self, device)

    def update(self, digest: "hashlib._Hash") -> None:
        digest.update(repr((type(self).__name__, self.count, self.shots, self.queries, self.stream)).encode())


class EpisodeFeed:
    """Batches for training: a batch of `budget.batch_size` episodes is a meta-batch."""

    def __init__(self, split: Episodes, device: torch.device | str) -> None:
        self.split, self.device = split, device

    def loader(self, blocks: object) -> object:
        return blocks

    def take(self, index: Tensor) -> tuple[Tasks, Tensor]:
        return self.split.pick(index, self.device)


@dataclass(frozen=True, kw_only=True)
class EpisodeStage(Stage):
    """A few-shot problem: a stage whose rows are episodes.

    Attributes:
        ways: classes of an episode; 1 for regression.
        shots: support rows of each class.
        queries: query rows of each class, in training.
        further: more test splits by name, of other shots or from another domain, for the report only.
    """

    ways: int
    shots: int
    queries: int
    further: Mapping[str, Episodes] = field(default_factory=dict)

    @property
    def regression(self) -> bool:
        return self.ways == 1

    @property
    def amount(self) -> str:
        what = (
            f"{self.shots} shots"
            if self.regression
            else f"{self.ways} ways and {self.shots} shots of {len(self.classes)} classes"
        )
        return f"episodes of {what}"

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(repr((sorted(self.origin.checksums.items()), self.origin.scale)).encode())
        for split in (self.train, self.val, self.test, *(self.further[name] for name in sorted(self.further))):
            split.update(digest)
        return digest.hexdigest()[:16]


# ---- numbers from counters: the finaliser of SplitMix64 (Steele, Lea and Flood 2014), twice

STEP = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, odd


def scrambled(z: np.ndarray) -> np.ndarray:
    """A bijection of 64-bit words in which every bit of the input moves half of the bits of the output."""
    z = z + STEP
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def unit(words: np.ndarray) -> np.ndarray:
    """Words as doubles in [0, 1), by their upper 53 bits."""
    return (words >> np.uint64(11)) * 2.0**-53
