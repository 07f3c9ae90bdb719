"""Knobs: the arguments a part of a run is made with, whose types and allowed values stand in its constructor's signature.

A signature is the one place that says what a knob takes. It is read without importing its file, so that a wrong value is
refused before torch is loaded (`mistakes`), and it is checked again where the part is made from Python (`checked`). The
meaning of a knob is what the docstring says of it. Imports no torch.
"""

import ast
import functools
import inspect
import math
import re
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal

from maskbench.common.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class Within:
    """A number's range: `above` and `below` exclude their ends, `least` and `most` include them."""

    above: float | None = None
    least: float | None = None
    below: float | None = None
    most: float | None = None

    def holds(self, value: float) -> bool:
        return (
            math.isfinite(value)
            and (self.above is None or value > self.above)
            and (self.least is None or value >= self.least)
            and (self.below is None or value < self.below)
            and (self.most is None or value <= self.most)
        )

    def __str__(self) -> str:
        ends = (("above", self.above), ("at least", self.least), ("below", self.below), ("at most", self.most))
        return " and ".join(f"{words} {end:g}" for words, end in ends if end is not None)


@dataclass(frozen=True)
class FunctionIn:
    """The name of a public function of a module, or the dotted path of any importable one."""

    module: str

    def names(self) -> list[str]:
        tree = _parsed(self.module)
        return [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name[0] != "_"] if tree else []

    def holds(self, value: str) -> bool:
        module, _, name = value.rpartition(".")
        return value in self.names() or (bool(module) and bool(name) and _file(module) is not None)

    def __str__(self) -> str:
        return f"{', '.join(self.names())}, or a dotted path"


Share = Annotated[float, Within(least=0, below=1)]  # a part that goes
OpenShare = Annotated[float, Within(above=0, below=1)]
Keep = Annotated[float, Within(above=0, most=1)]  # a part that stays
Probability = Annotated[float, Within(least=0, most=1)]
Positive = Annotated[float, Within(above=0)]
NonNegative = Annotated[float, Within(least=0)]
Count = Annotated[int, Within(least=1)]
Whole = Annotated[int, Within(least=0)]

WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a word", NoneType: "null"}
NOT_KNOBS = {"self", "net"}  # what the program itself hands over
NOTHING = inspect.Parameter.empty


@dataclass(frozen=True)
class Knob:
    """One argument: `kind` is its annotation (Any where it cannot be told), `default` NOTHING where it must be given."""

    name: str
    kind: Any
    default: Any
    meaning: str


# ---- what a value must be


def fits(value: object, kind: Any) -> bool:
    """Whether a value as configs spell it (plain containers) is of a kind; a whole number is a number, too."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return True
    if origin is Annotated:
        return fits(value, args[0]) and all(rule.holds(value) for rule in args[1:] if hasattr(rule, "holds"))
    if origin in (typing.Union, UnionType):
        return any(fits(value, part) for part in args)
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in args)
    if origin in (Sequence, list, tuple, Iterable):
        items = [arg for arg in args if arg is not Ellipsis] or [Any]
        return isinstance(value, Sequence) and not isinstance(value, str) and all(fits(item, items[0]) for item in value)
    if origin in (Mapping, dict) or kind in (Mapping, dict):
        key, item = args or (Any, Any)
        return isinstance(value, Mapping) and all(fits(k, key) and fits(v, item) for k, v in value.items())
    if kind in (Sequence, list, tuple):
        return isinstance(value, Sequence) and not isinstance(value, str)
    if kind in (None, NoneType):
        return value is None
    if kind is bool:
        return isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, str) if kind is str else True  # a class of our own: an object that the program makes


def words(kind: Any) -> str:
    """What a kind takes, in words: "a number above 0 and below 1, or null"."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        rules = [rule for rule in args[1:] if hasattr(rule, "holds")]
        if any(isinstance(rule, FunctionIn) for rule in rules):
            return f"one of {', '.join(map(str, rules))}"
        return " ".join([words(args[0]), *map(str, rules)])
    if origin in (typing.Union, UnionType):
        return ", or ".join(words(part) for part in args)
    if origin is Literal:
        return " or ".join(map(_spelled, args)) if len(args) < 3 else f"one of {', '.join(map(_spelled, args))}"
    if origin in (Sequence, list, tuple, Iterable) or kind in (Sequence, list, tuple):
        items = [arg for arg in args if arg is not Ellipsis and arg is not Any]
        return f"a list, each {words(items[0])}" if items else "a list"
    if origin in (Mapping, dict) or kind in (Mapping, dict):
        return "a mapping"
    return WORDS.get(NoneType if kind is None else kind, "anything")


def mistake(key: str, value: object, kind: Any) -> str | None:
    """One sentence when `value` is not of the kind that `key` takes, else None."""
    if fits(value, kind):
        return None
    hint = did_you_mean(value, _choices(kind)) if isinstance(value, str) else ""
    return f"{key}={_spelled(value)} must be {words(kind)}.{hint}"


def mistakes(prefix: str, node: Mapping[str, Any], own: Iterable[str] = ()) -> Iterator[str]:
    """What is wrong with the settings of one part of a config, by the signature of its `_target_`.

    Args:
        prefix: of the keys, such as "method". node: plain containers. own: keys that are no arguments (name, about, ...).
    """
    knobs = read(node.get("_target_", ""))
    if knobs is None:
        return
    by_name = {knob.name: knob for knob in knobs}
    for name, value in node.items():
        if name.startswith("_") or name in own:
            continue
        if name not in by_name:
            if None not in by_name:  # else it takes any
                yield f"unknown key '{prefix}.{name}'.{did_you_mean(name, by_name)} It takes {', '.join(by_name)}."
        elif wrong := mistake(f"{prefix}.{name}", value, by_name[name].kind):
            yield wrong


