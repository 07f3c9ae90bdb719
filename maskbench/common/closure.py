"""Which code computes a run: the modules it imports from the rooms that compute and from the user's own folder, each with a
hash of what it says. Imports no torch, and imports none of the modules it reads.

The import graph is read from the sources, functions included, beginning at what assembles every run and at the names of
code in the config. So it is the same in a fresh process, in a fork and in one that has imported everything. A hash is of
the parsed code without docstrings, comments, formatting and blocks for type checkers, which cannot change a number.
"""

import ast
import hashlib
import importlib.util
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from maskbench.common import moved

PACKAGE = Path(__file__).resolve().parents[1]
ROOMS = ("masks", "backbones", "data", "training", "methods", "tasks")  # folders of the package that compute
SINGLES = {
    "maskbench.common.streams",
    "maskbench.common.named",
    "maskbench.common.dotted",
    "maskbench.runs.assemble",
    "maskbench.runs.build",
}
COMPUTING = re.compile(rf"maskbench\.(?:{'|'.join(ROOMS)})(?:\.|$)")
START = ("maskbench.runs.assemble",)
PARTS = (
    "method",
    "backbone",
    "data",
    "task",
    "optimizer",
    "schedule",
    "loss",
    "callbacks",
)  # of a config: what names code that computes
DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
INSTALLED = {"site-packages", "dist-packages"}
SETTLED = 2 * 10**9  # nanoseconds: of a file that changed later a second change might not show


@dataclass(frozen=True)
class Code:
    """closure: one short hash for all of it. modules: name -> hash of its parsed code, in order of the names."""

    closure: str
    modules: Mapping[str, str]

    @property
    def record(self) -> dict[str, Any]:
        return {"closure": self.closure, "modules": dict(self.modules)}


def of(config: Mapping[str, Any]) -> Code:
    """The code that computes the run of a resolved config (plain containers)."""
    return reached((*START, *names({part: config.get(part) for part in PARTS})))


def reached(roots: Iterable[str]) -> Code:
    """The code of dotted names (modules or what is in them) and of all that these import, as far as it computes."""
    places = _reach(tuple(sorted(set(roots))))
    modules = {name: _source(path).hash for name, path in sorted(places.items())}
    words = json.dumps(modules, separators=(",", ":"))
    return Code(hashlib.sha256(words.encode()).hexdigest()[:10], modules)


def names(node: Any) -> Iterator[str]:
    """The strings of a config that may name code: a `_target_`, or a function chosen by its dotted path."""
    if isinstance(node, str):
        if DOTTED.fullmatch(node):
            yield node
    elif isinstance(node, Mapping):
        for part in node.values():
            yield from names(part)
    elif isinstance(node, list | tuple):
        for part in node:
            yield from names(part)


def hold(code: Code | None = None) -> None:
    """From now on these modules (None: the package's own that compute) count in this process as they are now: a file that is
    edited later is not what was imported."""
    known = code.modules if code else [_dotted(path) for path in PACKAGE.rglob("*.py")]
    for name in known:
        if (path := _file(name)) is not None and (code or _computes(name)):
            _held[path] = _source(path)


def changed(recorded: Mapping[str, str], present: Mapping[str, str]) -> list[str]:
    """The modules that differ between two codes: other content, or in one of them only."""
    return sorted(name for name in {*recorded, *present} if recorded.get(name) != present.get(name))


def readable(name: str) -> bool:
    """Whether the module can be read from here; a user's own lies where the run was started."""
    return _file(name) is not None


# ---- the import graph


def _reach(roots: tuple[str, ...]) -> dict[str, Path]:
    """Module -> file of all that is reached."""
    places: dict[str, Path] = {}
    lies = cache(_file)  # for this once: the next may find other files
    todo = [module for root in roots for module in _modules(root, lies)]
    asked, seen = set(), set()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        if not _computes(name) or (path := lies(name)) is None:
            continue
        places[name] = path
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for level, module, attribute in _source(path).imports:
            if (one := (_absolute(package, level, module), attribute)) not in asked:
                asked.add(one)
                todo += _modules(one[0], lies, one[1])
    return places


def _modules(dotted: str, lies: Callable[[str], Path | None], attribute: str = "") -> Iterator[str]:
    """The modules that importing `attribute` from `dotted` runs: the longest part of the name that is one, and its packages.
    `lies`: the file of a module, as `_file` finds it."""
    dotted = f"{dotted}.{attribute}" if attribute else dotted
    words = dotted.split(".")
    if words[0] != "maskbench" and not _own(words[0]):
        return
    for count in range(1, len(words) + 1):
        old = ".".join(words[:count])
        name = moved.MOVED.get(old, old)
        if lies(name) is None and count < len(words) and not _folder(name):
            return
        yield name
        if name != old:
            yield from _modules(name, lies)
        if name in moved.FOLDERS and (count == len(words) or lies(".".join(words[: count + 1])) is None):
            yield moved.FOLDERS[name]


def _absolute(package: str, level: int, module: str) -> str:
    if level == 0:
        return module
    words = package.split(".")
    return ".".join(filter(None, [*words[: len(words) - level + 1], module]))


