"""Types and ranges of the config tree: Hydra converts and refuses by these types, preflight by both.

A key that is not named here stays free: its type is that of its default. Imports no torch.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING


@dataclass
class Budget:
    steps: int | None = None
    epochs: Any = 3  # or a list of them, one for each stage
    batch_size: int = 128
    validate_every: int | None = None
    test_curve: bool = False


@dataclass
class Loop:
    block: int = 25
    threads: int = 1
    log_every: int = 50
    checkpoint_seconds: float = 20.0
    progress: Any = "auto"
    side_by_side: Any = "auto"
    compile: bool | None = None


@dataclass
class Paths:
    output: str = "outputs"
    data: str = MISSING
    shared: str | None = None


@dataclass
class Optimizer:
    _target_: str = MISSING
    _partial_: bool = True
    lr: float = 1e-3
    weight_decay: float = 0.0


@dataclass
class Adam(Optimizer):
    fused: bool = True


@dataclass
class SGD(Optimizer):
    momentum: float = 0.0
    nesterov: bool = False


@dataclass
class RMSprop(Optimizer):
    alpha: float = 0.99
    momentum: float = 0.0


@dataclass
class Experiment:
    """What a preset says of itself: shown by `maskbench list experiment` and `show`, no part of a run's key.

    `published`, `expect` and `minutes` are one value, or one for each variant: a mapping from the words that are added to
    the command ("here": none) to its value. Minutes are a number, or [least, most].
    """

    about: str = MISSING
    paper: Any = None  # arXiv id, or several; null: of no paper
    place: str | None = None  # in the paper
    published: Any = None  # the paper's numbers, none from memory
    expect: Any = None  # what comes out here
    minutes: Any = None
    machine: str = "one core"
    run_here: bool = True
    reason: str | None = None  # why not
    differs: list[str] = field(default_factory=list)  # from the original, in what
    commands: list[str] | None = None  # sweeps that belong to it


@dataclass
class Config:
    experiment: Experiment | None = None
    seed: int = 0
    force: bool = False
    stale: str | None = None
    objective: str | None = None
    init: str | None = None
    tags: Any = None  # a word, or a list of them
    notes: str | None = None
    debug: Any = None  # what a file of conf/debug says: name, rows and more
    callbacks: Any = None  # by names of the user's choice, what makes each: _target_ and its arguments
    budget: Budget = field(default_factory=Budget)
    loop: Loop = field(default_factory=Loop)
    paths: Paths = field(default_factory=Paths)
    backbone: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    schedule: dict[str, Any] = field(default_factory=dict)
    loss: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    task: dict[str, Any] = field(default_factory=dict)
    method: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)
    logger: dict[str, Any] = field(default_factory=dict)


DECLARED = {one.name for one in fields(Config)}
BY_RANGE = {"budget.epochs", "tags"}  # whose range says what may stand, a list too
SECTIONS = {"budget", "loop", "paths"}  # all of whose keys are declared here


def register() -> None:
    """Give Hydra the types, under names with a leading underscore, which no listing shows."""
    store = ConfigStore.instance()
    store.store(name="_schema", node=Config)
    for node in (Adam, SGD, RMSprop):
        store.store(group="optimizer", name=f"_{node.__name__.lower()}", node=node)


Rule = tuple[Callable[[Any], bool], str]  # what must hold, and how to say it


def _at_least(low: float) -> Rule:
    return lambda v: _number(v) and v >= low, f"at least {low}"


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _epochs(value: object) -> bool:
    several = isinstance(value, Sequence) and not isinstance(value, str)
    return all(_whole(one) and one >= 1 for one in (value if several else [value])) and value != []


def _words(value: object) -> bool:
    several = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    return all(isinstance(one, str | int) and str(one).strip() and "," not in str(one) for one in several)


_share: Rule = (lambda v: _number(v) and 0 <= v < 1, "at least 0 and below 1")
_positive: Rule = (lambda v: _number(v) and v > 0, "above 0")
_count: Rule = _at_least(1)
_some: Rule = _at_least(0)

RANGES: dict[str, Rule] = {  # null always passes here: whether it may stand is a matter of type
    "seed": _some,
    "objective": (lambda v: v == "validation", "validation, or null for the task's own number"),
    "stale": (lambda v: v in ("redo", "keep", "ask"), "redo, keep, ask, or null"),
    "debug.rows": _count,
    "debug.lines": _count,
    "debug.fall": (lambda v: _number(v) and 0 < v <= 1, "above 0 and at most 1"),
    "tags": (_words, "a word, or a list of them such as [talk,final]"),
    "budget.steps": _count,
    "budget.epochs": (_epochs, "a whole number, at least 1, or a list of them, one for each stage"),
    "budget.batch_size": _count,
    "budget.validate_every": _count,
    "loop.block": _count,
    "loop.threads": _count,
    "loop.log_every": _count,
    "loop.checkpoint_seconds": _some,
    "loop.progress": (lambda v: isinstance(v, bool) or v == "auto", "auto, true or false"),
    "loop.side_by_side": (lambda v: isinstance(v, bool) or v in ("auto", "off"), "auto, true or off"),
    "optimizer.lr": _positive,
    "optimizer.weight_decay": _some,
    "optimizer.momentum": _share,
    "optimizer.alpha": _share,
    "schedule.warmup": _some,
    "trainer.sync_batchnorm": (lambda v: isinstance(v, bool), "true, false, or null"),
    "trainer.memory_format": (lambda v: v in ("contiguous", "channels_last"), "contiguous, channels_last, or null"),
    "data.stages": _count,
    "data.val": _some,
    "backbone.width": _positive,
    "backbone.outputs": (lambda v: _whole(v) and v >= 1, "a whole number, at least 1"),
}


def out_of_range(key: str, value: object) -> str | None:
    """One sentence when `value` lies outside the range of `key`, else None. Values of a wrong type are not judged."""
    if key not in RANGES or value is None:
        return None
    holds, words = RANGES[key]
    return None if holds(value) else f"{key}={value} must be {words}."
