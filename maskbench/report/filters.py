"""Which runs are meant: KEY=VALUE of a command line, asked of what each run says about itself. Imports no torch."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from maskbench.common.errors import UsageError, did_you_mean
from maskbench.common.identity import spelling


class Told(Protocol):
    """What says something about itself by name, as a run does."""

    @property
    def names(self) -> Iterable[str]: ...

    def value(self, key: str) -> Any: ...


One = TypeVar("One", bound=Told)


@dataclass(frozen=True)
class Filter:
    """KEY=VALUE, several values by commas; a run passes when what it says about KEY is one of them."""

    key: str
    values: frozenset[str]  # as identity.spelling spells them

    def __call__(self, run: Told) -> bool:
        return spelling(run.value(self.key)) in self.values


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


def passing(runs: Sequence[One], filters: Sequence[Filter]) -> list[One]:
    """The runs that pass all filters.

    Raises:
        UsageError: no run knows the key of a filter.
    """
    refuse_unknown(runs, [one.key for one in filters])
    return [run for run in runs if all(keep(run) for keep in filters)]


def refuse_unknown(runs: Sequence[Told], keys: Sequence[str]) -> None:
    """Refuse keys that no run has, so that a slip of the pen is not taken for an empty answer.

    Raises:
        UsageError: there are runs, and none knows one of the keys.
    """
    known = dict.fromkeys(name for run in runs for name in run.names) if keys else {}
    for key in keys:
        if known and key not in known:
            raise UsageError(f"no run here has '{key}'.{did_you_mean(key, known) or ' maskbench show RUN prints what one has.'}")
