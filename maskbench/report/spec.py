"""A table's yaml (conf/table) read and checked: which runs, which number of them, the published value, the rule of its verdict.

title, paper, system          what it is, where the published values stand, and its line in the scoreboard
seeds: {quick: [...], full: [...]}
runs: {NAME: [overrides], or {quick: [overrides], full: [overrides]}}
rows:
  - id, name                  a short word other rows refer to; what is printed
    run, metric               one of runs (may be left out when there is but one); a metric of result.json
    minus, over               a further {run, metric}: seed by seed, the difference to it or the ratio
    transform, unit, digits   percent, error_percent or negate; what the figure puts on one axis; decimals
    published                 {value, source, status}: confirmed, unconfirmed (recalled, never printed) or ours
    rule                      one of report/verdicts.py, or {quick: rule, full: rule}
    note                      a sentence below the table
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from maskbench.common.errors import UsageError, did_you_mean
from maskbench.report.verdicts import Rule

BUDGETS = ("quick", "full")
STATUSES = ("confirmed", "unconfirmed", "ours")
TRANSFORMS = {
    "none": lambda x: x,
    "percent": lambda x: 100 * x,
    "error_percent": lambda x: 100 - 100 * x,
    "negate": lambda x: -x,
}
ROW = ("id", "name", "run", "metric", "minus", "over", "transform", "unit", "digits", "published", "rule", "note")
TABLE = ("title", "paper", "system", "seeds", "runs", "rows", "notes", "metric", "transform", "unit", "digits")


@dataclass(frozen=True)
class Published:
    """A value to stand beside ours. Only a confirmed one counts as the paper's; `ours` was measured by this program earlier."""

    value: float
    source: str
    status: str


@dataclass(frozen=True)
class Quantity:
    """A metric of result.json, of the runs of one name."""

    run: str
    metric: str


@dataclass(frozen=True)
class Row:
    """A line of a table: which number of which runs, the published value beside it, and the rule that judges it."""

    id: str
    name: str
    first: Quantity
    minus: Quantity | None
    over: Quantity | None
    transform: str
    unit: str
    digits: int
    published: Mapping[str, Published]  # by budget
    rules: Mapping[str, Rule]
    note: str

    @property
    def quantities(self) -> list[Quantity]:
        return [q for q in (self.first, self.minus, self.over) if q is not None]

    def value(self, numbers: Sequence[float]) -> float:
        """One seed's value from its numbers, in the order of `quantities`."""
        first, *rest = map(float, numbers)
        if self.minus:
            first -= rest.pop(0)
        if self.over:
            first /= rest.pop(0)
        return TRANSFORMS[self.transform](first)


@dataclass(frozen=True)
class Table:
    """A table of a paper: the runs it needs for each budget, and its rows."""

    name: str
    title: str
    paper: str
    system: str
    seeds: Mapping[str, tuple[int, ...]]
    runs: Mapping[str, Mapping[str, tuple[str, ...]]]  # name -> budget -> overrides
    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    @property
    def budgets(self) -> list[str]:
        return [b for b in BUDGETS if any(b in specs for specs in self.runs.values())]


def names(folders: Iterable[Path]) -> dict[str, Path]:
    """Table -> file, over the config folders; a later folder's table stands in for an earlier one's of its name."""
    return {path.stem: path for folder in folders for path in sorted((folder / "table").glob("*.yaml"))}


