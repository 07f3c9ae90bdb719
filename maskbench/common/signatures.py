"""Signatures of classes and functions, read from their files without importing them: arguments, types, defaults, meanings.

Annotations may use Python's own types, typing, collections.abc, the kinds of knobs.py, and aliases of these at the top of a
file (`Rule = Literal["a", "b"]`), also imported ones; any other type is read as Any. Imports no torch.
"""

import ast
import functools
import inspect
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from maskbench.common import moved

NOT_KNOBS = {"self", "net"}  # what the program itself hands over
NOTHING = inspect.Parameter.empty
WITH_KINDS = ("typing", "collections.abc", "maskbench.common.knobs")  # imported to know what their names stand for
LIBRARIES = ("torch", "pytorch_lightning", "lightning_fabric")  # whose classes no config spells
LARGE = ("torch", "torchvision", "numpy")  # not searched for aliases: long files that have none


class Made:
    """Stands for a class of torch or Lightning in a signature: an object, which no value of a config is."""


@dataclass(frozen=True)
class Knob:
    """One argument: `kind` is its annotation (Any where it cannot be told), `default` NOTHING where it must be given."""

    name: str
    kind: Any
    default: Any
    meaning: str


def read(target: str) -> tuple[Knob, ...] | None:
    """The knobs of a class or function by its dotted name; None where they cannot be found without importing it.

    Where choices are keyword-only, what stands before them without a default is handed over by the program: no knob.
    A knob named None stands for `**anything`; what goes into `**_` is not looked at, so that it is none.
    """
    made, tree = _definition(*_place(target))
    if made is None:
        return None
    names, doc, function = _Names(tree), ast.get_docstring(made) or "", made
    if isinstance(made, ast.ClassDef):
        function = _member(made, "__init__")
        if function is None:
            return _inherited(made, names, doc)
        doc += "\n" + (ast.get_docstring(function) or "")
    return _arguments(function, names, doc)


def read_member(target: str, name: str) -> tuple[Knob, ...] | None:
    """The knobs of a function of a class, its own or inherited; None where it cannot be found without importing the class."""
    for made, module in ancestry(target)[0]:
        if function := _member(made, name):
            return _arguments(function, _Names(_parsed(module)), ast.get_docstring(function) or "")
    return None


def _member(made: ast.ClassDef, name: str) -> ast.FunctionDef | None:
    return next((node for node in made.body if isinstance(node, ast.FunctionDef) and node.name == name), None)


def _arguments(function: ast.FunctionDef, names: "_Names", doc: str) -> tuple[Knob, ...]:
    args = function.args
    plain = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(plain) - len(args.defaults)) + list(args.defaults)
    pairs = [(arg, default) for arg, default in zip(plain, defaults, strict=True) if default or not args.kwonlyargs]
    pairs += zip(args.kwonlyargs, args.kw_defaults, strict=True)
    texts = meanings(doc, [arg.arg for arg in [*plain, *args.kwonlyargs]])
    knobs = [
        Knob(arg.arg, _evaluated(arg.annotation, names), _literal(default), texts.get(arg.arg, ""))
        for arg, default in pairs
        if arg.arg not in NOT_KNOBS
    ]
    return (*knobs, *([Knob(None, Any, NOTHING, "")] if args.kwarg and args.kwarg.arg != "_" else []))


def _inherited(made: ast.ClassDef, names: "_Names", doc: str) -> tuple[Knob, ...] | None:
    """The knobs of a class without a constructor: a dataclass's fields, or its first base's."""
    if any("dataclass" in ast.unparse(decorator) for decorator in made.decorator_list):
        fields = [n for n in made.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)]
        texts = meanings(doc, [f.target.id for f in fields])
        return tuple(
            Knob(f.target.id, _evaluated(f.annotation, names), _literal(f.value), texts.get(f.target.id, "")) for f in fields
        )
    if not made.bases:
        return ()
    return read(names.origin(made.bases[0].id)) if isinstance(made.bases[0], ast.Name) else None


def _definition(module: str, name: str, depth: int = 4) -> tuple[ast.ClassDef | ast.FunctionDef | None, ast.Module | None]:
    """Where a name is defined, and the file around it; a folder that hands on what stands in its files is followed."""
    tree = _parsed(module)
    for node in tree.body if tree else ():
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return node, tree
        if depth and isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _definition(node.module, alias.name, depth - 1)
    return None, None


def meanings(doc: str, names: Iterable[str]) -> dict[str, str]:
    """What a docstring says of each name: the text behind `name:` or `name, other:` up to the next one's."""
    names = sorted(names, key=len, reverse=True)
    if not names:
        return {}
    one = "|".join(map(re.escape, names))
    starts = list(re.finditer(rf"(?<![\w.`])((?:{one})(?:, (?:{one}))*):\s", doc))
    texts = {}
    ends = [start.start() for start in starts[1:]] + [len(doc)]
    for start, end in zip(starts, ends, strict=False):
        text = doc[start.end() : end].split("\n\n")[0]
        for name in start[1].split(", "):
            texts.setdefault(name, " ".join(text.split()).rstrip("."))
    return texts


def _place(target: str) -> tuple[str, str]:
    """Module of a dotted name, and what its last part is called now."""
    module, _, name = target.rpartition(".")
    return module, moved.RENAMED.get(moved.MOVED.get(module, module), {}).get(name, name)


