"""Whether a method and data fulfil what a task's contract asks, read from their files: known before anything is imported.

Imports no torch.
"""

import ast
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from maskbench.common import signatures
from maskbench.common.errors import UsageError
from maskbench.data.streams import plan

MODULE = "torch.nn.modules.module.Module"  # what every method is made from; read only where something seems to be missing
AMOUNTS = {"one": "data of one stage", "pair": "a source and a target"}


@dataclass(frozen=True)
class Asked:
    """What a contract asks: members of the method, kinds of the data, and further contracts by the task's keys; and which of
    these keys hold keywords of a function of the method."""

    members: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    when: tuple[tuple[str, str], ...] = ()  # (key, dotted name of a contract)
    keywords: tuple[tuple[str, tuple[str, ...]], ...] = ()  # (key, (function, those that the task itself hands over ...))


def exists(contract: str) -> bool:
    """Whether a class of this dotted name stands in the source of its module."""
    return bool(signatures.ancestry(contract)[0])


def read(contract: str) -> Asked | None:
    """What the contract of a dotted name asks; None where it cannot be read."""
    classes, whole = signatures.ancestry(contract)
    if not whole:
        return None
    members = dict.fromkeys(name for node, _ in classes for name in sorted(_offered(node)) if not name.startswith("_"))
    takes: tuple[str, ...] = ()
    when: dict[str, str] = {}
    keywords: dict[str, tuple[str, ...]] = {}
    for node, module in reversed(classes):
        for mark in (mark for mark in node.decorator_list if isinstance(mark, ast.Call)):
            word = ast.unparse(mark.func).rpartition(".")[2]
            if word == "takes":
                takes = tuple(kind.value for kind in mark.args if isinstance(kind, ast.Constant))
            elif word == "when":
                when |= {key.arg: signatures.dotted(module, key.value) for key in mark.keywords if key.arg}
            elif word == "keywords":
                said = {key.arg: key.value.value for key in mark.keywords if key.arg and isinstance(key.value, ast.Constant)}
                keywords |= {key: tuple(str(words).split()) for key, words in said.items()}
    return Asked(tuple(members), takes, tuple(when.items()), tuple(keywords.items()))


def lacking(target: str, members: Sequence[str], imported: bool = False) -> list[str]:
    """Which of `members` the class of a dotted name has not, by its own text and that of its bases.

    A class with a base that cannot be read lacks nothing for all that is known; with `imported` the class is asked.
    """
    classes, whole = signatures.ancestry(target)
    missing = [name for name in members if not any(name in _offered(node) for node, _ in classes)]
    if not missing:
        return []
    if imported:
        from hydra.utils import get_class

        return [name for name in missing if not hasattr(get_class(target), name)] if classes else []
    if not whole:
        return []
    module, _ = signatures.ancestry(MODULE)
    return [name for name in missing if not any(name in _offered(node) for node, _ in module)]


@functools.lru_cache(maxsize=512)
def _offered(node: ast.ClassDef) -> set[str]:
    """Names of a class: what its body defines, and what its functions set on `self`."""
    names = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
    for part in node.body:
        names |= {target.id for target in _targets(part) if isinstance(target, ast.Name)}
    for part in ast.walk(node):
        for target in _targets(part):
            if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self":
                names.add(target.attr)
    return names


def _targets(node: ast.AST) -> Iterator[ast.expr]:
    """What a statement assigns to, tuples taken apart."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    for target in targets:
        yield from target.elts if isinstance(target, ast.Tuple) else [target]


def unmet(needs: str, task: Mapping[str, Any], target: str, imported: bool = False) -> Iterator[tuple[str, list[str]]]:
    """(what asks, the members that a method lacks) for the contract of a task and for each of its keys that asks for more.

    Args:
        needs: the contract's dotted name. task: its keys. target: the method's class.
    """
    contract = read(needs)
    if contract is None:
        return
    if missing := lacking(target, contract.members, imported):
        yield f"task={task.get('name')}", missing
    for key, further in contract.when:
        more = read(further) if task.get(key) else None
        if more and (missing := lacking(target, more.members, imported)):
            yield f"task.{key}", missing


def require(task: Mapping[str, Any], target: str) -> None:
    """Ask the class of a method, which is imported for it, whether it can do a task.

    Raises:
        UsageError: it lacks a member that the task's contract asks.
    """
    for what, missing in unmet(str(task.get("needs")), task, target, imported=True):
        raise UsageError(f"{what} needs a method with {named(missing)}, and {target} has none")


def named(members: Sequence[str]) -> str:
    """`shrink and branch`."""
    return " and ".join(filter(None, [", ".join(members[:-1]), members[-1]]))


# ---- data


def kinds(data: Mapping[str, Any]) -> tuple[set[str], int | None] | None:
    """What a data set's settings say it gives, and how many stages; None where they do not say."""
    gives = data.get("gives")
    if not isinstance(gives, list):
        return None
    amounts = {"one": 1, "pair": 2, "stream": plan.count(data), "episodes": 1}
    stages = next((amounts[kind] for kind in gives if kind in amounts), None)
    if not isinstance(stages, int):
        return set(gives), None
    return {*gives, *(word for word, count in (("one", 1), ("pair", 2)) if stages == count)}, stages


def mismatch(takes: Sequence[str], gives: set[str], stages: int | None) -> str | None:
    """What is wrong with data that give these kinds in so many stages for a task that takes those, without its subject."""
    missing = [kind for kind in takes if kind not in gives]
    if "episodes" in missing:
        return "takes data that come as episodes"
    if "episodes" in gives and "episodes" not in takes:
        return "takes no data that come as episodes, which only task=meta learns from"
    if "samples" in missing:
        return "compares the answers of a given net with its own, on samples of what it was trained on"
    if "samples" in gives and "samples" not in takes:
        return "takes data with a test set, and these are a few samples for task=agreement or similarity"
    if "vectors" in gives and "classes" in missing:
        return "compares answers, and the net that goes with this data gives vectors, which task=similarity compares"
    for kind in missing:
        if kind in AMOUNTS:
            return f"takes {AMOUNTS[kind]}, and this data has {stages or 'more than that'}"
        if kind == "classes":
            return "measures the accuracy on classes, and the targets of this data are numbers"
    return f"takes data that give {named(missing)}, and this gives {named(sorted(gives))}" if missing else None
