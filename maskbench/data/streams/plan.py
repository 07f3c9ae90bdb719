"""What a stream is asked to be: the classes of each stage, and the order in which stages come. Judged before any image is read.

Imports no torch.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from maskbench.common.errors import UsageError, did_you_mean
from maskbench.common.knobs import Count, Whole
from maskbench.data.sources.class_counts import CLASSES

Order = Literal["consecutive", "random"] | Whole | Sequence[Whole]  # of the classes
Sizes = Sequence[Count]  # classes of each stage
Lists = Sequence[Sequence[Whole]]  # the classes themselves
Rest = Literal["drop"]  # what becomes of classes that no stage has
Visits = Count | Sequence[Whole]  # rounds of all stages, or which stage comes when

GLYPHS = "glyph28"  # letters drawn from fonts, a set of images in streams over several
NAMED = 6  # classes in a sentence


@dataclass(frozen=True)
class Deal:
    """Which classes each stage has: so many stages of equally many, stages of given sizes, or lists.

    Attributes: those of `split` (images/split.py).
    """

    stages: int | None = None
    order: str | int | Sequence[int] | None = None
    sizes: Sequence[int] | None = None
    split: Sequence[Sequence[int]] | None = None
    rest: str | None = None

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """The deal that the settings of a data set ask for."""
        return cls(**{name: data.get(name) for name in cls.__dataclass_fields__})

    @property
    def count(self) -> int | None:
        """How many stages; None where nothing says it."""
        told = self.split if self.split is not None else self.sizes
        return self.stages if told is None else len(told)

    @property
    def listed_order(self) -> list[int] | None:
        """The classes in the order that lists them; None where it is drawn, or goes by number."""
        return list(self.order) if isinstance(self.order, Sequence) and not isinstance(self.order, str) else None

    def groups(self, total: int, draw: Callable[[int | None], Sequence[int]]) -> list[tuple[int, ...]]:
        """The classes of each stage: as they are listed, else ascending inside a stage.

        Args:
            total: classes of the data set, 0 to total - 1.
            draw: a seed (None: the run's) -> the order of all classes that it draws.

        Raises:
            UsageError: what `mistake` says.
        """
        if wrong := self.mistake(total):
            raise UsageError(wrong)
        if self.split is not None:
            return [tuple(group) for group in self.split]
        order = self.listed_order
        if order is None and self.order in ("consecutive", None):
            order = list(range(total))
        elif order is None:
            order = list(draw(None if self.order == "random" else self.order))
        sizes = self.sizes or [len(order) // self.stages] * self.stages
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        dealt = [order[start : start + size] for start, size in zip(starts, sizes, strict=True)]
        return [tuple(sorted(group) if self.listed_order is None else group) for group in dealt]

    def mistake(self, total: int | None) -> str | None:
        """Why no stages can be made of `total` classes (None: nobody knows how many there are)."""
        return self._together() or self._listed(total) or self._dealt(total)

    def _together(self) -> str | None:
        """Keys that cannot stand together, or are missing."""
        if self.split is not None:
            others = {"stages": self.stages, "order": self.order, "sizes": self.sizes}
            given = [f"data.{name}" for name, value in others.items() if value is not None]
            return f"data.split lists the classes of each stage by itself: leave out {listed(given)}." if given else None
        if self.stages is not None and self.sizes is not None:
            both = f"data.stages={self.stages} and data.sizes={spelt(self.sizes)}"
            return f"{both} both say how many stages there are: leave one out."
        if self.stages is None and self.sizes is None:
            return "data.stages is missing: say how many stages, or the size of each (data.sizes), or its classes (data.split)."
        return None

    def _listed(self, total: int | None) -> str | None:
        """What is wrong with the classes that a list names."""
        key, lists = ("split", self.split) if self.split is not None else ("order", self.listed_order)
        if lists is None:
            return None
        groups = lists if key == "split" else [lists]
        if not groups or not all(groups):
            return f"data.{key}={spelt(lists)} has a stage without classes: name some, or leave it out."
        named = Counter(label for group in groups for label in group)
        if twice := [label for label, times in named.items() if times > 1]:
            return f"data.{key} names class {twice[0]} twice: a class belongs to one stage."
        if total is None:
            return None
        if strange := [label for label in named if label >= total]:
            return f"data.{key} names class {strange[0]}, and the data has the classes 0 to {total - 1}."
        if (left := [label for label in range(total) if label not in named]) and self.rest is None:
            which, them = (f"class {left[0]}", "it") if len(left) == 1 else (f"classes {listed(left)}", "them")
            return f"data.{key} leaves out {which}: name {them} too, or drop {them} with data.rest=drop."
        return None

    def _dealt(self, total: int | None) -> str | None:
        """Why the classes cannot be dealt in these sizes, or to so many stages."""
        there = total if self.listed_order is None else len(self.listed_order)
        if self.split is not None or there is None:
            return None
        if self.sizes is not None:
            asked = sum(self.sizes)
            if 0 < asked == there or (0 < asked < there and self.rest is not None):
                return None
            mend = "make them so many" + (", or leave the rest out with data.rest=drop" if 0 < asked < there else "")
            return f"data.sizes={spelt(self.sizes)} adds up to {asked}, and there are {there} classes: {mend}."
        if there % self.stages == 0 or (self.stages < there and self.rest is not None):
            return None
        fitting = [n for n in range(1, there + 1) if there % n == 0]
        return (
            f"data.stages={self.stages} does not divide the {there} classes evenly: take {listed(fitting, 'or')}, or say "
            "how many each stage has, as in data.sizes=[2,3,5]."
        )


def count(data: Mapping[str, Any]) -> int | None:
    """How many stages a stream has by its settings; None where they do not say."""
    visits, sets = data.get("visits"), data.get("sets") or data.get("folders")
    distinct = len(sets) + bool(data.get("given")) if isinstance(sets, Sequence) else Deal.of(data).count
    if isinstance(visits, Sequence):
        return len(visits)
    return distinct * (visits or 1) if isinstance(distinct, int) else None


def blur_mistake(blur: float | None, labels: str | None) -> str | None:
    """Why stages cannot mix."""
    if blur is None or labels != "shifted":
        return None
    return (
        f"data.blur={blur} mixes images of several stages, and under data.labels=shifted two classes of theirs share a label: "
        "take data.labels=kept."
    )


def visits_mistake(visits: int | Sequence[int] | None, stages: int) -> str | None:
    """Why stages cannot come in that order."""
    if not isinstance(visits, Sequence):
        return None
    if strange := [number for number in visits if number >= stages]:
        return f"data.visits names stage {strange[0]}, and there are the stages 0 to {stages - 1}."
    if left := [number for number in range(stages) if number not in visits]:
        return f"data.visits leaves out stage {listed(left)}: each stage has to come once at least."
    return None


def mistake(data: Mapping[str, Any]) -> str | None:
    """Why there is no such stream, as far as the settings of a data set tell."""
    if {"stages", "sizes", "split"} <= data.keys():
        if wrong := Deal.of(data).mistake(CLASSES.get(str(data.get("base")))):
            return wrong
    if "visits" in data and (wrong := sets_mistake(data.get("sets"))):  # the decathlon's sets are a matter of its signature
        return wrong
    if wrong := blur_mistake(data.get("blur"), data.get("labels")):
        return wrong
    stages = count({**data, "visits": None})
    return None if stages is None else visits_mistake(data.get("visits"), stages)


def sets_mistake(sets: Sequence[str] | None) -> str | None:
    """Why these data sets make no stream."""
    choices = [*CLASSES, GLYPHS]
    for name in sets or ():
        if name not in choices:
            return f"data.sets names '{name}': take some of {', '.join(choices)}.{did_you_mean(name, choices)}"
        if sets.count(name) > 1:
            return f"data.sets names {name} twice: a set that comes again is asked for with data.visits."
    return None


def epochs_mistake(epochs: object, stages: int | None) -> str | None:
    """Why a list of epochs does not fit so many stages."""
    if not isinstance(epochs, Sequence) or stages is None or len(epochs) == stages:
        return None
    one = "stage" if stages == 1 else "stages"
    return f"budget.epochs={spelt(epochs)} has {len(epochs)} entries, and the data has {stages} {one}: give one for each."


def listed(items: Sequence[object], word: str = "and") -> str:
    """`0, 1 and 2`; of many, the first few."""
    if len(items) > NAMED and word == "and":
        return f"{', '.join(map(str, items[:NAMED]))} and {len(items) - NAMED} more"
    *some, last = map(str, items)
    return f"{', '.join(some)} {word} {last}" if some else last


def spelt(value: object) -> str:
    """A list as the command line takes it."""
    return f"[{','.join(map(spelt, value))}]" if isinstance(value, Sequence) and not isinstance(value, str) else str(value)