def checked(init: Callable) -> Callable:
    """A constructor that refuses knobs of a wrong kind by the same sentences, for parts that are made in Python.

    Raises:
        UsageError: (when called) the first knob that is wrong.
    """
    signature = inspect.signature(init)

    @functools.wraps(init)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        kinds = _hints(init)
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            if name in kinds and name not in NOT_KNOBS and (wrong := mistake(f"method.{name}", value, kinds[name])):
                raise UsageError(wrong)
        init(*args, **kwargs)

    return wrapper


def _hints(init: Callable) -> dict[str, Any]:
    try:
        return typing.get_type_hints(init, include_extras=True)
    except (NameError, TypeError):  # names that exist for type checkers only
        return {}


def _choices(kind: Any) -> list[str]:
    args = typing.get_args(kind)
    if typing.get_origin(kind) is Literal:
        return [choice for choice in args if isinstance(choice, str)]
    rules = [rule.names() for rule in args if isinstance(rule, FunctionIn)]
    return [name for names in rules for name in names] + [n for arg in args if typing.get_args(arg) for n in _choices(arg)]


def _spelled(value: object) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{k}: {_spelled(v)}' for k, v in value.items())}}}"
    return f"[{','.join(map(_spelled, value))}]" if isinstance(value, Sequence) and not isinstance(value, str) else str(value)


# ---- reading a signature without importing its file


@functools.cache
def read(target: str) -> tuple[Knob, ...] | None:
    """The knobs of a class or function by its dotted name; None where its file or its name cannot be found.

    A knob named None stands for `**anything`.
    """
    module, _, name = target.rpartition(".")
    tree = _parsed(module)
    made = (
        next((n for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef) and n.name == name), None) if tree else None
    )
    if made is None:
        return None
    function, doc = made, ast.get_docstring(made) or ""
    if isinstance(made, ast.ClassDef):
        function = next((n for n in made.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
        if function is None:
            return ()
        doc += "\n" + (ast.get_docstring(function) or "")
    names = _namespace(tree)
    args = function.args
    plain = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(plain) - len(args.defaults)) + list(args.defaults)
    pairs = [*zip(plain, defaults, strict=True), *zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    said = meanings(doc, [arg.arg for arg, _ in pairs])
    knobs = [
        Knob(arg.arg, _evaluated(arg.annotation, names), _literal(default), said.get(arg.arg, ""))
        for arg, default in pairs
        if arg.arg not in NOT_KNOBS
    ]
    return (*knobs, *([Knob(None, Any, NOTHING, "")] if args.kwarg else []))


def meanings(doc: str, names: Iterable[str]) -> dict[str, str]:
    """What a docstring says of each name: the text behind `name:` or `name, other:` up to the next one's."""
    names = sorted(names, key=len, reverse=True)
    if not names:
        return {}
    one = "|".join(map(re.escape, names))
    starts = list(re.finditer(rf"(?<![\w.`])((?:{one})(?:, (?:{one}))*): ", doc))
    texts = {}
    ends = [start.start() for start in starts[1:]] + [len(doc)]
    for start, end in zip(starts, ends, strict=False):
        text = doc[start.end() : end].split("\n\n")[0]
        for name in start[1].split(", "):
            texts.setdefault(name, " ".join(text.split()).rstrip("."))
    return texts


@functools.cache
def _file(module: str) -> Path | None:
    """A module's file, its parents imported but not itself."""
    try:
        spec = find_spec(module) if module else None
    except (ImportError, ValueError, AttributeError):
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


@functools.cache
def _parsed(module: str) -> ast.Module | None:
    from maskbench.common import moved

    path = _file(moved.MOVED.get(module, module))
    return ast.parse(path.read_text(encoding="utf-8")) if path else None


def _namespace(tree: ast.Module) -> dict[str, Any]:
    """Names an annotation may use: Python's own types, typing, abstract containers, and the kinds above."""
    import collections.abc

    sources = {"typing": typing, "collections.abc": collections.abc, __name__: None}
    names: dict[str, Any] = {t.__name__: t for t in (bool, int, float, str, list, dict, tuple)}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module in sources:
            for alias in node.names:
                place = globals() if sources[node.module] is None else vars(sources[node.module])
                names[alias.asname or alias.name] = place.get(alias.name, Any)
        elif isinstance(node, ast.ImportFrom) and node.module == "maskbench.common":
            names |= {alias.asname or alias.name: _Kinds for alias in node.names if alias.name == "knobs"}
    return names


class _KindsOf:
    """`knobs.Share` in an annotation."""

    def __getattr__(self, name: str) -> Any:
        return globals()[name]


_Kinds = _KindsOf()


def _evaluated(annotation: ast.expr | None, names: dict[str, Any]) -> Any:
    if annotation is None:
        return Any
    try:
        return eval(compile(ast.Expression(annotation), "<annotation>", "eval"), {"__builtins__": {}}, names)
    except Exception:  # a type of a package that is not loaded here
        return Any


def _literal(default: ast.expr | None) -> Any:
    if default is None:
        return NOTHING
    try:
        return ast.literal_eval(default)
    except ValueError:
        return ast.unparse(default)
