"""What a task asks, checked when it begins: a method or data that cannot do are refused before anything is trained."""

from collections.abc import Iterator
from typing import Any

from maskbench.common.errors import UsageError
from maskbench.data.episodes.stages import EpisodeStage
from maskbench.data.stage import Stage
from maskbench.tasks.contracts import TAKES, WHEN
from maskbench.tasks.fulfilment import mismatch, named
from maskbench.training.method import Method


def need(task: str, contract: type, method: Method, stages: list[Stage], *, instead: str, **keys: Any) -> None:
    """Hold a method and its data to a task's contract, and to those of the keys that are set.

    Args:
        instead: the data to try. keys: of the task, that ask for a further contract where they are set to something.

    Raises:
        UsageError: the method or the data do not fulfil the contract.
    """
    for what, further in ((f"task={task}", contract), *((f"task.{key}", WHEN[contract][key]) for key in keys if keys[key])):
        if missing := [name for name in members(further) if not hasattr(method, name)]:
            raise UsageError(f"{what} needs a method with {named(missing)}, and {type(method).__name__} has none")
    if wrong := mismatch(TAKES.get(contract, ()), kinds(stages), len(stages)):
        raise UsageError(f"task={task} {wrong}; try {instead}")


def members(contract: type) -> Iterator[str]:
    """Names of what a contract asks of a method."""
    for part in contract.__mro__:
        if getattr(part, "_is_protocol", False):
            yield from (name for name in {**vars(part), **part.__annotations__} if not name.startswith("_"))


def kinds(stages: list[Stage]) -> set[str]:
    """What these data give, in the words that contracts take."""
    if len(stages) == 1 and getattr(stages[0], "samples", False):
        return {"samples", "vectors" if stages[0].vectors else "classes"}
    amount = {1: {"one"}, 2: {"pair"}}.get(len(stages), {"stream"})
    if any(isinstance(stage, EpisodeStage) for stage in stages):
        return {"episodes", *amount}
    return {"numbers" if any(stage.regression for stage in stages) else "classes", *amount}
