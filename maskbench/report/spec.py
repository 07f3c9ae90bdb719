"""A table's yaml (conf/table) read and checked: which runs, which number of them, the published value, the rule of its verdict.

title, paper, system          what it is, where the published values stand, and its line in the scoreboard
seeds: {quick: [...], full: [...]}
figures: [NAME, ...]          of `maskbench figure` on several experiments, to be drawn of all runs on one data set
runs: {NAME: [overrides], or {quick: [overrides], full: [overrides]}}
rows:
  - id, name                  a short word other rows refer to; what is printed
    run, metric               one of runs (may be left out when there is but one); a metric of result.json
    minus, over               a further {run, metric}: seed by seed, the difference to it or the ratio
    transform, unit, digits   percent, error_percent or negate; what the figure puts on one axis; decimals
    published                 FILE/NAME of a record (conf/published, report/published.py), or {quick: FILE/NAME, full: FILE/NAME}
    rule                      one of report/verdicts.py, or {quick: rule, full: rule}
    note                      a sentence below the table
hours:                        the budget of hours: the paper's own data and nets, in at most two hours on two cores
  limit                       ... so many hours of this table's
  differs                     sentences: in what the runs depart from the paper's
  title, seeds, runs, rows    its own, with one value where the above has one a budget; every row has a rule
  paper, system, notes      its own, or else (but notes) those of the table
  metric, transform, unit, digits    all its own where it says one of the first two, or else those of the table
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from maskbench.common import yamls
from maskbench.common.errors import UsageError, did_you_mean
from maskbench.report import published as records
from maskbench.report.published import Record
from maskbench.report.verdicts import Rule

SHARED, HOURS = ("quick", "full"), "hours"  # budgets of the same rows, and the one with rows of its own
BUDGETS = (*SHARED, HOURS)
LIMIT = 2  # hours on two cores that the budget of hours may take
SUPPORT = {  # what a record must be read from for a rule to rest on it
    "paper": (records.PAPER, records.FILES),
    "authors_code": (records.CODE,),
    "quoted": (records.QUOTED,),
}
TRANSFORMS = {
    "none": lambda x: x,
    "percent": lambda x: 100 * x,
    "error_percent": lambda x: 100 - 100 * x,
    "negate": lambda x: -x,
}
ROW = ("id", "name", "run", "metric", "minus", "over", "transform", "unit", "digits", "published", "rule", "note")
OWN = ("limit", "differs")  # of the budget of hours alone
DEFAULTS = ("metric", "transform", "unit", "digits")  # of all rows
TABLE = ("title", "paper", "system", "seeds", "runs", "rows", "notes", "figures", *DEFAULTS)


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
    published: Mapping[str, Record]  # by budget
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
    """A table of a paper: the runs it needs for each budget, and its rows.

    limit: hours that it may take on two cores; None: any. differs: sentences on what is not as in the paper. hours: the table of
    that budget, if there is one.
    """

    name: str
    title: str
    paper: str
    system: str
    seeds: Mapping[str, tuple[int, ...]]
    runs: Mapping[str, Mapping[str, tuple[str, ...]]]  # name -> budget -> overrides
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    figures: tuple[str, ...] = ()
    limit: float | None = None
    differs: tuple[str, ...] = ()
    hours: "Table | None" = None

    @property
    def budgets(self) -> list[str]:
        return [b for b in BUDGETS if any(b in specs for part in self.parts for specs in part.runs.values())]

    @property
    def parts(self) -> list["Table"]:
        """Itself, and the table of its budget of hours."""
        return [self, self.hours] if self.hours else [self]

    def at(self, budget: str) -> "Table":
        """The table with the rows of this budget.

        Raises:
            UsageError: the table has no such budget.
        """
        if budget not in self.budgets:
            raise UsageError(f"table {self.name} has no budget={budget}; it has {', '.join(self.budgets)}.")
        return self.hours if budget == HOURS else self


def names(folders: Iterable[Path]) -> dict[str, Path]:
    """Table -> file, over the config folders; a later folder's table stands in for an earlier one's of its name."""
    return {path.stem: path for folder in folders for path in sorted((folder / "table").glob("*.yaml"))}


def beside(folders: Sequence[Path], published: Mapping[str, Record] | None = None) -> dict[str, list[str]]:
    """FILE/NAME of each record that a table refers to -> TABLE/ROW of the rows it stands beside."""
    published = records.load(folders) if published is None else published
    found: dict[str, list[str]] = {}
    for name in names(folders):
        for row in (row for part in load(name, folders, published).parts for row in part.rows):
            for record in dict.fromkeys(one.name for one in row.published.values()):
                found.setdefault(record, []).append(f"{name}/{row.id}")
    return found


def load(name: str, folders: Sequence[Path], published: Mapping[str, Record] | None = None) -> Table:
    """The table of that name, checked, with the records it refers to: `published`, where several tables share a reading.

    Raises:
        UsageError: no such table, or its file says something wrong; the message names the file and the place.
    """
    files = names(folders)
    if name not in files:
        raise UsageError(f"no table '{name}'.{did_you_mean(name, files)} Tables: {', '.join(sorted(files)) or 'none'}, or all.")
    try:
        content = yamls.parse(files[name].read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{files[name]} is no YAML: {' '.join(str(error).split())}") from None
    reader = Reader(files[name], records.load(folders) if published is None else published)
    try:
        return reader.whole(name, content)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise reader.wrong(
            f"a value is not of the kind its key takes ({error}); maskbench/report/spec.py lists the keys"
        ) from None


class Reader:
    """One table's file. Every method raises UsageError with the file and the place in it.

    budgets: those that the part of the file which is being read is for; `part` names it in messages.
    """

    def __init__(self, file: Path, records: Mapping[str, Record], budgets: Sequence[str] = SHARED, part: str = "") -> None:
        self.file, self.records, self.budgets, self.part = file, records, budgets, part

    def wrong(self, text: str) -> UsageError:
        return UsageError(f"{self.file}: {self.part}{text}")

    def whole(self, name: str, entry: Any) -> Table:
        """The whole file: the rows of the budgets quick and full, and those of hours."""
        if not isinstance(entry, Mapping) or HOURS not in entry:
            return self.table(name, entry)
        entry = dict(entry)
        hours = Reader(self.file, self.records, (HOURS,), f"{HOURS}: ").section(name, entry.pop(HOURS), entry)
        return replace(self.table(name, entry), hours=hours)

    def section(self, name: str, entry: Any, table: Mapping[str, Any]) -> Table:
        """The budget of hours; what it shares with the table and does not say is the table's."""
        self.keys(entry, (*OWN, *TABLE), (*OWN, "title", "seeds", "runs", "rows"), "the section")
        limit = entry["limit"]
        if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 < limit <= LIMIT:
            raise self.wrong(f"limit={limit} is no number of hours up to {LIMIT}")
        measured = () if entry.keys() & {"metric", "transform"} else DEFAULTS  # the unit of another measure is not this one's
        shared = {key: table[key] for key in ("paper", "system", *measured) if key in table}
        made = self.table(name, shared | {key: value for key, value in entry.items() if key not in OWN})
        for row in made.rows:
            if not row.rules:
                raise self.wrong(f"row {row.id} has no rule")
        return replace(made, limit=float(limit), differs=self.sentences(entry, "differs"))

    def table(self, name: str, entry: Any) -> Table:
        """A table of rows that the budgets have in common."""
        self.keys(entry, TABLE, ("title", "paper", "seeds", "runs", "rows"), "the table")
        runs = {str(run): self.per_budget(spec, f"runs.{run}") for run, spec in entry["runs"].items()}
        rows = [self.row({**{k: entry[k] for k in DEFAULTS if k in entry}, **row}, runs)
                for row in entry["rows"]]  # fmt: skip
        ids = [row.id for row in rows]
        if twice := {one for one in ids if ids.count(one) > 1}:
            raise self.wrong(f"two rows have the id {twice.pop()}")
        for row in rows:
            for rule in row.rules.values():
                if rule.other and rule.other not in ids:
                    raise self.wrong(f"row {row.id}: no row has the id '{rule.other}'.{did_you_mean(rule.other, ids)}")
        seeds = entry["seeds"] if isinstance(entry["seeds"], dict) else dict.fromkeys(self.budgets, entry["seeds"])
        self.keys(seeds, self.budgets, (), "seeds")
        for numbers in seeds.values():
            if not isinstance(numbers, list) or not numbers or not all(type(n) is int and n >= 0 for n in numbers):
                raise self.wrong(f"seeds={numbers} is no list of whole numbers such as [0, 1, 2]")
        seeds = {budget: tuple(numbers) for budget, numbers in seeds.items()}
        notes, system = self.sentences(entry, "notes"), str(entry.get("system", name))
        drawn = self.sentences(entry, "figures")
        return Table(name, entry["title"], entry["paper"], system, seeds, runs, tuple(rows), notes, drawn)

    def sentences(self, entry: Mapping[str, Any], key: str) -> tuple[str, ...]:
        """What stands under a key that may be missing."""
        told = entry.get(key) or ()
        if isinstance(told, str) or not all(isinstance(one, str) for one in told):
            raise self.wrong(f"{key} is no list of sentences")
        return tuple(told)

    def per_budget(self, spec: Any, place: str) -> dict[str, tuple[str, ...]]:
        """Overrides of runs by budget, from one list for all or a list for each."""
        specs = spec if isinstance(spec, dict) else dict.fromkeys(self.budgets, spec)
        self.keys(specs, self.budgets, (), place)
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
        rules = self.rules(entry["rule"], published, place) if "rule" in entry else {}
        for rule in rules.values():
            if rule.rests_on == "row" and not (rule.other or further):
                raise self.wrong(f"{place}, rule: rests_on=row takes above, below, or a row with minus or over")
            if rule.paired and further:
                raise self.wrong(f"{place}, rule: paired=record is of one number, without minus and over")
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
            rules=rules,
            note=str(entry.get("note", "")),
        )

    def quantity(self, entry: Any, runs: Mapping[str, Any], place: str) -> Quantity:
        self.keys(entry, ("run", "metric"), ("run", "metric"), place)
        if entry["run"] not in runs:
            raise self.wrong(f"{place}: run={entry['run']} is none of {', '.join(runs)}.{did_you_mean(str(entry['run']), runs)}")
        return Quantity(entry["run"], str(entry["metric"]))

    def published(self, entry: Any, place: str) -> dict[str, Record]:
        """The record that stands beside the row, by budget; none where the file has none."""
        if entry is None:
            return {}
        named = entry if isinstance(entry, dict) else dict.fromkeys(self.budgets, entry)
        self.keys(named, self.budgets, (), f"{place}, published")
        for name in named.values():
            if name not in self.records:
                hint = did_you_mean(str(name), self.records)
                raise self.wrong(f"{place}, published: no record {name} (FILE/NAME of conf/published).{hint}")
        return {budget: self.records[name] for budget, name in named.items()}

    def rules(self, entry: Any, published: Mapping[str, Record], place: str) -> dict[str, Rule]:
        """The rule by budget; one that needs a record, or rests on one, must have it."""
        if not isinstance(entry, dict):
            raise self.wrong(f"{place}: rule is no mapping")
        split = entry if set(entry) & set(BUDGETS) else dict.fromkeys(self.budgets, entry)
        self.keys(split, self.budgets, (), f"{place}, rule")
        made = {}
        for budget, rule in split.items():
            try:
                made[budget] = Rule.make(rule)
                self.supported(made[budget], published.get(budget))
            except ValueError as error:
                raise self.wrong(f"{place}, rule: {error}") from None
        return made

    def supported(self, rule: Rule, beside: Record | None) -> None:
        """Hold a rule to the record beside its row, as what it rests on asks.

        Raises:
            ValueError: the record that stands beside the rule's row is not the one it needs.
        """
        read = SUPPORT.get(rule.rests_on, (records.EARLIER,) if rule.within is not None else ())
        if rule.within is not None and beside is None:
            raise ValueError("within needs a published value")
        if read and (beside is None or beside.read not in read):
            found = f"; {beside.name} is read: {beside.read}" if beside else ""
            raise ValueError(f"rests_on={rule.rests_on} needs a published value read: {' or '.join(read)}{found}")
        if rule.paired and not beside.values:
            raise ValueError(f"paired=record needs a record with `values`; {beside.name} has one value")

    def keys(self, entry: Any, known: Sequence[str], needed: Sequence[str], place: str) -> None:
        """Refuse keys that are unknown, and the lack of one that is needed."""
        if not isinstance(entry, Mapping):
            raise self.wrong(f"{place} is no mapping")
        for key in entry:
            if key not in known:
                hint = f" This budget has a section of its own in the file, `{HOURS}:`." if key == HOURS else ""
                raise self.wrong(f"{place}: unknown key '{key}'.{hint or did_you_mean(str(key), known)}")
        if missing := [key for key in needed if key not in entry]:
            raise self.wrong(f"{place} lacks {missing[0]}")
