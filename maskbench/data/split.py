"""Split images: the classes are dealt to the stages, and each stage sees the images of its own classes only."""

from pathlib import Path

import torch

from maskbench import streams
from maskbench.data.images import CLASSES, Splits, divide, load, stage_of, whole_number
from maskbench.data.stage import Split, Stage
from maskbench.errors import UsageError, did_you_mean


def split(*, base: str, stages: int, labels: str, order: str, val: int, normalize: str, source: str, root: Path,
          seed: int) -> list[Stage]:  # fmt: skip
    """`stages` stages of equally many classes; `val` images of all stages together validate.

    Args:
        labels: `shifted` gives the classes of every stage the labels 0 to k - 1, so that all stages can share a small
            head; `kept` leaves 0 to 9 and asks for ten outputs.
        order: `consecutive` deals 0, 1, ... to the stages in turn; `random` deals by a draw of the seed.
    """
    choice("labels", labels, ("shifted", "kept"))
    groups = deal(stages, order, seed)
    images = load(base, root, normalize, source)
    everything = divide(images, val, seed)
    outputs = len(groups[0]) if labels == "shifted" else CLASSES
    return [
        stage_of(
            images, narrow(everything, classes, labels), index=i, total=len(groups), name="/".join(map(str, classes)),
            classes=classes, outputs=outputs,
        )
        for i, classes in enumerate(groups)
    ]  # fmt: skip


def deal(stages: int, order: str, seed: int) -> list[tuple[int, ...]]:
    """The classes of each stage, ascending inside a stage: every class once, equally many to each."""
    choice("order", order, ("consecutive", "random"))
    if CLASSES % whole_number("data.stages", stages, least=1):
        fitting = [n for n in range(1, CLASSES + 1) if CLASSES % n == 0]
        raise UsageError(
            f"data.stages={stages} does not divide the {CLASSES} classes evenly: "
            f"take {', '.join(map(str, fitting[:-1]))} or {fitting[-1]}."
        )
    classes = torch.arange(CLASSES)
    if order == "random":
        classes = torch.randperm(CLASSES, generator=streams.generator(seed, "class order"))
    return [tuple(sorted(group)) for group in classes.view(stages, -1).tolist()]


def narrow(splits: Splits, classes: tuple[int, ...], labels: str) -> Splits:
    """What belongs to these classes, in the order it has."""
    label = torch.full((CLASSES,), -1)  # of each class in this stage; -1: not here
    label[list(classes)] = torch.arange(len(classes)) if labels == "shifted" else torch.tensor(classes)

    def own(whole: Split) -> Split:
        y = label[whole.y]
        here = y >= 0
        return Split(whole.x, y[here], whole.rows[here])

    return Splits(own(splits.train), own(splits.val), own(splits.test))


def choice(key: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        hint = did_you_mean(str(value), choices)
        raise UsageError(f"data.{key}={value} is not known: take {' or '.join(choices)}.{hint}")
