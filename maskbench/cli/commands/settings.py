"""`maskbench list GROUP NAME`: the settings of one choice, each with its default, what it takes and what it means.

Defaults are those of the choice's file, types and meanings those of what it configures. Imports no torch.
"""

import itertools
import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from maskbench.cli import command_line, parts
from maskbench.cli.commands import notes
from maskbench.cli.overrides import shown
from maskbench.common import every_method, given, identity, knobs
from maskbench.common.errors import UsageError, did_you_mean
from maskbench.runs.build import TARGETS, WORDS
from maskbench.tasks import fulfilment

WIDTH, DEFAULT, GAP = 100, 24, 2  # of a line, of the column of defaults at most, between columns
SHARED = {"backbone": given.OWN, "method": every_method.OWN}  # keys that config.yaml has for every choice
ARRANGED = {"one": "one stage", "pair": "a source and a target", "stream": "stages one after another", "numbers": "real targets",
            "samples": "samples of what a net was trained on"}  # fmt: skip


def show(group: str, name: str, folders: Sequence[Path]) -> None:
    """Print one choice.

    Raises:
        UsageError: there is no such choice, or its group configures nothing by a signature.
    """
    if group not in parts.PARTS:
        raise UsageError(
            f"settings are listed of {', '.join(parts.PARTS)}; maskbench show {group}={name} shows the whole config."
        )
    files = command_line.choices(list(folders), group)
    if name not in files:
        raise UsageError(f"no {group} '{name}'.{did_you_mean(name, files)} Choices: {', '.join(files)}.")
    node, text = parts.own(files, name, group), files[name].read_text()
    print(textwrap.fill(f"{group}={name}: {node.get('about') or notes.comment(text)}", WIDTH, subsequent_indent="  "))
    for line in facts(node):
        print(f"  {line}")
    print()
    entries = list(settings(group, node, text))
    widths = column_widths(entries)
    for *cells, meaning in entries:
        print(beside_each_other(cells, widths))
        if meaning:
            print(textwrap.fill(meaning, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6))
    if any(key.startswith("+") for key, *_ in entries):
        print("\n  A key with a plus sign stands in no file: it is set as it is written here, with the plus.")


def column_widths(entries: Sequence[Sequence[str]]) -> list[int]:
    """Of key, default and what it takes: a long default is broken, and the last column has the rest of a line."""
    key, default = (max((len(entry[i]) for entry in entries), default=0) for i in (0, 1))
    default = min(default, DEFAULT)
    return [key, default, max(WIDTH - key - default - 3 * GAP, DEFAULT)]


def beside_each_other(cells: Sequence[str], widths: Sequence[int]) -> str:
    """One entry as lines of columns; text is broken behind commas and spaces."""
    spaced = [cell.replace(",", ", ") if " " not in cell else cell for cell in cells]  # lists as configs spell them: [a,b]
    broken = [textwrap.wrap(cell, width, break_long_words=False, break_on_hyphens=False) or [""]
              for cell, width in zip(spaced, widths, strict=True)]  # fmt: skip
    broken = [
        lines if " " in cell else [line.replace(", ", ",") for line in lines] for cell, lines in zip(cells, broken, strict=True)
    ]
    rows = itertools.zip_longest(*broken, fillvalue="")
    return "\n".join(
        "".join(" " * GAP + text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def facts(node: dict[str, Any]) -> Iterator[str]:
    """What the choice is made by, and what goes with it."""
    if "_target_" in node:
        yield f"made by {node['_target_']}"
    if node.get("tasks"):
        yield f"does {', '.join(f'task={task}' for task in node['tasks'])}"
    if node.get("gives"):
        yield f"gives {', '.join(ARRANGED.get(kind, kind) for kind in node['gives'])}"
    if contract := fulfilment.read(str(node.get("needs"))):
        takes = ", ".join(ARRANGED.get(kind, kind) for kind in contract.takes)
        asks = fulfilment.named(contract.members) if contract.members else "no more than every method has"
        yield f"takes {takes}; asks of a method {asks}"
        for key, further in contract.when:
            if more := fulfilment.read(further):
                yield f"task.{key} asks of it {fulfilment.named(more.members)}"


def settings(group: str, node: dict[str, Any], text: str) -> Iterator[tuple[str, str, str, str]]:
    """(key, default, what it takes, meaning) of each key in the file's order, then of arguments that no file sets."""
    known = {knob.name: knob for knob in knobs.read(str(node.get("_target_", parts.TRAINER))) or ()}
    if group == "backbone":
        known = given.described(known)
    if group == "method":
        known |= every_method.OWN
    for name, value in alone(group, node).items():
        if name in WORDS or name == TARGETS or name.startswith("_"):
            continue
        knob = known.get(name)
        meaning = (knob.meaning if knob else "") or beside(text, name)
        yield f"{group}.{name}", shown(value), taken(knob) if knob else "", meaning
    for name, knob in known.items():
        if name is not None and name not in node and name not in parts.HANDED.get(group, ()) and group != "trainer":
            default = "" if knob.default is knobs.NOTHING else shown(knob.default)
            plus = "" if name in SHARED.get(group, ()) else "+"
            yield f"{plus}{group}.{name}", default, taken(knob), knob.meaning


def alone(group: str, node: dict[str, Any]) -> dict[str, Any]:
    """A choice's keys as they are where nothing else is chosen: what follows from other groups stays as the file has it."""
    identity.register()
    config = OmegaConf.create({group: node})
    values = {}
    for name, value in node.items():
        try:
            values[name] = OmegaConf.to_container(OmegaConf.create([config[group][name]]), resolve=True)[0]
        except (OmegaConfBaseException, UsageError):
            values[name] = value
    return values


def taken(knob: knobs.Knob) -> str:
    return knobs.words(knob.kind).removesuffix(", or anything")


def beside(text: str, key: str) -> str:
    """The comment behind a key of a file."""
    match = re.search(rf"^\s*{re.escape(key)}:[^#\n]*#\s*(.+)$", text, re.MULTILINE)
    return match[1] if match else ""
