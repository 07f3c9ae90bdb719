"""Groups of runs that answer one question with different seeds, and what tells one group from another.

Nothing is averaged that differs in more than the seed: not over methods, configs, data or versions of the code.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from maskbench.common.identity import question
from maskbench.report import statistics
from maskbench.report.runs import Run
from maskbench.report.statistics import Mean

MACHINE = re.compile(r"[+~]*(paths|hydra)\.")  # overrides that say where, not what
UNKNOWN = "unknown"
MOST = 3  # knobs in the name of a group


@dataclass(frozen=True)
class Group:
    """Finished runs that differ in the seed only; each seed once, in order.

    `board`: task, data set and the places its files came from; groups with an equal one may stand in one plot.
    """

    board: tuple[str, str, str]
    runs: tuple[Run, ...]

    @property
    def first(self) -> Run:
        return self.runs[0]

    @property
    def source(self) -> str:
        """Where the data came from; several places only where their files are equal."""
        return self.board[2]

    @property
    def code(self) -> str:
        return code(self.first)

    @cached_property
    def metrics(self) -> dict[str, Mean | None]:
        """By name, in the order of the records; None where no seed has a value."""
        names = dict.fromkeys(name for run in self.runs for name in metrics(run))
        return {name: summary([metrics(run).get(name) for run in self.runs]) for name in names}


def group(runs: Iterable[Run]) -> tuple[list[Group], list[Run]]:
    """The groups of the finished runs in order, and the runs left out because their seed is there already."""
    runs_by_group: dict[tuple[str, ...], dict[Any, Run]] = {}
    twice, finished = [], [run for run in runs if run.status == "finished"]
    places = origins(finished)
    for run in finished:
        board = (str(run.task or UNKNOWN), str(run.data or UNKNOWN), places[run.data, run.source])
        seeds = runs_by_group.setdefault((*board, str(run.method), str(run.key), code(run)), {})
        if run.seed in seeds:
            twice.append(run)
        else:
            seeds[run.seed] = run
    order = sorted(runs_by_group, key=lambda one: [natural(part) for part in one])
    members = [tuple(sorted(runs_by_group[one].values(), key=lambda run: natural(str(run.seed)))) for one in order]
    return [Group(one[:3], runs) for one, runs in zip(order, members, strict=True)], twice


def origins(runs: Sequence[Run]) -> dict[tuple[str | None, str | None], str]:
    """(data set, source) -> all sources of that set that are known to have given the same files, as one text.

    Data drawn by seed has other checksums for each seed, and is still from one source.
    """
    alike: dict[tuple, set[str]] = {}
    for run in runs:
        alike.setdefault((run.data, run.source), {str(run.source)})
    files: dict[tuple, set[str]] = {}
    for run in runs:
        mine = alike[run.data, run.source]
        other = files.setdefault((run.data, *sorted(run.checksums.items())), mine) if run.checksums else mine
        if other is not mine:
            other |= mine
            for key, value in alike.items():
                if value is mine:
                    alike[key] = other
            files = {key: other if value is mine else value for key, value in files.items()}
    return {key: ", ".join(sorted(value)) for key, value in alike.items()}


def code(run: Run) -> str:
    """The code of all attempts that made the run."""
    return ", ".join(run.codes)


def metrics(run: Run) -> dict[str, float | None]:
    """Those of the record that are numbers, without the ends of intervals."""
    return run.numbers


def summary(values: Sequence[Any]) -> Mean | None:
    """Mean and 95 % interval of what is there; what diverged (nan, inf) makes a mean that is no number either."""
    known = [float(value) for value in values if value is not None]
    if not known:
        return None
    if all(map(math.isfinite, known)):
        return statistics.mean(known)
    return Mean(len(known), sum(known) / len(known), None, None)


def numeric(value: Any) -> bool:
    return value is None or isinstance(value, int | float) and not isinstance(value, bool)


def natural(text: str) -> list[tuple[int, int, str]]:
    """A key that sorts level 2 before level 10."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", text) if part]


# ---- configs


def common(questions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The part on which all configs agree."""
    first, *rest = questions
    return {k: v for k, v in first.items() if all(k in other and other[k] == v for other in rest)}


def own(configs: Mapping[str, Any], shared: Mapping[str, Any]) -> dict[str, Any]:
    """What a config has that is not `shared`, names of choices first."""
    return {k: configs[k] for k in sorted(configs, key=lambda k: not k.endswith(".name")) if k not in shared}


def command(run: Run) -> str:
    """What asks for the run again, without the folders of the machine it ran on."""
    words = [str(word) for word in run.about.get("overrides") or []]
    return " ".join(["python -m maskbench", *(quoted(word) for word in words if not MACHINE.match(word))])


def quoted(word: str) -> str:
    """`word` as a shell takes it."""
    return word if re.fullmatch(r"[\w@%+=:,./~-]+", word) else "'" + word.replace("'", "'\"'\"'") + "'"


# ---- names


def labels(groups: Sequence[Group]) -> list[str]:
    """A short name for each group, no two of a board alike: the method, and the knobs that tell its groups apart."""
    kinds = [(group.board, group.first.method) for group in groups]
    configs = [question(group.first.config) for group in groups]
    distinguishing = {
        kind: telling([q for k, q in zip(kinds, configs, strict=True) if k == kind]) for kind in dict.fromkeys(kinds)
    }
    made = [name(str(kind[1] or UNKNOWN), q, distinguishing[kind]) for q, kind in zip(configs, kinds, strict=True)]
    for more in (lambda group: group.first.key, lambda group: f"@{group.code}"):
        alike: dict[tuple, set[str]] = {}
        for one, label in zip(groups, made, strict=True):
            alike.setdefault((one.board, label), set()).add(str(more(one)))
        several = [len(alike[one.board, label]) > 1 for one, label in zip(groups, made, strict=True)]
        made = [f"{label} {more(one)}" if s else label for one, label, s in zip(groups, made, several, strict=True)]
    return made


def telling(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The fewest keys (at most MOST) that tell these configs apart, found greedily; of equally good ones the shortest values."""
    shared = common(configs)
    keys = [key for key in dict.fromkeys(key for one in configs for key in one) if key not in shared]
    length = {key: max(len(show(one.get(key))) for one in configs) for key in keys}
    chosen: list[str] = []
    while len(chosen) < MOST:
        kinds = {key: len({tuple(show(one.get(k)) for k in (*chosen, key)) for one in configs}) for key in keys}
        best = min(keys, key=lambda key: (-kinds[key], length[key]), default=None)
        if best is None or chosen and kinds[best] == kinds[chosen[-1]]:
            break
        chosen.append(best)
    return sorted(chosen, key=lambda key: not key.endswith(".name"))


def name(method: str, configs: Mapping[str, Any], keys: Sequence[str]) -> str:
    words = [f"{short(key)}={clipped(show(configs[key]))}" for key in keys if configs.get(key) is not None]
    return " ".join([method, *words])


def clipped(text: str, most: int = 32) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def short(key: str) -> str:
    """`optimizer.lr` as `lr`, but `backbone.name` as `backbone`."""
    head, _, last = key.rpartition(".")
    return head.rpartition(".")[2] if last == "name" and head else last


def show(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
