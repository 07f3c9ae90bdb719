"""What can be known to be wrong before anything starts: unknown names, types, ranges, combinations, folders.

Hydra composes happily what cannot run and its own messages name neither the near miss nor the choices, so the command
line is looked at here first, and for a sweep all of it, before the first job. Imports no torch.
"""

import itertools
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from maskbench.cli import parts, schema, trainer_keys
from maskbench.cli.command_line import Command, choices, one_line, parse, spread, values
from maskbench.cli.overrides import key_mistakes, shown
from maskbench.common import identity
from maskbench.common.errors import UsageError, did_you_mean

COMBINATIONS = 128  # group choices of a sweep that are composed here; what is beyond is checked as each job starts
SHOWN = 6  # combinations that are named with a mistake they share
CROSS = {"budget.steps", "budget.epochs", "trainer.strategy", "trainer.devices", "backbone.init"}  # keys that are judged together
LENGTHS = {"budget.steps", "budget.epochs"}
LEAVING = ("spawn", "fork", "notebook")  # of a strategy: its processes end with each phase of training


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


def check_config(cfg: DictConfig, given: Iterable[str] = ()) -> None:
    """Judge one composed config; `given` are the keys the user set.

    Raises:
        UsageError: the first mistake.
    """
    mistakes = itertools.chain(_config_mistakes(cfg, set(given), []), parts.start_mistakes(cfg))
    _stop(itertools.islice(mistakes, 1))


def _stop(mistakes: Iterable[str]) -> None:
    if mistakes := list(dict.fromkeys(mistakes)):
        raise UsageError("\n".join(mistakes))


def _choice_mistakes(command: Command) -> Iterator[str]:
    if any(o.key_or_group == "hydra.searchpath" for o in command.overrides):
        return  # places that only Hydra knows
    standing = _standing_groups()
    for override in command.overrides:
        if override.is_hydra_override():
            continue
        if override.is_delete():
            yield from filter(None, [_delete_mistake(override, command.groups)])
            continue
        if not command.is_group(override):
            continue
        known = choices(command.folders, override.key_or_group)
        if mistake := _plus_mistake(override, standing):
            yield mistake
        for name in _names(override):
            if name not in known:
                group = override.key_or_group
                if group == "experiment" and name in (now := moved_presets()):
                    yield f"experiment={name} is now: {now[name]} (the same run, with the same key)."
                    continue
                hint = did_you_mean(name.lower().replace("-", "_"), known)
                yield f"no {group} '{name}'.{hint} Choices: {', '.join(known) or 'none'}."


def _delete_mistake(override: Override, groups: set[str]) -> str | None:
    """No run is without its parts, nor without the keys that schema.py declares."""
    key = override.key_or_group
    first, _, rest = key.partition(".")
    if key in parts.PARTS and key in groups:
        return f"~{key}: no run is without it; choose {'logger=none' if key == 'logger' else f'one with {key}=NAME'}."
    if first in schema.DECLARED and first not in parts.PARTS and first not in groups:
        return f"~{key}: every run has it; set {key if rest or first not in schema.SECTIONS else f'{key}.KEY'}=VALUE instead."
    return None


def moved_presets() -> dict[str, str]:
    """Name of a preset that was -> the command that runs the same now."""
    return OmegaConf.to_container(OmegaConf.load(identity.conf_dir() / "experiment" / "_moved.yaml"))


def _standing_groups() -> set[str]:
    """The groups of config.yaml's defaults list: these are chosen with `group=`, others are added with `+group=`."""
    entries = OmegaConf.load(identity.conf_dir() / "config.yaml").defaults
    return {str(name).split()[-1].partition("@")[0] for entry in entries if not isinstance(entry, str) for name in entry}


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
    """All mistakes in all combinations of group choices; one that several make is reported once, with their names."""
    groups = [o for o in command.overrides if command.chooses(o)]
    keys = [o for o in command.overrides if o not in groups]
    swept = [spread(o) for o in groups if o.key_or_group != "hydra.mode"]
    labels_by_mistake: dict[str, list[str]] = {}
    total = 0
    for total, chosen in enumerate(itertools.islice(itertools.product(*swept), COMBINATIONS), 1):
        label = " ".join(text for text, options in zip(chosen, swept, strict=True) if len(options) > 1)
        for mistake in dict.fromkeys(_mistakes(command, list(chosen), keys, starts and total == 1)):
            labels_by_mistake.setdefault(mistake, []).append(label)
    for mistake, labels in labels_by_mistake.items():
        plain = len(labels) == total or all(word in mistake for label in labels for word in label.split())
        where = ", ".join(labels[:SHOWN]) + (f" and {len(labels) - SHOWN} more" if len(labels) > SHOWN else "")
        yield mistake if plain else f"{where}: {mistake}"


