"""What can be known to be wrong before anything starts: unknown names, types, ranges, combinations, folders.

Hydra composes happily what cannot run and its own messages name neither the near miss nor the choices, so the command
line is looked at here first, and for a sweep all of it, before the first job. Imports no torch. The parts of Hydra used
are internal to 1.3, hence the pin, and tests/cli holds them to it.
"""

import argparse
import copy
import dataclasses
import itertools
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from maskbench import identity, schema
from maskbench.errors import UsageError, did_you_mean
from maskbench.overrides import VALUES, key_mistakes, shown, spread, values

COMBINATIONS = 128  # group choices of a sweep that are composed here; what is beyond is checked as each job starts
CROSS = {"budget.steps", "budget.epochs", "trainer.strategy"}  # keys that are judged together
SWEEP = "sweep"  # the group whose files say which values to run through
NOT_GROUPS = {"hydra", "table"}  # folders of conf/ that are no choices


# ---- the command line


@dataclass
class Command:
    """A command line for Hydra, taken apart. `argv` has the overrides first, which Hydra's own parser needs."""

    args: argparse.Namespace
    argv: list[str]
    folders: list[Path]  # where groups lie: conf/, then --config-dir
    loader: ConfigLoaderImpl
    overrides: list[Override]
    sweeps: bool = False  # whether a file of conf/sweep makes a sweep of it

    @property
    def multirun(self) -> bool:
        return self.args.multirun or self.sweeps or any(o.input_line == "hydra.mode=MULTIRUN" for o in self.overrides)

    @property
    def ours(self) -> bool:
        """Whether the config is the packaged one, the only one that can be judged here."""
        args = self.args
        return not (args.config_path or args.config_name or args.experimental_rerun or args.hydra_help)

    @cached_property
    def groups(self) -> set[str]:
        return set(groups(self.folders))

    def is_group(self, override: Override) -> bool:
        return any((folder / override.key_or_group).is_dir() for folder in self.folders)

    def compose(self, overrides: list[str]) -> DictConfig:
        """The config with Hydra's own node in it.

        Raises:
            UsageError: Hydra refuses the overrides; its words in one sentence.
        """
        try:
            return self.loader.load_configuration("config", overrides, run_mode=RunMode.RUN)
        except (HydraException, OmegaConfBaseException) as error:
            raise UsageError(one_line(error)) from error


def parse(argv: list[str]) -> Command:
    """Take a command line apart without judging it.

    Raises:
        UsageError: unknown flag, no such --config-dir, or an override that Hydra's grammar refuses.
    """
    parser = get_args_parser()
    parser.error = _refuse
    args = parser.parse_intermixed_args(argv)
    folders = [identity.conf_dir()]
    if args.config_dir:
        folders.append(Path(args.config_dir).absolute())
        if not folders[1].is_dir():
            raise UsageError(f"--config-dir: there is no folder {args.config_dir}.")
    loader = _loader(folders)
    overrides = [_override(text, loader) for text in args.overrides]
    return _swept(Command(args, _overrides_first(argv, args.overrides), folders, loader, overrides))


def _swept(command: Command) -> Command:
    """With the values that a file of conf/sweep runs through, below those the user gave for the same keys, as Hydra does."""
    chosen = [o.input_line for o in command.overrides if o.key_or_group == SWEEP and not o.is_delete()]
    if not chosen or not command.ours:
        return command
    try:
        told = command.compose(chosen).hydra
    except UsageError as error:
        if "Could not" in str(error) and "hydra/" in str(error):
            raise UsageError(
                f"{chosen[-1]} needs one of Hydra's plugins that is not here: pip install 'maskbench[sweep]'."
            ) from None
        return command  # a wrong choice, which is told with the right ones beside it
    said = {o.key_or_group for o in command.overrides}
    params = OmegaConf.to_container(told.sweeper).get("params") or {}
    brought = [_override(f"{key}={value}", command.loader) for key, value in params.items() if key not in said]
    mode = str(told.get("mode"))
    return dataclasses.replace(command, overrides=[*brought, *command.overrides], sweeps=mode.endswith("MULTIRUN"))


