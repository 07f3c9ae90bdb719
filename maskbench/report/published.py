"""Published values (conf/published): each a record with its setting, written once; tables refer to it as FILE/NAME.

FILE.yaml is a mapping of names to records; a record has
  value or values     the number with the decimals it is printed with, or one for each division of the data, in their order
  net, data, budget   the setting: a name of conf/backbone or conf/data, or keys of the run's `backbone`, `data` or `budget`;
  stages              how many; each of the four may be `not named` (unlike every run's) or `any` (it cannot matter)
  place               where it stands: section, table, row; file and commit
  read                how it was read: one of READ
  by                  of a quoted value: who quotes it
  words               what it says, in at most fifteen words
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from maskbench.common import yamls
from maskbench.common.asked import spelling
from maskbench.common.errors import UsageError, did_you_mean
from maskbench.report.runs import Run

PAPER, FILES, CODE, QUOTED, EARLIER = "paper", "authors' files", "authors' code in our setting", "quoted", "ours, earlier"
READ = (PAPER, FILES, CODE, QUOTED, EARLIER)
TOLD = {  # how a sentence about the value begins
    PAPER: "Published",
    FILES: "Published",
    CODE: "Authors' code in our setting",
    QUOTED: "Quoted",
    EARLIER: "Ours, earlier",
}
SETTING = ("net", "data", "budget", "stages")
GROUPS = {"net": "backbone", "data": "data", "budget": "budget"}  # where a run's config has them
UNNAMED, ANY = "not named", "any"
KEYS = ("value", "values", *SETTING, "place", "read", "by", "words")
NEEDED = (*SETTING, "place", "read", "words")
KINDS = {"stages": ((), "a whole number"), "budget": (Mapping, "keys of a budget such as {epochs: 40}")}
MOST = 15  # words


class Decimals(yamls.LOADER):
    """YAML whose numbers keep the decimals they are written with."""


def _decimal(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Decimal | float:
    text = node.value.replace("_", "")
    return float(text.replace(".", "")) if text.lower().lstrip("+-") in (".nan", ".inf") else Decimal(text)


Decimals.add_constructor("tag:yaml.org,2002:float", _decimal)


@dataclass(frozen=True)
class Record:
    """A value as others published it or as it was measured before, with all that is known of its setting."""

    name: str  # FILE/NAME
    value: float  # of several, their mean
    text: str  # as it is printed
    values: tuple[float, ...]  # by division
    setting: Mapping[str, Any]  # net, data, budget, stages
    place: str
    read: str
    by: str
    words: str

    @property
    def origin(self) -> str:
        """Whose it is, in brackets behind the value; empty where the paper or its authors' files have it."""
        return {QUOTED: f"quoted by {self.by}", CODE: "authors' code", EARLIER: EARLIER}.get(self.read, "")

    @property
    def sentence(self) -> str:
        by = f" by {self.by}" if self.by else ""
        return f"{TOLD[self.read]}{by}: {self.words} ({self.place})"


def other_setting(record: Record, runs: Iterable[Run]) -> list[str]:
    """In what the setting of the record differs from that of these runs, in words; empty where a difference means something."""
    return list(dict.fromkeys(words for run in runs for words in _differences(record, run)))


def _differences(record: Record, run: Run) -> Iterator[str]:
    whose = {CODE: "authors' code", EARLIER: "earlier"}.get(record.read, "paper")
    for part, told in record.setting.items():
        here, there = _sides(part, told, run)
        if told != ANY and here != there:
            yield f"{part} {_budget(run) if part == 'budget' else here}, {whose}: {there}"


def _budget(run: Run) -> str:
    found = run.config.get("budget") or {}
    return _words({key: found[key] for key in ("steps", "epochs", "batch_size") if found.get(key) is not None})


def _sides(part: str, told: Any, run: Run) -> tuple[str, str]:
    """What the run and the record say about a part of the setting, in the same words where they agree."""
    if part == "stages":
        return str(stages(run)), spelled(told)
    group = run.config.get(GROUPS[part]) or {}
    asked = told if isinstance(told, Mapping) else {"name": told}
    return _words({key: group.get(key) for key in asked}), _words(asked)


