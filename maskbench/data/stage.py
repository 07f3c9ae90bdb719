"""What a data set is here: a list of stages, each with training, validation and test splits.

The words, from the outside in:

- `Stage`: one learning problem of a run: a task of continual learning, the source or the target of transfer learning, or the
  one data set of pruning and uncertainty. It has three splits, the loss, and the shapes that a net for it needs.
- `Split`: the examples of one part, (inputs, targets): rows of a tensor that all stages share, with labels of this stage.
  Splits of images on disk (images/streamed.py) and of few-shot episodes (episodes/stages.py) have the same methods.
- `View`: a fixed transform by which a stage sees the shared inputs, such as its pixel permutation or rotation; applied to
  the whole tensor when the split is used. An augmentation is a view too, applied at random to each training batch.
- `Feed`: the training loop's source of batches, made of a split; a batch is named by its row numbers (`batches`).
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from maskbench.common.streams import seed_for


class View(Protocol):
    """A transform of inputs [rows, ...] to inputs of the same shape; views of equal `key` do the same."""

    key: str

    def __call__(self, x: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Split:
    """Training, validation or test examples in memory: rows of a tensor shared by all stages, with this stage's targets.

    Args:
        x: the shared inputs, [all rows, ...], float32, already normalised.
        y: this split's targets, [rows of the split]: class indices (int64) or reals (float32).
        rows: which rows of `x` belong here, [rows of the split]; None takes them all.
        view: applied once to the selected inputs when they are made; None leaves them.
        augment: applied to each batch that trains (not to what is evaluated); it draws from torch's global generator.
    """

    x: Tensor
    y: Tensor
    rows: Tensor | None = None
    view: View | None = None
    augment: View | None = None

    def __len__(self) -> int:
        return len(self.y)

    def __add__(self, other: "Split") -> "Split":
        """The rows of both, this one's first; they train as this one does."""
        (x, y), (more, labels) = self.tensors(), other.tensors()
        return Split(torch.cat([x, more]), torch.cat([y, labels]), augment=self.augment)

    def tensors(self, device: torch.device | str = "cpu", first: int | None = None) -> tuple[Tensor, Tensor]:
        """(inputs, targets) of the whole split, or of its `first` rows, on `device`."""
        y = self.y[:first]
        x = self.x[:first] if self.rows is None else self.x.index_select(0, self.rows[:first])
        x, y = x.to(device), y.to(device)
        return (x if self.view is None else self.view(x)), y

    def batches(self, size: int, device: torch.device | str = "cpu", first: int | None = None) -> Iterable[tuple[Tensor, Tensor]]:
        """What `tensors` gives, in pieces of at most `size` rows."""
        x, y = self.tensors(device, first)
        return zip(x.split(size), y.split(size), strict=True)

    def pick(self, index: Tensor, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """(inputs, targets) of the rows number `index` of this split, [rows picked], on `device`."""
        x = self.x.index_select(0, index if self.rows is None else self.rows[index]).to(device)
        return (x if self.view is None else self.view(x)), self.y[index].to(device)

    def feed(self, device: torch.device | str = "cpu") -> "Feed":
        """The whole split on `device`, to take training batches from."""
        return Feed(*self.tensors(device), self.augment)

    def update(self, digest: "hashlib._Hash") -> None:
        """Add all that decides this split's content, apart from the shared inputs, to a hash."""
        digest.update(self.y.numpy().tobytes())
        digest.update(b"all" if self.rows is None else self.rows.numpy().tobytes())
        digest.update((self.view.key if self.view else "as is").encode())
        if self.augment:
            digest.update(self.augment.key.encode())


class Feed:
    """Training batches of a split in memory: a batch is an index into tensors, without a DataLoader.

    A split that streams from disk has a feed of its own (images/streamed.py), whose `loader` turns the index batches into
    samples (by a DataLoader and its workers) and whose `take` passes them on.
    """

    def __init__(self, x: Tensor, y: Tensor, augment: View | None = None) -> None:
        self.x, self.y, self.augment = x, y, augment

    def loader(self, blocks: Iterable[list[Tensor]]) -> Iterable[list[Any]]:
        """Blocks of index batches -> blocks of what `take` understands."""
        return blocks

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """One batch: (inputs [batch, ...], targets [batch, ...]).

        An index [batch, orders] (data orders side by side) gives inputs [batch, orders, ...] and targets alike.
        """
        rows = index.flatten()
        x, y = self.x.index_select(0, rows), self.y.index_select(0, rows)
        x = x if self.augment is None else self.augment(x)
        return (x, y) if index.ndim == 1 else (x.unflatten(0, index.shape), y.unflatten(0, index.shape))


@dataclass(frozen=True)
class Origin:
    """Where the files of a data set came from, for the record.

    Attributes:
        name: of the data set.
        source: one of folder, torchvision, npm, debian, sample, synthetic, generated and so on, or two joined by +.
        checksums: file name -> MD5.
        scale: how pixel values became inputs.
        facts: what else the record says of the data: the order of its rows, which part of a set it is.
    """

    name: str
    source: str
    checksums: dict[str, str] = field(default_factory=dict)
    scale: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    def beside(self, other: "Origin") -> "Origin":
        """This one, with what the record must say of another data set of the run that is no published file."""
        if "container" not in other.facts:
            return self
        sums = {f"{other.name}/{name}": value for name, value in other.checksums.items()}
        source = self.source if other.source == self.source else f"{self.source} + {other.source}"
        return replace(self, source=source, checksums=self.checksums | sums)


def probabilities(logits: Tensor) -> Tensor:
    """Softmax over the last dimension: the link of classification."""
    return logits.softmax(-1)


def log_probabilities(logits: Tensor) -> Tensor:
    """The logarithms of `probabilities`, float64: finite however small a probability is."""
    return logits.double().log_softmax(-1)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One learning problem of a run: its splits, its loss, and the shapes that a net for it needs.

    Attributes:
        index: place in the run, from 0.
        total: how many stages the run has.
        name: short name for tables.
        train, val, test: the splits. Models are chosen on validation; the test split is for the report only.
        classes: the original classes, in the order of the stage's own labels; empty for regression.
        outputs: of the net: classes (labels lie in 0 .. outputs - 1), or values of a regression target.
        shape: of one input, without the batch dimension.
        origin: where the files came from.
        criterion: the loss, (net output, target) -> scalar.
        link: net output -> prediction: softmax for classes, identity for reals.
        ood: out-of-distribution test inputs of unknown classes, by the name of their data set; no class is a known one.
        ood_groups: names of these sets by group (near, far), whose scores are averaged.
        shifted: the test split under a corruption, by `<type>/<level>`, each computed when it is used.
        folds: train/test divisions of one table that run side by side, for backbones that hold a net for each: inputs
            [rows, folds, ...] and targets [rows, folds, values] where there are more than one.
        units: (mean, deviation), each [folds, values], by which targets were standardised: value = mean + deviation * y.
        measures: further metrics by name, each a function of the learnt model: of a function from inputs [n, *shape] to
            values [n, outputs] in their own units.
        labels: which of the outputs are this stage's own; empty: all of them.
        earlier: the stages of the run before this one.
        given: whether the net comes trained on it (backbone.init): its own head answers, and nothing is trained.
        samples: whether its test images are a few samples of what a given net was trained on, and no test set: they tell
            whether its answers stay as they were, and no accuracy is stated of them.
        vectors: whether the given net has no output layer for it: what is asked of it are the vectors that a head would be given.
        repeats: the index of the stage whose images come again in this one, further training images of the same classes; None:
            of none.
    """

    index: int
    total: int
    name: str
    train: Split
    val: Split
    test: Split
    classes: tuple[int | str, ...]
    outputs: int
    shape: tuple[int, ...]
    origin: Origin
    criterion: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy
    link: Callable[[Tensor], Tensor] = probabilities
    ood: Mapping[str, Split] = field(default_factory=dict)
    ood_groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    shifted: Mapping[str, Callable[[], Split]] = field(default_factory=dict)
    folds: int = 1
    units: tuple[Tensor, Tensor] | None = None
    measures: Mapping[str, Callable[[Callable[[Tensor], Tensor]], float]] = field(default_factory=dict)
    labels: tuple[int, ...] = ()
    earlier: "tuple[Stage, ...]" = field(default=(), repr=False)
    given: bool = False
    samples: bool = False
    vectors: bool = False
    repeats: int | None = None

    @property
    def own(self) -> tuple[int, ...]:
        """The outputs that are this stage's own: what it is judged by where the stage is known."""
        return self.labels or tuple(range(self.outputs))

    @cached_property
    def seen(self) -> tuple[int, ...]:
        """The outputs of this stage and of all before it, ascending."""
        return tuple(sorted({label for stage in (*self.earlier, self) for label in stage.own}))

    @property
    def first_visit(self) -> int:
        """The index of the first stage of the run with these images: its own, unless it repeats one."""
        return self.index if self.repeats is None else self.repeats

    @property
    def own_head(self) -> dict[str, Any]:
        """What a head of the stage's own is opened with (backbones/per_stage.py): nets are made for the outputs of the first."""
        first = (*self.earlier, self)[0].outputs
        return {"outputs": None if self.outputs == first else self.outputs, "given": self.given}

    @property
    def regression(self) -> bool:
        """Whether targets are reals; classes otherwise."""
        return self.train.y.is_floating_point()

    @property
    def amount(self) -> str:
        """How much there is to train on, in words."""
        return f"{len(self.train.x):,} training {'rows' if self.regression or len(self.shape) == 1 else 'images'}"

    @property
    def label_space(self) -> int:
        """A number that two stages share exactly if they have the same outputs: the same classes, or as many reals."""
        return seed_for("question", *self.classes, self.outputs, self.regression)

    @property
    def holds_out(self) -> bool:
        """Whether validation rows are kept out of training."""
        return self.val is not self.train and len(self.val) > 0

    @property
    def last(self) -> bool:
        """Whether no stage of the run follows."""
        return self.index == self.total - 1

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that change when any image, label, split or view of this stage changes."""
        digest = hashlib.sha256(repr((sorted(self.origin.checksums.items()), self.origin.scale)).encode())
        for split in (self.train, self.val, self.test, *(self.ood[name] for name in sorted(self.ood))):
            split.update(digest)
        return digest.hexdigest()[:16]


def in_order(stages: Iterable[Stage]) -> list[Stage]:
    """The stages of a run, each knowing those before it."""
    known: list[Stage] = []
    for stage in stages:
        known.append(replace(stage, earlier=tuple(known)))
    return known


def batches(length: int, size: int, steps: range, order: Callable[[int], Tensor]) -> Iterator[Tensor]:
    """Index batches number `steps` of an endless walk over `length` rows, reshuffled each epoch.

    `order(epoch)` is that epoch's permutation, [length]. An epoch's last batch may be short. Only the numbers decide,
    so a walk resumed in the middle gives the batches it would have given. A batch has its `epoch`.
    """
    per_epoch = -(-length // size)
    epoch, permutation = -1, None
    for step in steps:
        if step // per_epoch != epoch:
            epoch = step // per_epoch
            permutation = order(epoch)
        start = step % per_epoch * size
        batch = permutation[start : start + size]
        batch.epoch = epoch  # names the augmentation of this batch, where a feed reads ahead of the training
        yield batch
