"""Several splits as one, none of them copied: what a net is trained on that learns several stages together."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from maskbench.common.errors import UsageError
from maskbench.data.images.streamed import Streamed
from maskbench.data.stage import Split


def joined(splits: Sequence[Split]) -> "Split | Joined":
    """The rows of all splits, in their order; those that differ in nothing but their rows are a split of the same kind.

    Raises:
        UsageError: splits that read their files batch by batch, from different folders or in different ways.
    """
    first = splits[0]
    if len(splits) == 1:
        return first
    y = torch.cat([split.y for split in splits])
    if all(same_but_rows(first, split) for split in splits):
        return replace(first, y=y, rows=torch.cat([split.rows for split in splits]))
    if any(isinstance(split, Streamed) for split in splits):
        raise UsageError("joint training takes streams of images that fit in memory, or of one folder: choose another method")
    return Joined(tuple(splits), y)


def same_but_rows(a: Split, b: Split) -> bool:
    """Whether two splits are rows of the same inputs, seen alike."""
    if type(a) is not type(b) or any(getattr(split, "rows", None) is None for split in (a, b)) or a.x is not b.x:
        return False
    ours, theirs = ({name: v for name, v in vars(split).items() if name not in ("x", "y", "rows")} for split in (a, b))
    return ours == theirs


@dataclass(frozen=True, eq=False)
class Joined:
    """Splits of different inputs or views one after another: the same methods as `Split`.

    Args:
        parts: the splits.
        y: the targets of all, [rows of all].
    """

    parts: tuple[Split, ...]
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)

    @property
    def x(self) -> Tensor:
        """As many rows as there are, for those who count them."""
        return self.y

    @cached_property
    def starts(self) -> Tensor:
        """The number of the first row of each part but the first, and of all."""
        return torch.tensor([len(part) for part in self.parts]).cumsum(0)

    def tensors(self, device: torch.device | str = "cpu", first: int | None = None) -> tuple[Tensor, Tensor]:
        """(inputs, targets) of all rows, or of the `first` ones, on `device`: a copy."""
        return self.pick(torch.arange(len(self))[:first], device)

    def batches(self, size: int, device: torch.device | str = "cpu", first: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """What `tensors` gives, in pieces of at most `size` rows."""
        return (self.pick(rows, device) for rows in torch.arange(len(self))[:first].split(size))

    def pick(self, index: Tensor, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """(inputs, targets) of the rows number `index`, [rows picked], on `device`."""
        order, shares = dealt(index, self.starts)
        pieces = [self.parts[part].pick(rows, device)[0] for part, rows in shares]
        return torch.cat(pieces)[order.to(device)], self.y[index].to(device)

    def feed(self, device: torch.device | str = "cpu") -> "JoinedFeed":
        return JoinedFeed(self, device)

    def update(self, digest: "hashlib._Hash") -> None:
        for part in self.parts:
            part.update(digest)


class JoinedFeed:
    """Training batches of several splits; inputs that they share lie on the device once."""

    def __init__(self, split: Joined, device: torch.device | str) -> None:
        held = {id(part.x): part.x.to(device) for part in split.parts if isinstance(part, Split)}
        self.parts = [
            replace(part, x=held[id(part.x)], rows=None if part.rows is None else part.rows.to(device))
            if isinstance(part, Split)
            else part
            for part in split.parts
        ]
        self.y, self.starts, self.device = split.y.to(device), split.starts.to(device), device

    def loader(self, blocks: Iterable[list[Tensor]]) -> Iterable[list[Tensor]]:
        return blocks

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """One batch: (inputs [batch, ...], targets [batch, ...]), in the order of `index` [batch]."""
        order, shares = dealt(index, self.starts)
        return torch.cat([self.trained(self.parts[part], rows) for part, rows in shares])[order], self.y[index]

    def trained(self, part: Split, rows: Tensor) -> Tensor:
        """Rows of a part as they train."""
        if isinstance(part, Split):
            x = part.x.index_select(0, rows if part.rows is None else part.rows[rows])
            x = x if part.view is None else part.view(x)
        else:  # made of rows of several
            x, _ = part.pick(rows.cpu(), self.device)
        return x if part.augment is None else part.augment(x)


def dealt(index: Tensor, starts: Tensor) -> tuple[Tensor, list[tuple[int, Tensor]]]:
    """Row numbers of a whole among its parts: (part, rows of the part) each, and the places that bring these rows, one part
    after another, back in order."""
    own = torch.bucketize(index, starts, right=True)
    sorted_by_part = own.argsort(stable=True)
    counts = torch.bincount(own, minlength=len(starts)).tolist()
    firsts = torch.cat([starts.new_zeros(1), starts[:-1]])
    local = (index - firsts[own])[sorted_by_part].split(counts)
    return sorted_by_part.argsort(), [(part, rows) for part, rows in enumerate(local) if len(rows)]
