"""A run's record as the index keeps it: what many runs have in common stands as a number. Imports no torch."""

from collections.abc import Callable, Mapping
from typing import Any

from maskbench.common.shared import Like, Shared, once
from maskbench.report.index import Index

# of run.json: what the runs of one command, or of one machine, agree in
MACHINE = {"threads", "maskbench", "commit", "branch", "dirty", "python", "platform", "cpu", "cores", "memory_bytes"}
COMMON = MACHINE | {"status", "choices", "code", "data", "versions"}
OWN = {"seed"}  # of a config: what the runs of one setting differ in; no answer that `alike` gives asks for it

Apart = list[Any]  # [number of what is in common, the values that are not, in order]


def fold(about: Mapping[str, Any], result: Mapping[str, Any], index: Index) -> list[Any]:
    made = dict(about)
    if about.get("config"):
        made["config"] = _apart(about["config"], lambda name: name in OWN, index)
    return [_apart(made, lambda name: name not in COMMON, index), result]


def unfold(kept: list[Any], index: Index) -> tuple[dict[str, Any], dict[str, Any]]:
    """(run.json, result.json) of what `fold` made.

    Raises:
        KeyError: a part of it is not in the index, or not as it was written.
    """
    common, own = _common(kept[0], index)
    about = {**common, **own}
    if about.get("config"):
        about["config"] = Like(*_common(about["config"], index))
    return about, kept[1]


def _apart(mapping: Mapping[str, Any], own: Callable[[str], bool], index: Index) -> Apart:
    common = {name: value for name, value in mapping.items() if not own(name)}
    parts = {name: index.fold(value) for name, value in common.items() if isinstance(value, Mapping)}
    rest = {name: value for name, value in common.items() if name not in parts}
    number = index.fold({"names": index.fold(dict.fromkeys(mapping)), "parts": parts, "rest": rest})
    return [number, [value for name, value in mapping.items() if own(name)]]


def _common(apart: Apart, index: Index) -> tuple[Shared, dict[str, Any]]:
    """(what is in common, null in the place of a value that is not; those values)."""
    common, own = once(_read, index.unfold(apart[0]), index)
    return common, dict(zip(own, apart[1], strict=True))


def _read(told: Mapping[str, Any], index: Index) -> tuple[Shared, list[str]]:
    known = told["rest"] | {name: index.unfold(number) for name, number in told["parts"].items()}
    names = index.unfold(told["names"])
    return Shared({name: known.get(name) for name in names}), [name for name in names if name not in known]
