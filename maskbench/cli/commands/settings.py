"""`maskbench list GROUP NAME`: the settings of one choice, each with its default, what it takes and what it means.

Defaults are those of the choice's file, types and meanings those of what it configures. Imports no torch.
"""

import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from maskbench.cli import command_line, parts
from maskbench.cli.commands.common import aligned
from maskbench.cli.overrides import shown
from maskbench.common import knobs
from maskbench.common.errors import UsageError, did_you_mean
from maskbench.runs.build import WORDS
from maskbench.tasks import fulfilment

WIDTH = 100
ARRANGED = {"one": "one stage", "pair": "a source and a target", "stream": "stages one after another", "numbers": "real targets"}


def show(group: str, name: str, folders: Sequence[Path], describe: Callable[[str], str]) -> None:
    """Print one choice; `describe` takes the description out of a file's text.

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
    print(f"{group}={name}: {node.get('about') or describe(text)}")
    for line in facts(node):
        print(f"  {line}")
    print()
    entries = list(settings(group, node, text))
    for (*_, meaning), line in zip(entries, aligned([entry[:3] for entry in entries], indent="  ").splitlines(), strict=True):
        print(line)
        if meaning:
            print(textwrap.fill(meaning, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6))
    if any(key.startswith("+") for key, *_ in entries):
        print("\n  A key with a plus sign stands in no file: it is set as it is written here, with the plus.")


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
    for name, value in node.items():
        if name in WORDS or name.startswith("_"):
            continue
        knob = known.get(name)
        meaning = (knob.meaning if knob else "") or beside(text, name)
        yield f"{group}.{name}", shown(value), taken(knob) if knob else "", meaning
    for name, knob in known.items():
        if name is not None and name not in node and name not in parts.HANDED.get(group, ()) and group != "trainer":
            default = "" if knob.default is knobs.NOTHING else shown(knob.default)
            yield f"+{group}.{name}", default, taken(knob), knob.meaning


def taken(knob: knobs.Knob) -> str:
    return knobs.words(knob.kind).removesuffix(", or anything")


def beside(text: str, key: str) -> str:
    """The comment behind a key of a file."""
    match = re.search(rf"^\s*{re.escape(key)}:[^#\n]*#\s*(.+)$", text, re.MULTILINE)
    return match[1] if match else ""