def _refuse(message: str) -> None:
    raise UsageError(f"{message}; see --help.")


def _loader(folders: list[Path]) -> ConfigLoaderImpl:
    version.setbase("1.3")
    Plugins.instance()
    identity.register()
    schema.register()
    path = create_config_search_path(str(folders[0]))
    schema_source = path.get_path().pop()
    for folder in folders[1:]:
        path.append("command-line", f"file://{folder}")
    path.get_path().append(schema_source)  # Hydra wants it last
    return ConfigLoaderImpl(path)


def _override(text: str, loader: ConfigLoaderImpl) -> Override:
    if "=" not in text and not text.startswith("~"):
        raise UsageError(f"'{text}' is neither key=value nor a flag; a command such as list comes first.")
    try:
        return OverridesParser.create(loader).parse_overrides([text])[0]
    except HydraException as error:
        raise UsageError(f"cannot read '{text}': {one_line(error)} Quote a value with special characters.") from error


def _overrides_first(argv: list[str], overrides: list[str]) -> list[str]:
    rest = iter(overrides)
    expected = next(rest, None)
    flags = []
    for word in argv:
        if word == expected:
            expected = next(rest, None)
        else:
            flags.append(word)
    return [*overrides, *flags]


def one_line(error: BaseException) -> str:
    """The message of one of Hydra's or OmegaConf's errors, and of its cause, as one sentence; ours stand as they are."""
    if ours := next((e for e in _behind(error) if isinstance(e, UsageError)), None):  # what a resolver said
        return str(ours)
    texts = [str(error)] + ([str(error.__cause__)] if isinstance(error.__cause__, OmegaConfBaseException) else [])
    lines = [line.strip() for text in texts for line in text.splitlines()]
    kept = [line for line in lines if line and not line.startswith(("object_type", "reference_type", "See https"))]
    return " ".join(kept)


