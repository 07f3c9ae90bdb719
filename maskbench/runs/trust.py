"""What of somebody else's record may be made or called here without a word of trust: parts of maskbench, torch.optim's classes.

A config names code by `_target_`, by a dotted path where a function is chosen, and by resolvers (`${name:...}`). All three
are judged as text, before anything is resolved or imported. Imports no torch.
"""

import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

import yaml

from maskbench.common import identity, moved, signatures
from maskbench.common.closure import DOTTED
from maskbench.common.errors import UsageError
from maskbench.common.foreign import printable

RESOLVERS = (
    "oc.select", "mb_key", "mb_data_dir", "mb_for", "mb_by", "mb_unless", "mb_call", "mb_given", "mb_norms",
    "mb_recipe", "mb_init_sha256",
)  # fmt: skip
CALLED = re.compile(r"[\s'\"]*([\w.]*)")  # behind `${mb_call:`; one that is computed the resolver itself refuses
# ${name: and ${a.reference}; the name of a resolver may itself be computed, which fits neither
INTERPOLATION = re.compile(r"\$\{\s*(?:(?P<resolver>[\w.]+)\s*:|(?P<reference>[\w.\[\]]+)\s*\})")
CLASSES = re.compile(r"maskbench\.(?:methods|backbones)\.")  # rooms whose public classes are parts
FUNCTIONS = re.compile(r"maskbench\.(?:training\.(?:schedules|optimizers|losses)|runs\.loggers|masks\.criteria)\.\w+")
OPTIMIZER = re.compile(r"torch\.optim\.[A-Z]\w*")
NAMED = re.compile(r": *(maskbench(?:\.\w+)+)(?=[\s,}])")  # in a config file
SHOWN = 4  # things that a refusal names


def refuse(where: object, things: Iterable[str], way: str) -> None:
    """Refuse what a record asks for and maskbench does not have.

    Raises:
        UsageError: there are such things; names them, and the way to insist.
    """
    if things := list(dict.fromkeys(map(printable, things))):
        more = f" and {len(things) - SHOWN} more" if len(things) > SHOWN else ""
        raise UsageError(
            f"{printable(where)} asks for {', '.join(things[:SHOWN])}{more}, which is no part of maskbench: "
            f"nothing was run; {way} does it all the same, if you trust whoever wrote it."
        )


def strange(node: Any, name: str = "") -> Iterator[str]:
    """What a config (plain containers, resolved or not) names that is none of maskbench's parts or resolvers."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from strange(str(key), "")
            yield from strange(value, str(key))
    elif isinstance(node, list | tuple):
        for value in node:
            yield from strange(value, name)
    elif isinstance(node, str):
        yield from resolvers(node)
        if name == "_target_" and not ours(node):
            yield f"_target_: {node}"
        elif name != "_target_" and DOTTED.fullmatch(node) and importable(node) and not ours(node):
            yield node
    elif name == "_target_":
        yield f"_target_: {node}"


def resolvers(text: str) -> Iterator[str]:
    """The interpolations in a text that are neither references nor resolvers of maskbench."""
    for start in (match.start() for match in re.finditer(r"\$\{", text)):
        match = INTERPOLATION.match(text, start)
        known = match is not None and (match["reference"] or match["resolver"] in RESOLVERS)
        called = known and match["resolver"] == "mb_call" and not identity.may_call(CALLED.match(text, match.end())[1])
        if not known or called:
            yield text[start : start + 60]


def importable(dotted: str) -> bool:
    """Whether the first word of a dotted name is a module that is installed here, or the user's own; nothing is imported."""
    root = dotted.partition(".")[0]
    if root in sys.modules or root in sys.builtin_module_names:
        return True
    try:
        return importlib.util.find_spec(root) is not None
    except (ImportError, ValueError, OSError):
        return True


def ours(target: str) -> bool:
    """Whether a dotted name is a configurable part of maskbench, or an optimiser of torch."""
    module, _, name = target.rpartition(".")
    if OPTIMIZER.fullmatch(target):
        return True
    words = target.split(".")
    if words[0] != "maskbench" or any(word.startswith("_") for word in words):
        return False
    now = moved.MOVED.get(module, moved.FOLDERS.get(module, module))
    name = moved.RENAMED.get(now, {}).get(name, name)
    present = f"{now}.{name}"
    if present in shipped():
        return True
    if CLASSES.match(present):
        return bool(signatures.ancestry(present)[0])
    return bool(FUNCTIONS.fullmatch(present)) and signatures.read(present) is not None


@cache
def shipped() -> frozenset[str]:
    """What the package's own config files name of it: targets, contracts of tasks."""
    files = sorted(identity.conf_dir().rglob("*.yaml"))
    return frozenset(target for file in files for target in NAMED.findall(file.read_text()))


def words(text: str) -> Iterator[str]:
    """What an override of a command line, as a record holds it, names that is not maskbench's: judged without resolving it."""
    key, _, value = text.partition("=")
    group = key.lstrip("+~").partition("@")
    path = re.split(r"[./]", group[0])
    if text.startswith("-") or "\\" in text or path[0] == "hydra" or group[2] or "=" not in text and not text.startswith("~"):
        yield text
        return
    yield from resolvers(text)
    if ".." in value.split("/") or value.startswith("/") and len(path) == 1:
        yield text  # a choice of a group that would lead out of conf/
    if path[-1] == "_target_":
        yield from strange(value, "_target_")
    else:
        yield from strange(_value(value))


def _value(text: str) -> Any:
    """The value of an override as plain containers; the text itself where only Hydra can read it."""
    try:
        value = yaml.load(text, yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError):
        return re.findall(DOTTED, text)
    spaced = re.sub(r"([{,]\s*[\w.]+):(?=\S)", r"\1: ", text)  # {a:1} is {a: 1} to Hydra
    if spaced == text:
        return value
    try:
        return yaml.load(spaced, yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError):
        return re.findall(DOTTED, text)
