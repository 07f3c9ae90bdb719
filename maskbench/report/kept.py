"""A run's record as the index keeps it: the mappings that many runs have in common stand as numbers. Imports no torch."""

from collections.abc import Mapping
from typing import Any

from maskbench.report.index import Index

COMMON = ("choices", "code", "data", "versions")  # of run.json, beside the parts of its config


def fold(about: Mapping[str, Any], result: Mapping[str, Any], index: Index) -> list[Any]:
    made = dict(about)
    for name in COMMON:
        if isinstance(made.get(name), Mapping):
            made[name] = index.fold(made[name])
    if config := made.get("config"):
        parts = [index.fold(part) if isinstance(part, Mapping) else None for part in config.values()]
        rest = [part for part in config.values() if not isinstance(part, Mapping)]
        made["config"] = [index.fold(dict.fromkeys(config)), parts, rest]
    return [made, result]


def unfold(kept: list[Any], index: Index) -> tuple[dict[str, Any], dict[str, Any]]:
    """(run.json, result.json) of what `fold` made.

    Raises:
        KeyError: a part of it is not in the index, or not as it was written.
    """
    about, result = kept
    for name in COMMON:
        if isinstance(about.get(name), int):
            about[name] = index.unfold(about[name])
    if about.get("config"):
        keys, parts, rest = about["config"]
        others = iter(rest)
        names = zip(index.unfold(keys), parts, strict=True)
        about["config"] = {name: next(others) if part is None else index.unfold(part) for name, part in names}
    return about, result