def _computes(name: str) -> bool:
    if name == "maskbench" or name.startswith("maskbench."):
        return name in SINGLES or COMPUTING.match(name) is not None
    return True


# ---- where modules lie


def _file(name: str) -> Path | None:
    """The source of a module of the package or of the user's own; None for any other name."""
    root, *rest = name.split(".")
    places = [PACKAGE] if root == "maskbench" else _own(root)
    for place in places:
        if place.suffix == ".py" and not rest:
            return place
        path = place.joinpath(*rest)
        for file in (path.with_suffix(".py") if rest else path / "__init__.py", path / "__init__.py"):
            if file.is_file():
                return file
    return None


def _folder(name: str) -> bool:
    """Whether the name is a package without a file of its own."""
    root, *rest = name.split(".")
    return any(place.joinpath(*rest).is_dir() for place in ([PACKAGE] if root == "maskbench" else _own(root)))


def _dotted(path: Path) -> str:
    words = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(words[:-1] if words[-1] == "__init__" else words)


def _own(root: str) -> list[Path]:
    """Where a top module of the user's own lies: its file, or its folders; nothing for installed and built-in ones."""
    if root in sys.stdlib_module_names or root == "maskbench":
        return []
    if (key := (root, tuple(sys.path), os.getcwd())) not in _lies:
        try:
            spec = importlib.util.find_spec(root)  # of a top module, which imports nothing
        except (ImportError, ValueError, AttributeError):
            spec = None
        if spec is None:
            return []
        places = [Path(place).absolute() for place in spec.submodule_search_locations or [spec.origin or ""]]
        installed = any(INSTALLED & set(place.parts) for place in places)
        _lies[key] = [] if installed else [place for place in places if place.suffix == ".py" or place.is_dir()]
    return _lies[key]


# ---- what a module says


@dataclass(frozen=True)
class _Source:
    stamp: tuple[int, ...]  # of the file: inode, bytes, times of change in nanoseconds
    hash: str
    imports: tuple[tuple[int, str, str], ...]  # (dots in front, module, what is taken from it)


_lies: dict[tuple[str, tuple[str, ...], str], list[Path]] = {}  # of top modules that were found
_read: dict[Path, _Source] = {}
_held: dict[Path, _Source] = {}


def _source(path: Path) -> _Source:
    if path in _held:
        return _held[path]
    status = path.stat()
    stamp = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if path not in _read or _read[path].stamp != stamp:
        _read[path] = _parsed(path.read_bytes(), stamp)
    return _read[path]


def learnt() -> dict[str, list[Any]]:
    """What has been read of sources, for `recall` in another process of this Python: plain lists by the path of the file."""
    settled = time.time_ns() - SETTLED
    return {str(path): [one.stamp, one.hash, one.imports] for path, one in _read.items() if one.stamp[-1] < settled}


def recall(sources: Mapping[str, Any]) -> None:
    """Take up what another process learnt: a file that is not what it was is read again."""
    for path, (stamp, digest, imports) in sources.items():
        _read.setdefault(Path(path), _Source(tuple(stamp), digest, tuple(map(tuple, imports))))


def _parsed(content: bytes, stamp: tuple[int, ...]) -> _Source:
    """A file that is no Python counts by its bytes: whoever imports it will hear what is wrong."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return _Source(stamp, hashlib.sha256(content).hexdigest()[:12], ())
    words: list[str] = []
    imports: list[tuple[int, str, str]] = []
    _spell(tree, words, imports)
    spelled = "\0".join(words).encode("utf-8", "surrogatepass")
    return _Source(stamp, hashlib.sha256(spelled).hexdigest()[:12], tuple(dict.fromkeys(imports)))


def _spell(node: Any, words: list[str], imports: list[tuple[int, str, str]]) -> None:
    """Append the node in words, equal for two nodes that do the same, and gather what is imported in it.

    Not ast.dump: that is slower, and spells one program differently from one version of Python to the next.
    """
    if isinstance(node, ast.AST):
        kind = type(node)
        if kind is ast.ImportFrom:
            imports += [(node.level, node.module or "", alias.name) for alias in node.names]
        elif kind is ast.Import:
            imports += [(0, alias.name, "") for alias in node.names]
        elif kind is ast.If and _for_checkers(node.test):
            _spell(node.orelse, words, imports)
            return
        words.append(kind.__name__)
        for name in node._fields:
            value = getattr(node, name, None)
            if value is None and kind is not ast.Constant or value == [] or name in ("ctx", "kind", "type_comment"):
                continue
            words.append(name)
            _spell(value, words, imports)
        words.append(")")
    elif isinstance(node, list):
        words.append("[")
        for part in node:
            if not _silent(part):
                _spell(part, words, imports)
        words.append("]")
    else:
        words.append(repr(node))


def _silent(node: Any) -> bool:
    """Whether a statement does nothing: a docstring, or pass."""
    kind = type(node)
    return kind is ast.Pass or kind is ast.Expr and type(node.value) is ast.Constant and isinstance(node.value.value, str)


def _for_checkers(test: ast.expr) -> bool:
    return getattr(test, "id", getattr(test, "attr", None)) == "TYPE_CHECKING"
