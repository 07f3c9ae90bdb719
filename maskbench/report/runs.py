"""Runs read back from their directories: one object a run, filters, and frames for tables and pages. Imports no torch.

Everything that reports starts here. A `Run` answers any question about itself by name (`value`): a column, the choice of
a group, a dotted key of its config. `tidy` gives one row a number, `wide` one row a run.
"""

import fnmatch
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

from maskbench.common import checksums, closure, foreign, provenance
from maskbench.common.asked import arithmetic, blocks, leaves
from maskbench.common.checksums import check
from maskbench.common.errors import UsageError, did_you_mean
from maskbench.common.files import Unusable, content
from maskbench.common.moved import METRICS
from maskbench.report import kept, remarks, sound
from maskbench.report.filters import Bound, Filter, passing
from maskbench.report.freshness import UNKNOWN, Freshness, judge, made_by, modules
from maskbench.report.index import FEWEST, Index
from maskbench.report.interval_ends import is_end
from maskbench.report.states import DAMAGED, UNREADABLE, standing, state

Found = TypeVar("Found")

HEAD = ("method", "data", "seed", "key", "status", "objective")
FILES = ("run.json", "result.json", checksums.NAME)  # what `load` reads
FACTS = (*HEAD, "task", "source", "name", "budget", "freshness", "tags", "notes", "debug")
BUDGET = ("steps", "epochs", "batch_size", "validate_every")  # what makes one budget another