def _behind(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and what it was raised from or while handling, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


# ---- sweeps


def jobs(command: Command) -> Iterator[list[str]]:
    """The overrides of each job the command would start, in the order of Hydra's basic sweeper."""
    if not command.multirun:
        yield [o.input_line for o in command.overrides]
        return
    last = {o.get_key_element(): spread(o) for o in command.overrides if not o.is_hydra_override()}
    hydra = [o.input_line for o in command.overrides if o.is_hydra_override() and o.key_or_group != "hydra.mode"]
    for job in itertools.islice(itertools.product(*filter(None, last.values())), VALUES):
        yield [*hydra, *job]


# ---- the checks


def check(argv: list[str], starts: bool = True) -> Command:
    """Judge a whole command line; nothing has been started or written when this returns or raises.

    Args:
        starts: whether runs are to start, so that their directory must be writable.

    Raises:
        UsageError: what is wrong, one line for each mistake or bad combination of a sweep.
    """
    command = parse(argv)
    if command.ours:
        _stop(_choice_mistakes(command))
        if not command.multirun:
            _stop(_stray_sweeps(command.overrides))
        _stop(_combination_mistakes(command, starts and not (command.args.cfg or command.args.info)))
    return command


def check_config(cfg: DictConfig, said: Iterable[str] = ()) -> None:
    """Judge one composed config; `said` are the keys the user set.

    Raises:
        UsageError: the first mistake.
    """
    _stop(itertools.islice(_config_mistakes(cfg, set(said), []), 1))


def _stop(mistakes: Iterable[str]) -> None:
    if mistakes := list(dict.fromkeys(mistakes)):
        raise UsageError("\n".join(mistakes))


def groups(folders: list[Path]) -> list[str]:
    """The groups that have choices, over all folders."""
    tops = {entry.name for folder in folders for entry in folder.iterdir() if entry.is_dir()}
    return [top for top in sorted(tops - NOT_GROUPS) if choices(folders, top)]


def choices(folders: list[Path], group: str) -> dict[str, Path]:
    """Choice -> file of one group, over all folders, those below it spelled `below/choice`."""
    files = [(folder / group, path) for folder in folders for path in sorted((folder / group).rglob("*.yaml"))]
    found = {path.relative_to(top).with_suffix("").as_posix(): path for top, path in files}
    return {name: path for name, path in sorted(found.items()) if not path.name.startswith("_")}


def _choice_mistakes(command: Command) -> Iterator[str]:
    if any(o.key_or_group == "hydra.searchpath" for o in command.overrides):
        return  # places that only Hydra knows
    standing = _standing_groups()
    for override in command.overrides:
        if override.is_hydra_override() or override.is_delete() or not command.is_group(override):
            continue
        known = choices(command.folders, override.key_or_group)
        if mistake := _plus_mistake(override, standing):
            yield mistake
        for name in _names(override):
            if name not in known:
                group = override.key_or_group
                yield f"no {group} '{name}'.{did_you_mean(name, known)} Choices: {', '.join(known) or 'none'}."


def _standing_groups() -> set[str]:
    """The groups of config.yaml's defaults list: these are chosen with `group=`, others are added with `+group=`."""
    entries = OmegaConf.load(identity.conf_dir() / "config.yaml").defaults
    return {str(name).split()[-1] for entry in entries if not isinstance(entry, str) for name in entry}


def _plus_mistake(override: Override, standing: set[str]) -> str | None:
    group, text = override.key_or_group, override.input_line.lstrip("+")
    if override.is_add() and group in standing:
        return f"{group} has a choice already; write {text} without the plus sign."
    if not override.is_add() and group not in standing:
        return f"{group} has no choice by default; add one with +{text}."
    return None


def _names(override: Override) -> Iterator[str]:
    for value in values(override):
        for name in value if isinstance(value, list) else [value]:
            if not isinstance(name, dict):  # a mapping sets keys in the group's part, it chooses nothing
                yield shown(name).removesuffix(".yaml")


def _stray_sweeps(overrides: list[Override]) -> Iterator[str]:
    for o in overrides:
        if o.is_sweep_override():
            key, _, value = o.input_line.partition("=")
            yield f"'{o.input_line}' is a sweep: add -m to run each value, or write '{key}=[{value}]' for one list."


def _combination_mistakes(command: Command, starts: bool) -> Iterator[str]:
    """All mistakes in all combinations of group choices; one that every combination makes is told once."""
    groups = [o for o in command.overrides if o.is_hydra_override() or command.is_group(o)]
    keys = [o for o in command.overrides if o not in groups]
    swept = [spread(o) for o in groups if o.key_or_group != "hydra.mode"]
    found: dict[str, list[str]] = {}
    total = 0
    for total, chosen in enumerate(itertools.islice(itertools.product(*swept), COMBINATIONS), 1):
        label = " ".join(text for text, options in zip(chosen, swept, strict=True) if len(options) > 1)
        for mistake in dict.fromkeys(_mistakes(command, list(chosen), keys, starts and total == 1)):
            found.setdefault(mistake, []).append(label)
    for mistake, labels in found.items():
        plain = len(labels) == total or all(word in mistake for label in labels for word in label.split())
        yield from [mistake] if plain else [f"{label}: {mistake}" for label in labels]


def _mistakes(command: Command, chosen: list[str], keys: list[Override], starts: bool) -> Iterator[str]:
    """The mistakes under one combination of group choices; with `starts` also of the folder its first run needs."""
    try:
        base = command.compose(chosen)
    except UsageError as error:
        yield str(error)
        return
    bad = {o.input_line: list(key_mistakes(o, base, command.groups)) for o in keys}
    yield from itertools.chain(*bad.values())
    keys = [o for o in keys if not bad[o.input_line]]
    said = {o.key_or_group for o in command.overrides}
    for number, chosen_values in enumerate(itertools.islice(_cross_values(keys), COMBINATIONS)):
        cfg = copy.deepcopy(base)
        try:
            ConfigLoaderImpl._apply_overrides_to_config(chosen_values, cfg)
        except (HydraException, OmegaConfBaseException) as error:
            yield one_line(error)
            return
        yield from _config_mistakes(cfg, said, command.folders, command.multirun)
        if starts and number == 0:
            yield from _folder_mistakes(cfg, command.multirun)


def _cross_values(keys: list[Override]) -> Iterator[tuple[Override, ...]]:
    """Every combination of the swept keys that are judged together; the other swept keys at their first value."""
    parser = OverridesParser.create()
    options = []
    for override in keys:
        texts = spread(override)
        texts = texts if override.key_or_group in CROSS else texts[:1]
        options.append([override] if not override.is_sweep_override() else [parser.parse_override(t) for t in texts])
    return itertools.product(*filter(None, options))


# ---- one config


def _config_mistakes(cfg: DictConfig, said: set[str], folders: list[Path], multirun: bool = False) -> Iterator[str]:
    for key in schema.RANGES:
        value = OmegaConf.select(cfg, key, throw_on_missing=False)
        if mistake := schema.out_of_range(key, value):
            yield mistake
    yield from filter(None, [_budget_mistake(cfg, said), _task_mistake(cfg, folders), _ddp_mistake(cfg, multirun)])


def _budget_mistake(cfg: DictConfig, said: set[str]) -> str | None:
    steps, epochs = cfg.budget.steps, cfg.budget.epochs
    if (steps is None) != (epochs is None):
        return None
    if steps is None:
        return "budget.steps and budget.epochs are both null; give one of them."
    other = {"budget.steps", "budget.epochs"} - said
    mend = f"add {other.pop()}=null" if len(other) == 1 else "set one of them to null"
    return f"budget.steps={steps} and budget.epochs={epochs} are both set; {mend}."


def _task_mistake(cfg: DictConfig, folders: list[Path]) -> str | None:
    able, task = OmegaConf.select(cfg, "method.tasks"), OmegaConf.select(cfg, "task.name")
    if able is None or task is None or task in able:
        return None
    method = OmegaConf.select(cfg, "method.name")
    others = [name for name, tasks in method_tasks(folders or [identity.conf_dir()]).items() if task in tasks]
    does = " or ".join(f"task={name}" for name in able)
    return (
        f"method={method} cannot do task={task}: it does {does}, "
        f"and task={task} is done by {'method=' + ', '.join(others) if others else 'no method here'}."
    )


def method_tasks(folders: list[Path]) -> dict[str, list[str]]:
    """Method -> the tasks it can do, read from its file."""
    files = choices(folders, "method")
    return {name: OmegaConf.select(OmegaConf.load(path), "method.tasks") or [] for name, path in files.items()}


def _ddp_mistake(cfg: DictConfig, multirun: bool) -> str | None:
    strategy = str(OmegaConf.select(cfg, "trainer.strategy"))
    if not (multirun and strategy.startswith("ddp")) or any(way in strategy for way in ("spawn", "fork", "notebook")):
        return None
    return (
        f"-m with trainer.strategy={strategy} would start the whole sweep once per device; "
        "add trainer.strategy=ddp_spawn, or start the runs one by one."
    )


def _folder_mistakes(cfg: DictConfig, multirun: bool) -> Iterator[str]:
    try:
        writable(identity.run_dir(cfg) if multirun else Path(cfg.hydra.run.dir))
    except UsageError as error:
        yield str(error)


def writable(folder: Path) -> None:
    """See whether `folder` could be made and written, by making an empty folder in its nearest parent and removing it.

    Raises:
        UsageError: it could not; with the system's reason.
    """
    parent = folder.absolute()
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    try:
        Path(tempfile.mkdtemp(prefix=".maskbench-", dir=parent)).rmdir()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"cannot write {folder} ({parent}: {reason}); choose another paths.output=FOLDER.") from error
