"""One override of the command line: does the key exist, do its values fit the key's type and range? Imports no torch.

The parts of Hydra and OmegaConf used are internal to their pinned versions.
"""

import re
from collections.abc import Callable, Iterable, Iterator

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.base import Node

from maskbench.cli import parts, schema
from maskbench.cli.command_line import values
from maskbench.common.errors import did_you_mean


def key_mistakes(override: Override, base: DictConfig, groups: Iterable[str]) -> Iterator[str]:
    key = override.key_or_group
    if override.is_delete() or override.package:
        return  # left to Hydra
    node = _find(base, key)
    if node is None and not ((override.is_add() or override.is_force_add()) and key.partition(".")[0] in parts.PARTS):
        yield _unknown(key, base, groups)
        return
    part, _, name = key.partition(".")
    free = node is None or (not _typed(node) and (override.is_force_add() or name in parts.kinds(base, part)))
    by_signature = parts.judge(base, key)
    for value in values(override):
        if is_reference(value):
            continue
        mistake = None if free else type_mistake(key, value, node)
        mistake = mistake or by_signature(value) or schema.out_of_range(key, value)
        if mistake:
            yield mistake + _sweep_hint(key, value)


def _sweep_hint(key: str, value: object) -> str:
    """The cure for `seed=0-3`."""
    ends = re.fullmatch(r"(\d+)(?:-|\.\.|:)(\d+)", value) if isinstance(value, str) else None
    if ends is None or not int(ends[1]) < int(ends[2]) < int(ends[1]) + 100:
        return ""
    return f" For one run each: -m {key}={','.join(map(str, range(int(ends[1]), int(ends[2]) + 1)))}."


def _find(cfg: DictConfig, key: str) -> Node | None:
    node: Node | None = cfg
    for word in key.split("."):
        if not isinstance(node, DictConfig) or node._is_none() or node._is_interpolation():
            return None
        node = node._get_node(word, validate_access=False)
    return node


def _unknown(key: str, base: DictConfig, groups: Iterable[str]) -> str:
    known = [*groups, *_leaves(base)]
    hint = did_you_mean(key, known)
    rest = "" if hint else f" Groups: {', '.join(sorted(groups))}; all keys: maskbench show."
    return f"unknown key '{key}'.{hint}{rest}"


def _leaves(cfg: DictConfig, prefix: str = "") -> Iterator[str]:
    for name in cfg:
        if prefix == "" and name == "hydra":
            continue
        node = cfg._get_node(name)
        yield f"{prefix}{name}"
        if isinstance(node, DictConfig) and not node._is_none() and not node._is_interpolation():
            yield from _leaves(node, f"{prefix}{name}.")


WORDS: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a word",
    list: "a list such as [1,2]",
    dict: "a mapping such as {a: 1}",
}
FITS: dict[type, Callable[[object], bool]] = {
    bool: lambda v: isinstance(v, bool),
    int: lambda v: isinstance(v, int) and not isinstance(v, bool),
    float: lambda v: isinstance(v, int | float) and not isinstance(v, bool),
    str: lambda v: not isinstance(v, dict),  # auto | true, equal_share | [0.5, 0.75]: a word may stand for a setting
    list: lambda v: isinstance(v, list | str),
    dict: lambda v: isinstance(v, dict),
}


def type_mistake(key: str, value: object, node: Node) -> str | None:
    """One sentence when `value` does not fit the type of `node`, the key's default, else None.

    A typed key (schema.py) has its declared type, a free key that of its default; when that is null, all will do.
    """
    typed, default, kind = _typed(node), _default(node), _kind(node)
    if key in schema.BY_RANGE or kind is None or is_reference(value) or (value is None and typed and node._is_optional()):
        return None
    now = "" if default is None or kind is dict else f" (it is {shown(default)})"
    if value is None or not FITS[kind](value):
        null = f", or ++{key}=null to insist" if value is None else ""
        return f"{key}={shown(value)} must be {WORDS[kind]}{now}{null}."
    if kind is list and isinstance(value, list):
        return _element_mistake(key, value, default)
    return None


def _typed(node: Node) -> bool:
    """Whether schema.py declares the type."""
    return node._metadata.ref_type in (bool, int, float, str)


def _kind(node: Node) -> type | None:
    """What a value must be; None when anything may stand."""
    if _typed(node):
        return node._metadata.ref_type
    kind = type(_default(node))
    return kind if kind in FITS else None


def _default(node: Node) -> object:
    """The value as plain Python; None when there is none that tells a type (null, missing, a reference)."""
    if node._is_none() or node._is_missing() or node._is_interpolation():
        return None
    return OmegaConf.to_container(node) if OmegaConf.is_config(node) else node._value()


def _element_mistake(key: str, value: list, default: list) -> str | None:
    kinds = {type(item) for item in default}
    kind = float if kinds == {int, float} else kinds.pop() if len(kinds) == 1 else None
    wrong = [item for item in value if kind in FITS and not (FITS[kind](item) or is_reference(item))]
    if not wrong:
        return None
    return f"{key}={shown(value)}: {shown(wrong[0])} must be {WORDS[kind]} (it is {shown(default)})."


def is_reference(value: object) -> bool:
    return isinstance(value, str) and "${" in value


def shown(value: object) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return f"[{','.join(map(shown, value))}]" if isinstance(value, list) else str(value)