@dataclass(frozen=True)
class Run:
    """One run directory: `about` is its run.json, `result` its result.json, empty while it is not finished; both are where they
    are of no use, and then `fault` says why."""

    folder: Path
    about: Mapping[str, Any]
    result: Mapping[str, Any]
    fault: str = ""

    @cached_property
    def status(self) -> str:
        if not self.fault:
            return standing(self.folder, self.about, self.result)
        return now if (now := state(self.folder)) == UNREADABLE else DAMAGED

    @property
    def config(self) -> Mapping[str, Any]:
        return self.about.get("config") or {}

    @cached_property
    def blocks(self) -> list[dict[str, Any]]:
        """The config as `asked.question` has it, in parts, which runs may have in common."""
        return blocks(self.config)

    @property
    def choices(self) -> Mapping[str, Any]:
        return self.about.get("choices") or {}

    @property
    def method(self) -> str | None:
        return self.result.get("method") or (self.config.get("method") or {}).get("name")

    @property
    def data(self) -> str | None:
        return self.result.get("data") or (self.config.get("data") or {}).get("name")

    @property
    def task(self) -> str | None:
        return self.result.get("task") or (self.config.get("task") or {}).get("name")

    @property
    def seed(self) -> int | None:
        return self.about.get("seed", self.config.get("seed"))

    @property
    def key(self) -> str | None:
        return self.about.get("key")

    @property
    def objective(self) -> float | None:
        return self.result.get("objective")

    @property
    def debug(self) -> str | None:
        """fast, overfit or profile of a debug run, which is no result; None of a real one."""
        node = self.config.get("debug")
        return (str(node.get("name")) if isinstance(node, Mapping) else str(node)) if node else None

    @cached_property
    def said(self) -> list[remarks.Note]:
        """Notes that were added after the run began."""
        return remarks.read(self.folder)

    @property
    def tags(self) -> remarks.Tags | None:
        """Of its command, and those that were added; None where there are none."""
        added = (tag for note in self.said for tag in note.tags)
        return remarks.Tags(dict.fromkeys([*remarks.words(self.config.get("tags")), *added])) or None

    @property
    def notes(self) -> str | None:
        """What people said of it, the command first."""
        texts = [self.config.get("notes"), *(note.text for note in self.said)]
        return "; ".join(str(text) for text in texts if text) or None

    @property
    def name(self) -> str:
        """The last two parts of its directory, which hold method, data, seed and key."""
        return "/".join(self.folder.absolute().parts[-2:])

    @cached_property
    def metrics(self) -> dict[str, float | None]:
        """The numbers of result.json by their names of today; an undefined one is None."""
        numbers = {k: v for k, v in (self.result.get("metrics") or {}).items() if not isinstance(v, dict | list)}
        return {METRICS.get(k, k): v for k, v in numbers.items()}

    @cached_property
    def numbers(self) -> dict[str, float | None]:
        """The metrics that are numbers or undefined, without the ends of intervals."""
        known = ((k, v) for k, v in self.metrics.items() if v is None or isinstance(v, int | float) and not isinstance(v, bool))
        return {str(k): v for k, v in known if not is_end(str(k), self.metrics)}

    @property
    def source(self) -> str | None:
        """Where the data came from."""
        return self.result.get("source") or (self.about.get("data") or {}).get("source")

    @property
    def checksums(self) -> Mapping[str, str]:
        return (self.about.get("data") or {}).get("checksums") or {}

    @property
    def codes(self) -> tuple[str, ...]:
        """The code of each attempt that made the run: several when it was taken up after a change."""
        return made_by(self.about) or (provenance.code(self.about, self._patch),)

    @property
    def commit(self) -> str:
        """The commit the run was started from, and the hash of what was not committed."""
        return provenance.committed(self.about, self._patch)

    def sound(self, name: str) -> bool:
        """Whether a file of the run is what the run wrote, as far as that was recorded; one that is not is named."""
        return self.read(name, lambda path: True) is not None

    def read(self, name: str, reader: Callable[[Path], Found]) -> Found | None:
        """What a reader makes of a file of the run; None where the file is not what the run wrote or is of no use, which is
        said."""
        path = self.folder / name
        try:
            check(self.folder, name)
            return reader(path)
        except Unusable as error:
            foreign.skip(path, str(error).removeprefix(f"{path} "))
            return None

    @cached_property
    def _patch(self) -> str:
        """What was not committed; where that cannot be read, why: then the code is none that another run has."""
        if not self.about.get("dirty"):
            return ""  # of an earlier attempt
        try:
            return (content(self.folder / "uncommitted.patch") or b"").decode(errors="replace")
        except Unusable as error:
            return str(error)

    @property
    def modules(self) -> Mapping[str, str] | None:
        """The modules that computed the run, each with the hash of its code; None in older records."""
        return modules(self.about)

    @cached_property
    def code_now(self) -> Freshness:
        """The run's code beside the code that is here now."""
        try:
            return judge(self.about)
        except (OSError, ValueError):  # a name that no file can have
            return Freshness(UNKNOWN)

    @property
    def freshness(self) -> str:
        """fresh, stale or mixed of a finished run; empty where it cannot be told."""
        return self.code_now.word if self.status == "finished" else ""

    @property
    def budget(self) -> str:
        """One phase of training in words, such as `epochs=3 batch_size=128`."""
        budget = self.config.get("budget") or {}
        return " ".join(f"{name}={budget[name]}" for name in BUDGET if budget.get(name) is not None)

    @property
    def arithmetic(self) -> dict[str, Any]:
        """Precision, accelerator and the like, where they are not the usual ones."""
        return arithmetic(self.config.get("trainer") or {}, self.config.get("loop") or {})

    @property
    def machine(self) -> str:
        threads = self.about.get("threads")
        parts = [self.about.get("cpu") or "unknown processor", f"{self.about.get('cores') or '?'} cores"]
        return ", ".join([*parts, "one thread a run" if threads == 1 else f"{threads or '?'} threads a run"])

    def value(self, key: str) -> Any:
        """What the run says about `key`: an attribute, a metric, the choice of a group, or a dotted key of its config."""
        if key in FACTS:
            return getattr(self, key)
        if key == "code":
            return ", ".join(self.codes)
        if key in self.choices:
            return self.choices[key]
        if key in self.metrics:
            return self.metrics[key]
        node: Any = self.config
        for word in key.split("."):
            node = node.get(word) if isinstance(node, Mapping) else None
        return node

    @property
    def names(self) -> Iterator[str]:
        """All that `value` can be asked for."""
        yield from (*FACTS, "code", *self.choices, *self.metrics)
        for leaf, _ in leaves(self.config):
            words = leaf.split(".")
            yield from (".".join(words[:n]) for n in range(len(words), 0, -1))


def load(folder: Path) -> Run:
    """The run in `folder`, whatever is there of it; of a record that is none of ours, is damaged or cannot be read, `fault` says
    why."""
    about, wrong_about = sound.read(folder / "run.json", sound.ABOUT)
    result, wrong_result = sound.read(folder / "result.json", sound.RESULT)
    fault = wrong_about or wrong_result or (_changed(folder) if result else "")
    return Run(folder, {}, {}, fault) if fault else Run(folder, about, result)


