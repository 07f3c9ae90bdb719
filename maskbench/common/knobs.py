"""Knobs: the arguments a part of a run is made with, whose types and allowed values stand in its constructor's signature.

A signature is the one place that says what a knob takes. It is read without importing its file (signatures.py), so that a
wrong value is refused before torch is loaded (`mistakes`), and it is checked again where the part is made from Python
(`checked`). What relates two knobs, or a knob and the net, the constructor checks itself. Imports no torch.
"""

import functools
import inspect
import math
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Annotated, Any, Literal

from maskbench.common.errors import UsageError, did_you_mean
from maskbench.common.signatures import NOT_KNOBS, NOTHING, Knob, Made, bound, defines, handed_over, public_functions, read, takes

__all__ = [
    "NOTHING", "Count", "Dotted", "FunctionIn", "Keep", "Knob", "LayerName", "Layers", "Length", "NonNegative", "OfEach",
    "OpenShare", "Positive", "Probability", "Share", "Weights", "WeightsFile", "Whole", "Within", "checked", "fits", "mistake",
    "mistakes", "read", "ruled", "words",
]  # fmt: skip


@dataclass(frozen=True)
class Within:
    """A number's range: `above` and `below` exclude their ends, `least` and `most` include them; inf only with `infinite`."""

    above: float | None = None
    least: float | None = None
    below: float | None = None
    most: float | None = None
    infinite: bool = False

    def holds(self, value: float) -> bool:
        return (
            (math.isfinite(value) or (self.infinite and not math.isnan(value)))
            and (self.above is None or value > self.above)
            and (self.least is None or value >= self.least)
            and (self.below is None or value < self.below)
            and (self.most is None or value <= self.most)
        )

    def __str__(self) -> str:
        ends = (("above", self.above), ("at least", self.least), ("below", self.below), ("at most", self.most))
        return " and ".join(f"{words} {end:g}" for words, end in ends if end is not None)


@dataclass(frozen=True)
class Length:
    """How many entries a list has."""

    least: int = 0
    most: int | None = None

    def holds(self, value: Sequence) -> bool:
        return self.least <= len(value) and (self.most is None or len(value) <= self.most)

    def __str__(self) -> str:
        most = "or more" if self.most is None else f"to {self.most}"
        return f"({self.least} entries)" if self.least == self.most else f"({self.least} {most} entries)"


@dataclass(frozen=True)
class FunctionIn:
    """The name of a public function of a module, or the dotted path of any importable one of one argument; without a module,
    the latter."""

    module: str = ""

    def names(self) -> list[str]:
        return public_functions(self.module)

    def holds(self, value: str) -> bool:
        module, _, name = value.rpartition(".")
        return value in self.names() or (name.isidentifier() and defines(module, name) and takes(value, 1))

    def __str__(self) -> str:
        path = "the dotted path of a function of one argument"
        return ", ".join([*self.names(), f"or {path}"]) if self.module else path


@dataclass(frozen=True)
class LayerName:
    """The name of a module of the backbone, which is known once a net has been made."""

    def holds(self, value: str) -> bool:
        return all(word.isidentifier() or word.isdigit() for word in value.split("."))

    def __str__(self) -> str:
        return "that names a layer of the backbone"


@dataclass(frozen=True)
class OfEach:
    """A pattern N:M, which keeps N of each M inputs."""

    def holds(self, value: str) -> bool:
        n, _, m = value.partition(":")
        return n.isdecimal() and m.isdecimal() and 1 <= int(n) <= int(m)

    def __str__(self) -> str:
        return "N:M such as 2:4 (quoted in a yaml file, which reads it as minutes)"


@dataclass(frozen=True)
class WeightsFile:
    """The path of a file of tensors, whose name says how it is read."""

    def holds(self, value: str) -> bool:
        return value.endswith(SUFFIXES)

    def __str__(self) -> str:
        return f"that is the path of a {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"


