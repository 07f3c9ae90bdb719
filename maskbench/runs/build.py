"""The one place where config becomes objects: `_target_` is the registry."""

from collections.abc import Mapping
from functools import partial
from inspect import signature
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from maskbench.common import knobs
from maskbench.common.errors import UsageError

TARGETS = "targets"  # of the loggers: name -> `_target_` of each that is chosen, where `_target_` itself is the last one's
WORDS = {"name", "about", "tasks", "needs", "gives", "recipe"}  # for people, for the record, and for what fits together


def each_logger(node: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The settings of each logger of a config: of several (`logger=[wandb,csv]`) each gets those that it takes."""
    settings = {key: value for key, value in node.items() if key != TARGETS}
    targets = list(dict.fromkeys([*(node.get(TARGETS) or {}).values(), settings.get("_target_")]))
    if len(targets) == 1:
        return [settings]
    return [{key: v for key, v in settings.items() if _takes(target, key)} | {"_target_": target} for target in targets]


def _takes(target: str, key: str) -> bool:
    names = knobs.read(target)
    return names is None or key in {knob.name for knob in names} or None in {knob.name for knob in names}


def bare(value: Any) -> Any:
    """A plain partial of one that Hydra made, and of those that it holds: Hydra's judges its target anew at every call, which
    costs a tenth of a small net's step where it is a schedule or a loss. The target was judged when it was made."""
    if isinstance(value, partial):
        return partial(value.func, *map(bare, value.args), **{name: bare(inner) for name, inner in value.keywords.items()})
    if isinstance(value, dict):
        return {name: bare(inner) for name, inner in value.items()}
    return [bare(inner) for inner in value] if isinstance(value, list) else value


def make(node: DictConfig, *args: Any, **parts: Any) -> Any:
    """Make the part that a config node describes: its `_target_`, called with its keys and with `args` and `parts`.

    With `_partial_` it is not called, but returned with its keys bound. The parts go straight to the target: they are
    neither copied nor turned into config. Lists and dicts of the config arrive as plain containers.

    Raises:
        UsageError: the target cannot be found, or a key is none of its arguments, of the wrong type or out of range. What
            the target raises itself passes through.
    """
    plain = {k: v for k, v in OmegaConf.to_container(node, resolve=True).items() if k not in WORDS}
    if wrong := list(knobs.mistakes(node._get_full_key(None), plain, WORDS | parts.keys())):
        raise UsageError("\n".join(wrong))
    target = plain.get("_target_", "nothing: the config has no _target_")
    try:
        waiting = bare(instantiate(plain | {"_partial_": True, "_convert_": "all"}))
    except InstantiationException as error:
        raise UsageError(f"{node._get_full_key('_target_')}={target} cannot be made: {str(error).splitlines()[0]}") from error
    if plain.get("_partial_"):
        return waiting
    try:
        signature(waiting.func).bind(*args, **(waiting.keywords | parts))
        for name, inner in waiting.keywords.items():  # what the target will itself call with the rest
            if isinstance(inner, partial):
                target = plain[name]["_target_"]
                signature(inner.func).bind_partial(**inner.keywords)
    except TypeError as error:
        raise UsageError(f"{target} does not fit {node._get_full_key(None)}.KEY=VALUE of its config: {error}") from None
    return waiting(*args, **parts)