def loaded(places: Sequence[Path]) -> list[Run]:
    """`load` of several folders, by the index beside them where there is one (index.py): the same runs, sooner."""
    made: list[Run] = []
    for output, own in groupby(places, key=lambda folder: os.path.dirname(os.path.dirname(folder))):
        with Index(Path(output)) as index:
            closure.recall(index.recall("", "sources", "") or {})
            if len(own := list(own)) >= FEWEST:
                index.at_once("record")
            made += (_indexed(folder, index) for folder in own)
            if index.worth:
                for run in made:
                    run.code_now  # noqa: B018 - what is to be kept is what this reads
                index.keep("", "sources", "", closure.learnt())
    return made


def _indexed(folder: Path, index: Index) -> Run:
    """`load`, by the index."""
    read: list[Run] = []

    def anew() -> list[Any] | None:
        read.append(run := load(folder))
        return None if run.fault else kept.fold(run.about, run.result, index)

    found = index.value([folder], "record", FILES, anew)
    try:
        return read[0] if read else Run(folder, *kept.unfold(found, index))
    except KeyError:
        return load(folder)


def _changed(folder: Path) -> str:
    """Why the record of a finished run is not what it wrote; empty where it is."""
    try:
        check(folder, "run.json", "result.json")
    except Unusable as error:
        return str(error)
    return ""


def read(output: Path, filters: Sequence[Filter | Bound] = ()) -> list[Run]:
    """The runs below an output folder that pass every filter, in order of their directories; damaged ones are named and skipped.

    Debug runs are left out where there are real ones, unless a filter asks about `debug`.

    Raises:
        UsageError: there is no such folder, or no run knows the key of a filter.
    """
    if not output.is_dir():
        raise UsageError(f"there is no folder {output}; --output FOLDER says where the runs are.")
    found = undamaged(loaded(list(folders(output))))
    if not any(one.key.partition(".")[0] == "debug" for one in filters):
        found = [run for run in found if not run.debug] or found
    return passing(found, filters)


def undamaged(runs: Iterable[Run]) -> list[Run]:
    """The runs whose records are sound; the others are said to be skipped, and why."""
    kept = []
    for run in runs:
        if run.fault:
            foreign.skip(run.folder, run.fault)
        else:
            kept.append(run)
    return kept


def folders(output: Path) -> Iterator[Path]:
    """The run directories below `output`, in order of their names."""
    for kind in sorted(_folders(output)):
        yield from (Path(run) for run in sorted(_folders(kind)) if os.path.exists(f"{run}/run.json"))


def _folders(place: str | Path) -> Iterator[str]:
    """The folders in a place; none where it cannot be looked into."""
    with suppress(OSError), os.scandir(place) as entries:
        yield from (entry.path for entry in entries if entry.is_dir())


def plain(value: Any) -> str:
    """A value as the command line spells it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


# ---- frames: plain lists of rows, which pandas.DataFrame takes as they are


def chosen_metrics(runs: Iterable[Run], patterns: Sequence[str] = ()) -> list[str]:
    """The names of metrics in the runs' own order: all, or those that match a pattern such as accuracy/ticket/*.

    Raises:
        UsageError: a pattern matches nothing.
    """
    names = list(dict.fromkeys(name for run in runs for name in run.metrics))
    for pattern in patterns:
        if pattern != "objective" and not fnmatch.filter(names, pattern):
            hint = did_you_mean(pattern, names)
            raise UsageError(
                f"metrics={pattern}: no run here has such a metric; they have {', '.join(names[:12]) or 'none'}.{hint}"
            )
    return [n for n in names if not patterns or any(fnmatch.fnmatchcase(n, p) for p in patterns)]


def tidy(runs: Iterable[Run], extra: Sequence[str] = ()) -> list[dict[str, Any]]:
    """One row a number: what the run is, `extra` keys of it, the metric, the value, and the run directory."""
    rows = []
    for run in runs:
        facts = {name: run.value(name) for name in ("method", "data", "task", "seed", "key", "status", "source", *extra)}
        facts |= {"code": run.value("code")}
        rows += [facts | {"metric": name, "value": value, "run": str(run.folder)} for name, value in run.metrics.items()]
    return rows


def wide(runs: Iterable[Run], metrics: Sequence[str], extra: Sequence[str] = ()) -> list[dict[str, Any]]:
    """One row a run: its columns, `extra` keys, the metrics named, and its directory."""
    return [
        {name: run.value(name) for name in (*HEAD, *extra)}
        | {name: run.metrics.get(name) for name in metrics}
        | {"run": str(run.folder)}
        for run in runs
    ]