SUFFIXES = (".safetensors", ".pth", ".pt", ".th")  # of files of tensors
Share = Annotated[float, Within(least=0, below=1)]  # a part that goes
OpenShare = Annotated[float, Within(above=0, below=1)]
Keep = Annotated[float, Within(above=0, most=1)]  # a part that stays
Probability = Annotated[float, Within(least=0, most=1)]
Positive = Annotated[float, Within(above=0)]
NonNegative = Annotated[float, Within(least=0)]
Count = Annotated[int, Within(least=1)]
Whole = Annotated[int, Within(least=0)]
Dotted = Annotated[str, FunctionIn()]  # beside a Literal of ours: one of the user's own
Layers = Sequence[Annotated[str, LayerName()]]
Weights = Annotated[str, WeightsFile()]

WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a word", NoneType: "null"}
HANDED_OVER = {  # by the program, whatever a config says
    "backbone": {"shape", "outputs"},
    "data": {"root", "seed"},
    "task": {"method", "stages", "fit", "journal"},
    "optimizer": {"params"},
    "schedule": {"step", "total"},
    "loss": {"outputs", "targets"},
    "logger": {"run_dir", "run_id", "name", "group", "job_type", "config"},
}


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
        if not isinstance(value, Sequence) or isinstance(value, str):
            return False
        if origin is tuple and Ellipsis not in args:  # so many entries, each of its kind
            return len(value) == len(args) and all(map(fits, value, args))
        return all(fits(item, args[0] if args else Any) for item in value)
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
        return isinstance(value, Integral) and not isinstance(value, bool)
    if kind is float:
        return isinstance(value, Real) and not isinstance(value, bool) and value == value  # nan is no number
    if kind is Made:
        return not isinstance(value, str | Integral | Real | Mapping | Sequence | None)
    return isinstance(value, str) if kind is str else True  # a class of our own: an object that the program makes


def ruled(value: object, kind: Any, rule: type) -> Iterator[tuple[Any, Any]]:
    """(value or part of it, rule) wherever a value of this kind is under a rule of that class."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        yield from ((value, one) for one in args[1:] if isinstance(one, rule))
        yield from ruled(value, args[0], rule)
    elif origin in (typing.Union, UnionType):
        yield from ruled(value, next((part for part in args if fits(value, part)), Any), rule)
    elif origin in (Sequence, list) and args and isinstance(value, Sequence):
        for item in value:
            yield from ruled(item, args[0], rule)


def words(kind: Any) -> str:
    """What a kind takes, in words: "a number above 0 and below 1, or null"."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        rules = [rule for rule in args[1:] if hasattr(rule, "holds")]
        functions = [rule for rule in rules if isinstance(rule, FunctionIn)]
        if functions:
            return f"{'one of ' if functions[0].module else ''}{functions[0]}"
        return " ".join([words(args[0]), *map(str, rules)])
    if origin in (typing.Union, UnionType):
        return ", or ".join(words(part) for part in args if part is not Made)
    if origin is Literal:
        return " or ".join(map(_spelled, args)) if len(args) < 3 else f"one of {', '.join(map(_spelled, args))}"
    if origin in (Sequence, list, tuple, Iterable) or kind in (Sequence, list, tuple):
        items = [arg for arg in args if arg is not Ellipsis and arg is not Any]
        return f"a list, each {words(items[0])}" if items else "a list"
    if origin in (Mapping, dict) or kind in (Mapping, dict):
        return f"a mapping, each value {words(args[1])}" if args and fits(1, args[1]) != fits("", args[1]) else "a mapping"
    return WORDS.get(NoneType if kind is None else kind, "anything")


def mistake(key: str, value: object, kind: Any) -> str | None:
    """One sentence when `value` is not of the kind that `key` takes, else None."""
    if fits(value, kind):
        return None
    choices = _choices(kind)
    texts = (
        [value] if isinstance(value, str) else [v for v in value if isinstance(v, str)] if isinstance(value, list | tuple) else []
    )
    hints = [did_you_mean(text, choices) for text in texts if text not in choices]
    return f"{key}={_spelled(value)} must be {words(kind)}.{next(filter(None, hints), '')}"