def _mistakes(command: Command, chosen: list[str], keys: list[Override], starts: bool) -> Iterator[str]:
    """The mistakes under one combination of group choices; with `starts` also of the folder its first run needs."""
    try:
        base = command.chosen(chosen)
    except UsageError as error:
        yield str(error)
        return
    bad = {o.input_line: list(key_mistakes(o, base, command.groups)) for o in keys}
    yield from itertools.chain(*bad.values())
    spoilt = {o.key_or_group for o in keys if bad[o.input_line]}
    spoilt |= LENGTHS if spoilt & LENGTHS else set()  # without the one, the other would be null
    keys = [o for o in keys if o.key_or_group not in spoilt]
    given = {o.key_or_group for o in command.overrides}
    for number, chosen_values in enumerate(itertools.islice(_cross_values(keys), COMBINATIONS)):
        try:
            cfg = command.with_keys(chosen, chosen_values)
        except UsageError as error:
            yield str(error)
            return
        wrong = list(_config_mistakes(cfg, given, command.folders, command.multirun))
        yield from wrong
        if starts and not wrong:
            yield from parts.start_mistakes(cfg)
            if number == 0:
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


def _config_mistakes(cfg: DictConfig, given: set[str], folders: list[Path], multirun: bool = False) -> Iterator[str]:
    wrong = list(parts.signature_mistakes(cfg))
    for key in schema.RANGES:
        value = OmegaConf.select(cfg, key, throw_on_missing=False)
        if (mistake := schema.out_of_range(key, value)) and not any(text.startswith(f"{key}=") for text in wrong):
            wrong.append(mistake)
    yield from wrong
    yield from filter(None, [_budget_mistake(cfg, given), _processes_mistake(cfg, multirun)])
    if not wrong:
        yield from parts.stream_mistakes(cfg)
    if not wrong:
        yield from parts.pair_mistakes(cfg, folders)
    yield from filter(None, [trainer_keys.mistake(cfg.trainer)])


def _budget_mistake(cfg: DictConfig, given: set[str]) -> str | None:
    steps, epochs = cfg.budget.steps, cfg.budget.epochs
    if (steps is None) != (epochs is None):
        return None
    if steps is None:
        return "budget.steps and budget.epochs are both null; give one of them."
    other = {"budget.steps", "budget.epochs"} - given
    mend = f"add {other.pop()}=null" if len(other) == 1 else "set one of them to null"
    return f"budget.steps={steps} and budget.epochs={epochs} are both set; {mend}."


def _processes_mistake(cfg: DictConfig, multirun: bool) -> str | None:
    """Strategies whose processes this program cannot share its work with."""
    strategy, devices, nodes = (OmegaConf.select(cfg, f"trainer.{key}") for key in ("strategy", "devices", "num_nodes"))
    if any(way in str(strategy) for way in LEAVING):
        return (
            f"trainer.strategy={strategy} trains in processes that end with each phase, and what a run has learnt and recorded "
            "would end with them; use trainer.strategy=ddp."
        )
    if OmegaConf.select(cfg, "trainer.sync_batchnorm") and "episodes" in (cfg.data.get("gives") or ()):
        return (
            "trainer.sync_batchnorm=true lets norms standardise by all rows of a batch, and those of episodes standardise each "
            "episode by itself; leave it out."
        )
    several = len(devices) if isinstance(devices, ListConfig) else devices if isinstance(devices, int) else 1
    if not multirun or not (str(strategy).startswith("ddp") or max(several, nodes or 1) > 1):
        return None
    return (
        f"-m with trainer.strategy={strategy} trainer.devices={devices} would start the whole sweep once per device; start its "
        "runs one by one, or with trainer=cpu or trainer=gpu."
    )


def _folder_mistakes(cfg: DictConfig, multirun: bool) -> Iterator[str]:
    try:
        writable(identity.run_dir(cfg) if multirun else Path(cfg.hydra.run.dir))
    except (UsageError, OmegaConfBaseException) as error:  # the latter: a value that does not follow from the others
        yield one_line(error)


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
