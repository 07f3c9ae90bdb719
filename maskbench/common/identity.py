"""Who a run is: the key of its scientific config, its directory, and where config and data lie. Imports no torch.

The key answers "is this the same question?". It is a hash of the resolved config without what cannot change an answer
(paths, logger, loop, launcher) and without the seed, which stands readable beside it. Keys whose value is null are left
out, so an option that is added later with null as its default leaves the keys of older results as they were; a new
option must therefore default to null, or to whatever null means.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from maskbench.common import declared, given, moved
from maskbench.common.asked import ELSEWHERE, arithmetic, by_content, leaves, question, spelling
from maskbench.common.errors import UsageError

__all__ = [
    "ELSEWHERE", "arithmetic", "conf_dir", "data_dir", "key", "leaves", "may_call", "plain", "question", "register", "run_dir",
    "spelling",
]  # fmt: skip
CALLED = {"maskbench.methods.uncertainty.overlap.width_factor"}  # functions that `${mb_call:...}` knows


def conf_dir() -> Path:
    """The folder of config.yaml: inside the installed package, else at the top of the repository."""
    package = Path(__file__).resolve().parents[1]
    return package / "conf" if (package / "conf" / "config.yaml").is_file() else package.parent / "conf"


def data_dir() -> str:
    """Where data sets are kept: MASKBENCH_DATA, else a folder in the user's cache.

    Raises:
        UsageError: neither is set, and this user has no home folder.
    """
    if named := os.environ.get("MASKBENCH_DATA"):
        return named
    try:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError as error:  # no HOME, and no line in the list of users, as in some containers
        raise UsageError("this user has no home folder for data sets; set MASKBENCH_DATA to a folder for them.") from error
    return str(Path(cache) / "maskbench" / "data")


def key(cfg: DictConfig) -> str:
    """10 hex digits that are equal for two configs exactly when they ask the same question, whatever the seed."""
    asked = by_content(plain(cfg, without=ELSEWHERE))
    asked |= arithmetic(OmegaConf.select(cfg, "trainer") or {}, OmegaConf.select(cfg, "loop") or {})
    return hashlib.sha256(spelling(asked).encode()).hexdigest()[:10]


def run_dir(cfg: DictConfig) -> Path:
    """The run directory, relative to the working directory when `paths.output` is."""
    return Path(cfg.paths.output) / f"{cfg.method.name}-{cfg.data.name}" / f"s{cfg.seed}-{key(cfg)}"


def register() -> None:
    """Make `${mb_key:}`, `${mb_data_dir:}`, `${mb_for:...}`, `${mb_by:...}`, `${mb_unless:...}`, `${mb_call:...}`,
    `${mb_given:...}`, `${mb_norms:...}`, `${mb_recipe:...}` and `${mb_init_sha256:}` known to every config."""
    OmegaConf.register_new_resolver("mb_key", lambda *, _root_: key(_root_), replace=True)
    OmegaConf.register_new_resolver("mb_data_dir", data_dir, replace=True)
    OmegaConf.register_new_resolver("mb_call", _call, replace=True)
    OmegaConf.register_new_resolver("mb_for", _for, replace=True)
    OmegaConf.register_new_resolver("mb_by", _by, replace=True)
    OmegaConf.register_new_resolver("mb_unless", _unless, replace=True)
    OmegaConf.register_new_resolver("mb_given", _given, replace=True)
    OmegaConf.register_new_resolver("mb_norms", _norms, replace=True)
    OmegaConf.register_new_resolver("mb_recipe", _recipe, replace=True)
    OmegaConf.register_new_resolver("mb_init_sha256", _init_sha256, replace=True)


def _for(task: str, value: object, *, _root_: DictConfig) -> object:
    """`value` when the run's task is `task`, else None: a key that only one task asks leaves the key of other runs alone."""
    return value if OmegaConf.select(_root_, "task.name") == task else None


def _unless(names: Sequence[str], value: object, *, _parent_: DictConfig) -> object:
    """`value`, or None where one of these keys beside it is set: a default that gives way to another way of saying the same."""
    return None if any(_parent_.get(name) is not None for name in names) else value


def _by(name: str, values: Mapping[str, object]) -> object:
    """`${mb_by:NAME,{a:1,b:2,_:3}}`: the value that stands beside NAME, else the one beside `_`.

    Raises:
        UsageError: neither is there.
    """
    if name not in values and "_" not in values:
        raise UsageError(f"there is no value here for '{name}', only for {', '.join(values)}: take other data (data=NAME).")
    return values.get(name, values.get("_"))


def _given(value: object, otherwise: object, *, _root_: DictConfig) -> object:
    """`${mb_given:A,B}`: A where the backbone's weights are given, B where a rule draws them."""
    return value if given.gives(_init(_root_)) else otherwise


def _recipe(value: object, otherwise: object, *, _root_: DictConfig) -> object:
    """`${mb_recipe:A,B}`: A where the backbone's weights come with a recipe for its inputs, B elsewhere."""
    return value if _init(_root_) == given.IMAGENET else otherwise


def _init_sha256(*, _root_: DictConfig) -> str | None:
    """Of the file whose content `backbone.init` stands for."""
    parts = {name: OmegaConf.select(_root_, f"backbone.{name}", throw_on_missing=False) for name in ("init", "recipe", "arch")}
    return given.sha256(parts)


def _norms(value: object, otherwise: object, *, _root_: DictConfig) -> object:
    """`${mb_norms:A,B}`: A where the backbone's norms keep running statistics, B where it has none that do."""
    return otherwise if declared.kept(_root_.get("backbone") or {}) is None else value


def _init(cfg: DictConfig) -> object:
    return OmegaConf.select(cfg, "backbone.init", throw_on_missing=False)


def _call(function: str, *args: object) -> object:
    """`${mb_call:package.module.function,a,b}`: a number that follows from others in the config; the module imports no torch.

    Raises:
        UsageError: it is none of the functions that the package's own files call so; a config cannot call any other.
    """
    if not may_call(str(function)):
        raise UsageError(f"${{mb_call:{function}}} is not called; a config may call {', '.join(sorted(CALLED))}.")
    module, _, name = function.rpartition(".")
    return getattr(import_module(module), name)(*args)


def may_call(function: str) -> bool:
    """Whether a dotted name, of now or from before its module moved, is one that configs may call."""
    module, _, name = function.rpartition(".")
    return f"{moved.MOVED.get(module, module)}.{name}" in CALLED


def plain(cfg: DictConfig, without: set[str]) -> dict[str, Any]:
    """The resolved config as plain containers, but for the top-level keys in `without`, which need not resolve."""
    parts = {name: cfg[name] for name in cfg if name not in without}
    return {k: OmegaConf.to_container(v, resolve=True) if OmegaConf.is_config(v) else v for k, v in parts.items()}
