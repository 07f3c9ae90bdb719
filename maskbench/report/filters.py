"""Which runs are meant: KEY=VALUE of a command line, or "KEY op VALUE", asked of what each run says about itself.

Imports no torch.
"""

import operator
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from maskbench.common.asked import spelling
from maskbench.common.errors import UsageError, did_you_mean


class Told(Protocol):
    """What says something about itself by name, as a run does."""

    @property
    def names(self) -> Iterable[str]: ...

    def value(self, key: str) -> Any: ...


One = TypeVar("One", bound=Told)

CONDITION = re.compile(r"\s*([^\s<>=!]+)\s*(<=|>=|!=|==|=|<|>)\s*(.*\S)\s*")
ORDER = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


@dataclass(frozen=True)
class Filter:
    """KEY=VALUE, several values by commas; a run passes when what it says about KEY is one of them, of tags when it has one."""

    key: str
    values: frozenset[str]  # as asked.spelling spells them
    wanted: bool = True  # False: a run passes when it is none of them

    def __call__(self, run: Told) -> bool:
        told = run.value(self.key)
        several = [told] if self.key != "tags" or told is None else [*told, list(told)]
        return any(spelling(one) in self.values for one in several) == self.wanted


@dataclass(frozen=True)
class Bound:
    """KEY < NUMBER and the like; a run passes when what it says about KEY is a number on that side."""

    key: str
    sign: str
    limit: float

    def __call__(self, run: Told) -> bool:
        return number(told := run.value(self.key)) and ORDER[self.sign](told, self.limit)


def number(told: object) -> bool:
    return isinstance(told, int | float) and not isinstance(told, bool)


def parse_condition(text: str) -> Filter | Bound:
    """What "KEY op VALUE" states, op being one of < <= > >= = !=.

    Raises:
        UsageError: the text is no condition, or what is to be compared by size is no number.
    """
    if not (found := CONDITION.fullmatch(text)):
        raise UsageError(
            f'--where \'{text}\' is no condition; write "KEY op VALUE" with one of < <= > >= = !=, as in "accuracy > 0.9".'
        )
    key, sign, value = found.groups()
    if sign not in ORDER:
        one = parse_filter(f"{key}={value}")
        return Filter(one.key, one.values, sign != "!=")
    try:
        return Bound(key, sign, float(value))
    except ValueError:
        raise UsageError(f"--where '{text}': {value} is no number; words are compared by = and !=.") from None


def parse_filter(text: str) -> Filter:
    """The filter that a word KEY=VALUE,... of a command line states.

    Raises:
        UsageError: the text is not KEY=VALUE, or the value cannot be read.
    """
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    key, _, values = text.partition("=")
    if not key or not values:
        raise UsageError(f"'{text}' is no filter; write KEY=VALUE, such as method=supsup.")
    try:
        read = OmegaConf.to_container(OmegaConf.from_dotlist([f"values=[{values}]"]))["values"]  # knows 5e-2, as configs do
        words = yaml.load(f"[{values}]", yaml.BaseLoader)  # a run's key may be all digits
    except (yaml.YAMLError, OmegaConfBaseException):
        raise UsageError(f"cannot read '{text}'; quote a value with special characters.") from None
    return Filter(key, frozenset(map(spelling, [*read, *words])))


def passing(runs: Sequence[One], filters: Sequence[Filter | Bound]) -> list[One]:
    """The runs that pass all filters.

    Raises:
        UsageError: no run knows the key of a filter, or none has a number to compare by size.
    """
    refuse_unknown(runs, [one.key for one in filters])
    for one in filters:
        if isinstance(one, Bound) and runs and not any(number(run.value(one.key)) for run in runs):
            raise UsageError(f"--where: '{one.key}' is a number in no run here; words are compared by = and !=.")
    return [run for run in runs if all(keep(run) for keep in filters)]


def refuse_unknown(runs: Sequence[Told], keys: Sequence[str]) -> None:
    """Refuse keys that no run has, so that a slip of the pen is not taken for an empty answer.

    Raises:
        UsageError: there are runs, and none knows one of the keys.
    """
    for key in keys:
        if any(key in run.names for run in runs):  # which the first one mostly settles
            continue
        if known := dict.fromkeys(name for run in runs for name in run.names):
            raise UsageError(f"no run here has '{key}'.{did_you_mean(key, known) or ' maskbench show RUN prints what one has.'}")