def load(name: str, folders: Iterable[Path]) -> Table:
    """The table of that name, checked.

    Raises:
        UsageError: no such table, or its file says something wrong; the message names the file and the place.
    """
    files = names(folders)
    if name not in files:
        raise UsageError(f"no table '{name}'.{did_you_mean(name, files)} Tables: {', '.join(sorted(files)) or 'none'}, or all.")
    try:
        content = yaml.safe_load(files[name].read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{files[name]} is no YAML: {' '.join(str(error).split())}") from None
    reader = Reader(files[name])
    try:
        return reader.table(name, content)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise reader.wrong(
            f"a value is not of the kind its key takes ({error}); maskbench/report/spec.py lists the keys"
        ) from None


class Reader:
    """One table's file. Every method raises UsageError with the file and the place in it."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def wrong(self, text: str) -> UsageError:
        return UsageError(f"{self.file}: {text}")

    def table(self, name: str, entry: Any) -> Table:
        """The whole file."""
        self.keys(entry, TABLE, ("title", "paper", "seeds", "runs", "rows"), "the table")
        runs = {str(run): self.per_budget(spec, f"runs.{run}") for run, spec in entry["runs"].items()}
        rows = [self.row({**{k: entry[k] for k in ("metric", "transform", "unit", "digits") if k in entry}, **row}, runs)
                for row in entry["rows"]]  # fmt: skip
        ids = [row.id for row in rows]
        if twice := {one for one in ids if ids.count(one) > 1}:
            raise self.wrong(f"two rows have the id {twice.pop()}")
        for row in rows:
            for rule in row.rules.values():
                if rule.other and rule.other not in ids:
                    raise self.wrong(f"row {row.id}: no row has the id '{rule.other}'.{did_you_mean(rule.other, ids)}")
        seeds = entry["seeds"] if isinstance(entry["seeds"], dict) else dict.fromkeys(BUDGETS, entry["seeds"])
        self.keys(seeds, BUDGETS, (), "seeds")
        for numbers in seeds.values():
            if not isinstance(numbers, list) or not numbers or not all(type(n) is int and n >= 0 for n in numbers):
                raise self.wrong(f"seeds={numbers} is no list of whole numbers such as [0, 1, 2]")
        seeds = {budget: tuple(numbers) for budget, numbers in seeds.items()}
        notes = entry.get("notes") or ()
        if isinstance(notes, str) or not all(isinstance(note, str) for note in notes):
            raise self.wrong("notes is no list of sentences")
        return Table(name, entry["title"], entry["paper"], str(entry.get("system", name)), seeds, runs, tuple(rows), tuple(notes))

    def per_budget(self, spec: Any, place: str) -> dict[str, tuple[str, ...]]:
        """Overrides of runs by budget, from one list for all or a list for each."""
        specs = spec if isinstance(spec, dict) else dict.fromkeys(BUDGETS, spec)
        self.keys(specs, BUDGETS, (), place)
        if not all(isinstance(words, list) and all(isinstance(w, str) for w in words) for words in specs.values()):
            raise self.wrong(f"{place} is not a list of overrides such as [experiment=lottery/mnist_quick]")
        return {budget: tuple(words) for budget, words in specs.items()}

    def row(self, entry: Mapping[str, Any], runs: Mapping[str, Any]) -> Row:
        """One of `rows`, with the defaults that the table states for all."""
        place = f"row {entry.get('id', entry.get('name', '?'))}"
        self.keys(entry, ROW, ("name", "metric"), place)
        run = str(entry.get("run", next(iter(runs)) if len(runs) == 1 else None))
        first = self.quantity({"run": run, "metric": entry["metric"]}, runs, place)
        further = {part: {"run": run, "metric": entry["metric"], **entry[part]} for part in ("minus", "over") if part in entry}
        second = {part: self.quantity(one, runs, f"{place}, {part}") for part, one in further.items()}
        transform = entry.get("transform", "none")
        if transform not in TRANSFORMS:
            raise self.wrong(f"{place}: transform={transform} is none of {', '.join(TRANSFORMS)}")
        if transform == "error_percent" and further:
            raise self.wrong(f"{place}: error_percent is of one number; with minus or over take percent")
        unit = entry.get("unit", ("points" if "minus" in entry else "%") if "percent" in transform else "")
        published = self.published(entry.get("published"), place)
        return Row(
            id=str(entry.get("id", entry["name"])),
            name=str(entry["name"]),
            first=first,
            minus=second.get("minus"),
            over=second.get("over"),
            transform=transform,
            unit=str(unit),
            digits=int(entry.get("digits", 2)),
            published=published,
            rules=self.rules(entry["rule"], published, place) if "rule" in entry else {},
            note=str(entry.get("note", "")),
        )

    def quantity(self, entry: Any, runs: Mapping[str, Any], place: str) -> Quantity:
        self.keys(entry, ("run", "metric"), ("run", "metric"), place)
        if entry["run"] not in runs:
            raise self.wrong(f"{place}: run={entry['run']} is none of {', '.join(runs)}.{did_you_mean(str(entry['run']), runs)}")
        return Quantity(entry["run"], str(entry["metric"]))

    def published(self, entry: Any, place: str) -> dict[str, Published]:
        """The published value by budget, none where the file has none."""
        made, place = {}, f"{place}, published"
        if entry is None:
            return made
        self.keys(entry, ("value", "source", "status", *BUDGETS), (), place)
        for budget, one in (entry if set(entry) <= set(BUDGETS) else dict.fromkeys(BUDGETS, entry)).items():
            self.keys(one, ("value", "source", "status"), ("value", "source", "status"), place)
            if one["status"] not in STATUSES:
                raise self.wrong(f"{place}: status={one['status']} is none of {', '.join(STATUSES)}")
            if not math.isfinite(value := float(one["value"])):
                raise self.wrong(f"{place}: value={one['value']} is no finite number")
            made[budget] = Published(value, str(one["source"]), one["status"])
        return made

    def rules(self, entry: Any, published: Mapping[str, Published], place: str) -> dict[str, Rule]:
        """The rule by budget; one that needs a published value must have it."""
        if not isinstance(entry, dict):
            raise self.wrong(f"{place}: rule is no mapping")
        split = entry if set(entry) <= set(BUDGETS) else dict.fromkeys(BUDGETS, entry)
        made = {}
        for budget, rule in split.items():
            try:
                made[budget] = Rule.make(rule)
            except ValueError as error:
                raise self.wrong(f"{place}, rule: {error}") from None
            if made[budget].within is not None and made[budget].of is None:
                if budget not in published or published[budget].status == "unconfirmed":
                    raise self.wrong(f"{place}: within needs a published value that is confirmed or ours, or of=NUMBER")
        return made

    def keys(self, entry: Any, known: Sequence[str], needed: Sequence[str], place: str) -> None:
        """Refuse keys that are unknown, and the lack of one that is needed."""
        if not isinstance(entry, Mapping):
            raise self.wrong(f"{place} is no mapping")
        for key in entry:
            if key not in known:
                raise self.wrong(f"{place}: unknown key '{key}'.{did_you_mean(str(key), known)}")
        if missing := [key for key in needed if key not in entry]:
            raise self.wrong(f"{place} lacks {missing[0]}")
