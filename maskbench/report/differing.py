"""In which settings runs differ: what a list of them shows beside their numbers. Imports no torch."""

from collections.abc import Sequence

from maskbench.common.asked import ELSEWHERE
from maskbench.report.groups import split, varied
from maskbench.report.runs import Run, plain

CHOSEN = ("method", "data", "task")  # whose settings follow from them, unless somebody set them otherwise


def differing(runs: Sequence[Run]) -> tuple[list[str], list[str]]:
    """(keys in which runs of one method, data and task differ, or which a command set; keys that differ only as these do).

    A group that was chosen differently (`backbone`) stands for the keys that follow from the choice.
    """
    chosen = [name for name in CHOSEN if several(runs, name)]
    groups = [name for name in choices(runs) if several(runs, name)]
    set_here = overridden(runs)
    own_groups = [name for name in groups if name in set_here or inside(runs, chosen, name)]
    keys = [key for key in varied(runs) if key not in {f"{name}.name" for name in (*CHOSEN, *own_groups)}]
    parts = list(split(runs, [*chosen, *own_groups]).values())
    within = {key for part in parts for key in varied(part)}
    own = [key for key in keys if key in within or key in set_here]
    return [*own_groups, *own], [key for key in keys if key not in own]


def choices(runs: Sequence[Run]) -> list[str]:
    """The groups of which something was chosen that makes a difference, but for method, data and task."""
    names = dict.fromkeys(name for run in runs for name in run.choices if name in run.config)
    return [name for name in names if name not in {*CHOSEN, *ELSEWHERE}]


def several(runs: Sequence[Run], name: str) -> bool:
    told = (plain(run.value(name)) for run in runs)
    first = next(told, None)
    return any(one != first for one in told)


def inside(runs: Sequence[Run], chosen: Sequence[str], name: str) -> bool:
    """Whether runs that agree in what was chosen differ in it."""
    return any(several(part, name) for part in split(runs, chosen).values())


def overridden(runs: Sequence[Run]) -> set[str]:
    """The keys and groups that the command of a run set."""
    words = (word for run in runs for word in run.about.get("overrides") or [] if isinstance(word, str))
    return {word.partition("=")[0].lstrip("+~") for word in words}