def _words(keys: Mapping[str, Any]) -> str:
    return " ".join(spelled(value) if key == "name" else f"{key}={spelled(value)}" for key, value in keys.items())


def spelled(value: Any) -> str:
    """A value of a config or a record in one spelling."""
    return value if isinstance(value, str) else spelling(float(value) if isinstance(value, Decimal) else value)


def setting(record: Record) -> str:
    """The setting of the record in words."""
    parts = {part: _words(told) if isinstance(told, Mapping) else spelled(told) for part, told in record.setting.items()}
    return "; ".join(f"{part} {words}" for part, words in parts.items())


def stages(run: Run) -> int:
    """How many stages the run learns: those asked for, unless they come again; else those it recorded."""
    data = run.config.get("data") or {}
    asked = data.get("stages") if data.get("visits") is None else None
    return asked if isinstance(asked, int) else len((run.about.get("data") or {}).get("fingerprints") or []) or 1


# ---- the files


def load(folders: Iterable[Path]) -> dict[str, Record]:
    """FILE/NAME -> record, over the config folders; a later folder's file stands in for an earlier one's of its name.

    Raises:
        UsageError: a file says something wrong; the message names the file and the record.
    """
    files = {path.stem: path for folder in folders for path in sorted((folder / "published").glob("*.yaml"))}
    return {f"{stem}/{name}": record for stem, path in files.items() for name, record in _file(stem, path)}


def _file(stem: str, path: Path) -> Iterator[tuple[str, Record]]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Decimals)
    except (yaml.YAMLError, UnicodeDecodeError, ArithmeticError) as error:
        raise UsageError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path} is no mapping of names to records.")
    for name, entry in content.items():
        try:
            yield str(name), _record(f"{stem}/{name}", entry)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{path}: {name}: {error}") from None


def _record(name: str, entry: Any) -> Record:
    """One record from its entry in a file.

    Raises:
        ValueError: what is wrong with the record.
    """
    if not isinstance(entry, Mapping):
        raise ValueError("is no mapping")
    for key in entry:
        if key not in KEYS:
            raise ValueError(f"unknown key '{key}'.{did_you_mean(str(key), KEYS)}")
    if missing := [key for key in NEEDED if not entry.get(key)]:
        raise ValueError(f"lacks {missing[0]}")
    if ("value" in entry) == ("values" in entry):
        raise ValueError("takes one of value and values")
    if entry["read"] not in READ:
        raise ValueError(f"read={entry['read']} is none of {', '.join(READ)}")
    if (entry["read"] == QUOTED) != bool(entry.get("by")):
        raise ValueError("`by` says who quotes a value, with read: quoted alone")
    if len(str(entry["words"]).split()) > MOST:
        raise ValueError(f"words are more than {MOST}")
    _check_setting(entry)
    values = _numbers(entry.get("values", [entry.get("value")]))
    text = str(entry["value"]) if "value" in entry else f"{fmean(values):.4g}"
    return Record(
        name=name,
        value=fmean(values),
        text=text,
        values=tuple(values) if "values" in entry else (),
        setting={part: entry[part] for part in SETTING},
        place=str(entry["place"]),
        read=entry["read"],
        by=str(entry.get("by", "")),
        words=str(entry["words"]),
    )


def _check_setting(entry: Mapping[str, Any]) -> None:
    for part in SETTING:
        told = entry[part]
        if told in (UNNAMED, ANY) or (part == "stages" and type(told) is int):
            continue
        kinds, kind = KINDS.get(part, ((str, Mapping), "a name or keys of the run's group"))
        if not isinstance(told, kinds):
            raise ValueError(f"{part}={told} is neither {kind} nor `{UNNAMED}` nor `{ANY}`")


def _numbers(told: Any) -> Sequence[float]:
    if not isinstance(told, list) or not told:
        raise ValueError("values is no list of numbers")
    for one in told:
        if isinstance(one, bool) or not isinstance(one, int | float | Decimal) or not math.isfinite(one):
            raise ValueError(f"{one!r} is no finite number")
    return list(map(float, told))