def _file(module: str) -> Path | None:
    """A module's file, by its present or its earlier name; not even its parents are imported."""
    parts = moved.MOVED.get(module, module).split(".")
    try:
        spec = find_spec(parts[0]) if parts[0] else None
    except (ImportError, ValueError):
        return None
    for i in range(2, len(parts) + 1):
        places = spec.submodule_search_locations if spec else None
        spec = PathFinder.find_spec(".".join(parts[:i]), places) if places else None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def _parsed(module: str) -> ast.Module | None:
    path = _file(module)
    return _tree(path, path.stat().st_mtime_ns) if path else None


@functools.lru_cache(maxsize=256)
def _tree(path: Path, changed: int) -> ast.Module | None:
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError):  # whoever imports it will say so
        return None


def bound(target: str) -> bool:
    """Whether the file of a dotted name binds it."""
    return defines(*_place(target))


def defines(module: str, name: str) -> bool:
    """Whether a module's file binds a name anywhere; where there is no such file to read, whether the name can be one."""
    tree = _parsed(module)
    if tree is None:
        return _file(module) is None and module.split(".")[0] in sys.modules
    nodes = list(ast.walk(tree))
    return any(name in (getattr(n, "asname", None), getattr(n, "name", None), getattr(n, "id", None)) for n in nodes)


def handed_over(target: str) -> list[str]:
    """Arguments without a default that stand before keyword-only ones, which a program hands over; none where it is unknown."""
    made, _ = _definition(*_place(target))
    function = _member(made, "__init__") if isinstance(made, ast.ClassDef) else made
    if function is None or not function.args.kwonlyargs:
        return []
    plain = [*function.args.posonlyargs, *function.args.args]
    return [arg.arg for arg in plain[: len(plain) - len(function.args.defaults)] if arg.arg != "self"]


def takes(target: str, count: int) -> bool:
    """Whether a function can be called with so many arguments, by its text; so also says what cannot be told by it."""
    made, _ = _definition(*_place(target))
    if not isinstance(made, ast.FunctionDef) or made.decorator_list:
        return True
    args = made.args
    most = len(args.posonlyargs) + len(args.args)
    enough = most - len(args.defaults) <= count and None not in args.kw_defaults
    return enough and (count <= most or args.vararg is not None)


def public_functions(module: str) -> list[str]:
    """Names of the functions that a module's file defines at its top, without those that begin with `_`."""
    tree = _parsed(module)
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name[0] != "_"] if tree else []


class _Names(dict):
    """What names in the annotations of a file stand for: Python's types, the kinds above, aliases; all else is Any."""

    def __init__(self, tree: ast.Module) -> None:
        super().__init__({t.__name__: t for t in (bool, int, float, str, list, dict, tuple)})
        self.tree = tree

    def __missing__(self, name: str) -> Any:
        self[name] = Any  # until it is known: an alias may not refer to itself
        self[name] = self.resolved(name)
        return self[name]

    def resolved(self, name: str) -> Any:
        for node in self.tree.body:
            if isinstance(node, ast.Assign) and [ast.unparse(t) for t in node.targets] == [name]:
                return _evaluated(node.value, self) if isinstance(node.value, ast.Subscript | ast.BinOp) else Any
        origin = self.origin(name)
        module, _, there = origin.rpartition(".")
        if origin in WITH_KINDS:
            return import_module(origin)
        if module in WITH_KINDS:
            return getattr(import_module(module), there, Any)
        if module.split(".")[0] in LIBRARIES and there[:1].isupper() and not there.isupper():
            return Made
        tree = _parsed(module) if module.split(".")[0] not in LARGE else None
        return _Names(tree)[there] if tree and tree is not self.tree else Any

    def origin(self, name: str) -> str:
        """Where a name is imported from, dotted; "" where it is not."""
        for node in self.tree.body:
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        return f"{node.module}.{alias.name}"
        return ""


def _evaluated(annotation: ast.expr | None, names: _Names) -> Any:
    if annotation is None:
        return Any
    try:
        kind = eval(compile(ast.Expression(annotation), "<annotation>", "eval"), {"__builtins__": {}}, names)
    except Exception:  # a type of a package that is not loaded here
        return Any
    return Any if isinstance(kind, str) else kind


def _literal(default: ast.expr | None) -> Any:
    if default is None:
        return NOTHING
    try:
        return ast.literal_eval(default)
    except ValueError:
        return ast.unparse(default)


# ---- classes and the classes they are made from

PLAIN_BASES = {"object", "torch.nn.Module", "typing.Protocol", "typing.Generic", "abc.ABC"}  # nothing is looked for in them


def ancestry(target: str) -> tuple[list[tuple[ast.ClassDef, str]], bool]:
    """A class and those it is made from, itself first, each with its module; and whether all of them could be read."""
    module, name = _place(target)
    made, _ = _definition(module, name)
    if not isinstance(made, ast.ClassDef):
        return [], False
    classes, whole = [(made, module)], True
    for base in (dotted(module, base) for base in made.bases):
        further, all_read = ([], True) if base in PLAIN_BASES else ancestry(base)
        classes, whole = [*classes, *further], whole and all_read
    return classes, whole


def dotted(module: str, expression: ast.expr) -> str:
    """The full name of what an expression such as `nn.Module` or `Method` stands for in a module."""
    words = ast.unparse(expression.value if isinstance(expression, ast.Subscript) else expression).split(".")
    tree = _parsed(module)
    own = {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)} if tree else set()
    first = f"{module}.{words[0]}" if words[0] in own else (_Names(tree).origin(words[0]) if tree else "") or words[0]
    return ".".join([first, *words[1:]])
