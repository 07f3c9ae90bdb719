"""The rooms of the package and their floors: what may import what, read from the source.

A room's modules import their own room and those below it, never one above, and no circle of modules, not even one that
closes inside a function or through `import_module("maskbench...")`.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import maskbench

PACKAGE, TESTS = Path(maskbench.__file__).parent, Path(__file__).parents[1]
FLOORS = {  # room -> the rooms it may import, besides itself
    "common": "",
    "masks": "common",
    "backbones": "common masks",
    "data": "common masks",
    "training": "common masks backbones data",
    "methods": "common masks backbones data training",
    "tasks": "common masks backbones data training methods",
    "report": "common",
    "runs": "common masks backbones data training methods tasks report",
    "cli": "common masks backbones data training methods tasks report runs",
}
# imports inside functions: (module, what it imports there) -> why not at the top
LAZY = {
    ("", "runs.read_back"): "`maskbench.load` needs torch, `import maskbench` does not",
    ("cli.commands.compare", "cli.commands.figure report"): "matplotlib and numpy, only once the arguments are right",
    ("cli.commands.compact", "backbones runs"): "torch, only once the arguments are right",
    ("cli.commands.data", "data"): "numpy and the readers of files, only once the arguments are right",
    ("cli.commands.export", "runs"): "torch, only once the arguments are right",
    ("cli.commands.figure", "report"): "matplotlib, only once the arguments are right",
    ("cli.commands.forget", "cli.parts runs tasks"): "hydra and torch, only once the arguments are right",
    ("cli.commands.list", "cli.command_line cli.commands.settings"): "hydra, which help does without",
    ("cli.commands.paired", "report"): "matplotlib, only once the arguments are right",
    ("cli.commands.report", "report"): "the page's template and drawings, only once the arguments are right",
    ("cli.commands.show", "cli.preflight report runs"): "hydra, torch or the reader of W&B files, whichever is needed",
    ("cli.commands.table", "report"): "matplotlib, only where a table is drawn",
    ("cli.commands.table", "cli.slurm_table"): "only where Slurm does the runs",
    ("cli.commands.where", "cli.command_line cli.preflight"): "hydra, which help does without",
    ("cli.forks", "runs training"): "torch, only in the forked process",
    ("cli.launch", "cli.command_line cli.preflight report.runs runs"): "hydra and torch, only once a job runs",
    (
        "cli.main",
        "cli.command_line cli.commands cli.launch cli.start common.identity common.yamls",
    ): "one sub-command imports no other's needs, and help and what reads records no hydra",
    ("cli.preloaded", ""): "a process that runs are forked from imports every module there is",
    (
        "cli.start",
        "cli.command_line cli.preflight cli.ray_launcher cli.side_by_side cli.slurm_launcher cli.sweep_clock",
    ): "hydra, which help does without",
    ("cli.table_runs", "cli.preflight cli.side_by_side"): "hydra, which help and a list of the tables do without",
    ("common.asked", "common.given"): "the readers of recipes, which records of many runs do without",
    ("data.sources.find", "data.stage"): "torch, which a list of the data sets does without",
    ("data.sources.find_tables", "data.stage"): "torch, which a list of the data sets does without",
    ("data.sources.small_sets", "data.stage"): "torch, which a list of the data sets does without",
    (
        "runs.assemble",
        "report.figures runs.source_run",
    ): "not before the first step, and of the latter only where it is asked for",
    ("report.figures", "report"): "each family of figures is found by its file, so that a new one changes no other",
}


@dataclass(frozen=True)
class Import:
    """That one module imports another; names are below `maskbench`, the package's own is empty."""

    by: str
    what: str
    line: int
    lazy: bool


@cache
def modules() -> dict[str, Path]:
    names = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


@cache
def imports() -> list[Import]:
    """All of them but those of `maskbench` itself (its version), which every other one brings with it anyway."""
    return [one for name, path in modules().items() for one in _imports(name, ast.parse(path.read_text()), False)]


def _imports(module: str, node: ast.AST, lazy: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        inside = lazy or isinstance(child, ast.FunctionDef | ast.Lambda)
        for name in _names(child):
            if name.startswith("maskbench.") and (below := name.removeprefix("maskbench.")) != module:
                yield Import(module, below, child.lineno, inside)
        for below in _by_string(child):
            if below != module:
                yield Import(module, below, child.lineno, True)
        yield from _imports(module, child, inside)


def _names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        full = [f"{node.module}.{alias.name}" for alias in node.names]
        return [name if name.removeprefix("maskbench.") in modules() else node.module for name in full]
    return []


def _by_string(node: ast.AST) -> list[str]:
    """What `import_module(...)` may import, where its argument begins with the package's name."""
    if not (isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "import_module"):
        return []
    given = node.args[0].values[0] if isinstance(node.args[0], ast.JoinedStr) else node.args[0]
    if not (isinstance(given, ast.Constant) and given.value.startswith("maskbench.")):
        return []
    begin = given.value.removeprefix("maskbench.")
    return [name for name in modules() if name.startswith(begin) and not modules()[name].name.startswith("__")]


def room(module: str) -> str:
    return module.split(".")[0]


def test_the_rooms_are_those_of_the_floors_and_at_most_twelve_entries_stand_beside_them() -> None:
    entries = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert entries == {*FLOORS, "__init__.py", "__main__.py"} and len(entries) <= 12


def test_every_room_says_in_its_first_lines_what_lives_there_and_what_it_may_import() -> None:
    for init in PACKAGE.rglob("*/__init__.py"):
        about = ast.get_docstring(ast.parse(init.read_text())) or ""
        assert about, f"{init.relative_to(PACKAGE)} has no docstring"
        if init.parent.parent == PACKAGE:
            assert "Imports" in about, f"{init.relative_to(PACKAGE)} does not say what may be imported here"


@pytest.mark.parametrize("name", FLOORS)
def test_no_arrow_goes_up(name: str) -> None:
    allowed = {name, *FLOORS[name].split()}
    up = [
        f"{one.by}:{one.line} imports {one.what}" for one in imports() if room(one.by) == name and room(one.what) not in allowed
    ]
    assert not up


def test_no_circle_of_modules() -> None:
    below: dict[str, set[str]] = {name: set() for name in modules()}
    for one in imports():
        if one.by not in ("", "cli.preloaded"):
            below[one.by].add(one.what)
    while leaves := [name for name, others in below.items() if not others & below.keys()]:
        for name in leaves:
            del below[name]
    assert not below, f"these import one another in a circle, or stand above one: {sorted(below)}"


def test_imports_inside_functions_are_those_that_keep_the_start_fast() -> None:
    listed = {(by, what) for by, places in LAZY for what in places.split()}
    used = set()
    for one in imports():
        if one.lazy:
            places = {(by, what) for by, what in listed if by == one.by and f"{one.what}.".startswith(f"{what}.")}
            assert places, f"{one.by}:{one.line} imports {one.what} inside a function: at the top, or into LAZY with the reason"
            used |= places
    assert used == listed


def test_the_tests_are_the_same_tree() -> None:
    """Each folder of tests is a room or one of its folders, but for those that hold the package as a whole."""
    whole = {"acceptance", "contract", "docs", "hostile", "parity"}
    for folder in TESTS.rglob("*/"):
        place = folder.relative_to(TESTS)
        if place.parts and place.parts[0] not in whole and any(folder.glob("test_*.py")):
            assert (PACKAGE / place).is_dir(), f"tests/{place} is no folder of maskbench/"