def mistakes(prefix: str, node: Mapping[str, Any], own: Iterable[str] = ()) -> Iterator[str]:
    """What is wrong with the settings of one part of a config, by the signature of its `_target_`.

    Args:
        prefix: of the keys, such as "method". node: plain containers. own: keys that are no arguments (name, about, ...).
    """
    if "_target_" in node and (wrong := target_mistake(prefix, node["_target_"])):
        yield wrong
        return
    handed = HANDED_OVER.get(prefix, ())
    given = {name: value for name, value in node.items() if not (name.startswith("_") or name in own or name in handed)}
    yield from keyword_mistakes(prefix, given, read(str(node.get("_target_", ""))), handed)
    for name, value in given.items():
        yield from made_mistakes(f"{prefix}.{name}" if prefix else name, value, own)


def made_mistakes(key: str, value: object, own: Iterable[str] = ()) -> Iterator[str]:
    """What is wrong with the parts that a value describes by `_target_`, however deep inside mappings and lists."""
    if isinstance(value, Mapping):
        if "_target_" not in value:
            if "_partial_" in value:
                yield f"{key} has no _target_: the dotted name of what it makes."
            for name, inner in value.items():
                yield from made_mistakes(f"{key}.{name}", inner, own)
            return
        yield from (wrong := list(mistakes(key, value, own)))
        if not wrong and value.get("_partial_") is not True:
            target = str(value["_target_"])
            if lacks := [name for name in handed_over(target) if name not in value]:
                yield f"{key}._partial_ must be true: {target} is made by the part that hands it {' and '.join(lacks)}."
            yield from missing(key, value, read(target))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for number, inner in enumerate(value):
            yield from made_mistakes(f"{key}[{number}]", inner, own)


def keyword_mistakes(
    prefix: str, given: Mapping[str, Any], knobs: Iterable[Knob] | None, handed: Iterable[str] = ()
) -> Iterator[str]:
    """What is wrong with the keywords for a function whose knobs these are (None: it cannot be read); parts that they
    describe are passed over.

    Args:
        handed: what the program itself hands over.
    """
    by_name = {knob.name: knob for knob in knobs or ()}
    takes_any = knobs is None or None in by_name
    for name, value in given.items():
        key = f"{prefix}.{name}" if prefix else name
        if isinstance(value, Mapping) and "_target_" in value:
            continue
        if name in by_name:
            yield from filter(None, [mistake(key, value, by_name[name].kind)])
        elif not takes_any:
            settable = [known for known in by_name if known not in handed]
            takes = f"It takes {', '.join(settable)}" if settable else "It takes none"
            yield f"unknown key '{key}'.{did_you_mean(name, settable)} {takes}; ~{key} removes it where a file sets it."


def missing(prefix: str, given: Iterable[str], knobs: Iterable[Knob] | None, handed: Iterable[str] = ()) -> Iterator[str]:
    """A sentence for each knob without a default that is neither given nor handed over."""
    for knob in knobs or ():
        if knob.default is NOTHING and knob.name not in {None, *handed, *given}:
            yield f"{prefix}.{knob.name} is missing: {words(knob.kind)}."


def target_mistake(prefix: str, target: object) -> str | None:
    """One sentence when a `_target_` cannot be made; what lies outside this package is left to whoever imports it."""
    key = f"{prefix}._target_={_spelled(target)}"
    if not isinstance(target, str) or not all(word.isidentifier() for word in target.split(".")) or "." not in target:
        return f"{key} must be the dotted path of a class or function."
    ours = target.lower().startswith("maskbench.")
    return f"{key}: there is no such class or function." if ours and not bound(target) else None


def checked(init: Callable) -> Callable:
    """A constructor that refuses knobs of a wrong kind by the same sentences, for parts that are made in Python.

    Raises:
        UsageError: (when called) the first knob that is wrong.
    """
    signature = inspect.signature(init)
    open_ended = {name for name, p in signature.parameters.items() if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    kinds = functools.cache(lambda: _hints(init))

    @functools.wraps(init)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:
            return init(*args, **kwargs)  # whose own words say which argument is missing, or one too many
        for name in given.keys() & kinds().keys() - open_ended - NOT_KNOBS:
            if wrong := mistake(f"method.{name}", given[name], kinds()[name]):
                raise UsageError(wrong)
        return init(*args, **kwargs)

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
