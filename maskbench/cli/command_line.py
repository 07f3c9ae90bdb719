"""A command line taken apart: flags, overrides, the jobs of a sweep, and the config each of them composes.

Nothing is judged here (preflight.py does that) and no torch is imported. The parts of Hydra used are internal to 1.3,
hence the pin, and tests/cli holds them to it.
"""

import argparse
import copy
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from maskbench.cli import schema, slurm
from maskbench.common import identity
from maskbench.common.errors import UsageError

SWEEP = "sweep"  # the group whose files say which values to run through
NOT_GROUPS = {"hydra", "table", "published"}  # folders of conf/ that are no choices
VALUES = 10_000  # of one swept key, or jobs of one sweep


@dataclass
class Command:
    """A command line for Hydra, taken apart. `argv` has the overrides first, which Hydra's own parser needs."""

    args: argparse.Namespace
    argv: list[str]
    folders: list[Path]  # where groups lie: conf/, then --config-dir
    loader: ConfigLoaderImpl
    overrides: list[Override]
    sweeps: bool = False  # whether a file of conf/sweep makes a sweep of it
    composed: dict[tuple[str, ...], DictConfig] = dataclasses.field(default_factory=dict)  # of choices, by their words

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

    def chosen(self, words: Sequence[str]) -> DictConfig:
        """`compose` of choices and of what is Hydra's own: worked out once for a command, and not to be changed.

        Raises:
            UsageError: Hydra refuses the overrides; its words in one sentence.
        """
        key = tuple(sorted(words, key=lambda word: not word.startswith("hydra")))  # these are apart from all others
        if key not in self.composed:
            self.composed[key] = self.compose(list(words))
        return self.composed[key]

    def with_keys(self, chosen: Sequence[str], keys: Sequence[Override]) -> DictConfig:
        """The config of some choices in which these keys are set, as Hydra sets them once all choices are made: a tenth of the
        work of composing it.

        Raises:
            UsageError: Hydra refuses the overrides; its words in one sentence.
        """
        cfg = copy.deepcopy(self.chosen(chosen))
        try:
            ConfigLoaderImpl._apply_overrides_to_config(list(keys), cfg)
        except (HydraException, OmegaConfBaseException) as error:
            raise UsageError(one_line(error)) from error
        return cfg

    def of_job(self, words: Sequence[str]) -> DictConfig:
        """The config of one job (`jobs`) but for what Hydra notes of its words: the same key and directory.

        Raises:
            UsageError: Hydra refuses the overrides; its words in one sentence.
        """
        parser = OverridesParser.create()
        overrides = {word: parser.parse_override(word) for word in words}
        chosen = [word for word, o in overrides.items() if self.chooses(o)]
        return self.with_keys(chosen, [o for word, o in overrides.items() if word not in chosen])

    def chooses(self, override: Override) -> bool:
        """Whether it chooses of a group, or is Hydra's own: what is composed before keys are set."""
        return override.is_hydra_override() or self.is_group(override)


def parse(argv: list[str]) -> Command:
    """Take a command line apart without judging it.

    Raises:
        UsageError: unknown flag, no such --config-dir, or an override that Hydra's grammar refuses.
    """
    parser = get_args_parser()
    parser.error = _refuse
    stop_at_words_apart(argv)
    argv = [_quoted(_at_home(word)) for word in argv]
    args = parser.parse_intermixed_args(argv)
    folders = [identity.conf_dir()]
    if args.config_dir:
        folders.append(Path(args.config_dir).absolute())
        if not folders[1].is_dir():
            raise UsageError(f"--config-dir: there is no folder {args.config_dir}.")
    loader = _loader(folders)
    overrides = [_override(text, loader) for text in args.overrides]
    return _one_budget(_swept(Command(args, _overrides_first(argv, args.overrides), folders, loader, overrides)))


def stop_at_words_apart(argv: list[str]) -> None:
    """Refuse choices and keys that are not written as KEY=VALUE.

    Raises:
        UsageError: a choice or a key is written as a flag or as a word of its own, `--method supsup` or `method supsup`.
    """
    for word, after in itertools.zip_longest(argv, argv[1:], fillvalue=""):
        name, _, value = word.removeprefix("--").partition("=")
        known = (identity.conf_dir() / name).is_dir() if name.isidentifier() else name.partition(".")[0] in schema.DECLARED
        if known or name in schema.DECLARED:
            if word.startswith("--"):
                raise UsageError(f"'{word}' is no flag: write {name}={value or after or 'VALUE'}.")
            if "=" not in word and after and "=" not in after and not after.startswith("-"):
                raise UsageError(f"'{word} {after}' is written as one word: {name}={after}.")


def _at_home(word: str) -> str:
    """`paths.output=~/runs` with the home folder in the place of `~`, which shells leave alone behind an equals sign."""
    key, equals, path = word.partition("=")
    if equals and key.lstrip("+").startswith("paths.") and (path == "~" or path.startswith("~/")):
        return f"{key}={Path(path).expanduser()}"
    return word


def _quoted(word: str) -> str:
    """`notes=any text, as it is` in the quotes that Hydra's grammar wants around commas, colons and brackets."""
    key, equals, text = word.partition("=")
    if not equals or key.lstrip("+") != "notes" or not text.strip() or text == "null" or text[0] in "'\"$":
        return word
    sign = "'" if '"' in text and "'" not in text else '"'
    inner = text.replace(sign, f"\\{sign}")
    return f"{key}={sign}{inner}{chr(92) * inner.endswith(chr(92))}{sign}"


def _one_budget(command: Command) -> Command:
    """With steps or epochs at null where the user gave a number of the other alone, which wins over what files set."""
    steps, epochs = ([o for o in command.overrides if o.key_or_group == f"budget.{unit}"] for unit in ("steps", "epochs"))
    if not command.ours or bool(steps) == bool(epochs):
        return command
    given, other = (steps, "epochs") if steps else (epochs, "steps")
    if given[0].is_delete() or any(value is None for value in values(given[-1])):
        return command
    text = f"budget.{other}=null"
    overrides = [*command.overrides, _override(text, command.loader)]
    return dataclasses.replace(command, overrides=overrides, argv=[text, *command.argv])


def _swept(command: Command) -> Command:
    """With the values that a file of conf/sweep runs through, below those the user gave for the same keys, as Hydra does."""
    chosen = [o.input_line for o in command.overrides if o.key_or_group == SWEEP and not o.is_delete()]
    if not chosen or not command.ours:
        return command
    try:
        hydra = command.compose(chosen).hydra
    except UsageError as error:
        if "Could not" in str(error) and "hydra/" in str(error):
            raise UsageError(
                f"{chosen[-1]} needs one of Hydra's plugins that is not here: pip install 'maskbench[sweep]'."
            ) from None
        return command  # a wrong choice, which is reported with the right ones beside it
    given = {o.key_or_group for o in command.overrides}
    params = OmegaConf.to_container(hydra.sweeper).get("params") or {}
    brought = [_override(f"{key}={value}", command.loader) for key, value in params.items() if key not in given]
    mode = str(hydra.get("mode"))
    return dataclasses.replace(command, overrides=[*brought, *command.overrides], sweeps=mode.endswith("MULTIRUN"))


def _refuse(message: str) -> None:
    raise UsageError(f"{message}; see --help.")


def _loader(folders: list[Path]) -> ConfigLoaderImpl:
    version.setbase("1.3")
    Plugins.instance()
    identity.register()
    schema.register()
    slurm.register()
    path = create_config_search_path(str(folders[0]))
    schema_source = path.get_path().pop()
    for folder in folders[1:]:
        path.append("command-line", f"file://{folder}")
    path.get_path().append(schema_source)  # Hydra wants it last
    return _reads_once(ConfigLoaderImpl(path))


def _reads_once(loader: ConfigLoaderImpl) -> ConfigLoaderImpl:
    """The loader, which reads each file once, however many configs are composed for a command line."""
    files, read = {}, loader.repository.load_config

    def load_config(config_path: str) -> ConfigResult | None:
        if config_path not in files:
            files[config_path] = read(config_path)
        return copy.deepcopy(files[config_path])  # composing changes it

    loader.repository.load_config = load_config
    return loader


def _override(text: str, loader: ConfigLoaderImpl) -> Override:
    if text.lstrip("+").startswith("="):
        raise UsageError(f"'{text}' has no key: write KEY{text.lstrip('+')}.")
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
    if ours := next((e for e in _behind(error) if isinstance(e, UsageError)), None):  # what a resolver raised
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


def spread(override: Override) -> list[str]:
    """The override once for each value it sweeps; itself alone otherwise; nothing for a sweeper's open interval."""
    if not override.is_sweep_override():
        return [override.input_line]
    if not override.is_discrete_sweep():
        return []
    swept = itertools.islice(override.sweep_string_iterator(), VALUES)
    return [f"{override.get_key_element()}={value}" for value in swept]


def values(override: Override) -> Iterator[object]:
    """Each value the override gives its key, as Python objects; none for a sweeper's open interval."""
    if not override.is_sweep_override():
        yield override.value()
        return
    parser = OverridesParser.create()
    for text in spread(override):
        yield parser.parse_override(text).value()


def jobs(command: Command) -> Iterator[list[str]]:
    """The overrides of each job the command would start, in the order of Hydra's basic sweeper."""
    if not command.multirun:
        yield [o.input_line for o in command.overrides]
        return
    last = {o.get_key_element(): spread(o) for o in command.overrides if not o.is_hydra_override()}
    hydra = [o.input_line for o in command.overrides if o.is_hydra_override() and o.key_or_group != "hydra.mode"]
    for job in itertools.islice(itertools.product(*filter(None, last.values())), VALUES):
        yield [*hydra, *job]


def handed_over(command: Command) -> list[str]:
    """The command line as Hydra is to have it. Where a sweep runs through choices of a group (`-m method=snip,rigl
    method.keep=0.05`), a key of a part is each job's: Hydra would first set it in the config before all choices, whose own part
    may not have it."""
    if not (command.multirun and any(o.is_sweep_override() and command.is_group(o) for o in command.overrides)):
        return command.argv
    each = {o.input_line: _of_jobs_alone(o) for o in command.overrides if of_each_job(o, command.groups)}
    return [each.get(word, word) for word in command.argv]


def _of_jobs_alone(override: Override) -> str:
    """The override as a sweep through its one value; a null, of which Hydra makes no choice, is forced on what lacks the key."""
    key, _, value = override.input_line.partition("=")
    return f"++{key}=null" if override.value() is None else f"{key}=choice({value})"


def of_each_job(override: Override, groups: set[str]) -> bool:
    """Whether it sets one value of a key of something chosen (`method.keep=0.05`)."""
    part, _, key = override.key_or_group.partition(".")
    one = override.type is OverrideType.CHANGE and not override.is_sweep_override()
    return one and part in groups and key != "" and override.input_line.partition("=")[2].strip() != ""


# ---- what can be chosen


def groups(folders: list[Path]) -> list[str]:
    """The groups that have choices, over all folders."""
    tops = {entry.name for folder in folders for entry in folder.iterdir() if entry.is_dir()}
    return [top for top in sorted(tops - NOT_GROUPS) if choices(folders, top)]


def choices(folders: list[Path], group: str) -> dict[str, Path]:
    """Choice -> file of one group, over all folders, those below it spelled `below/choice`."""
    files = [(folder / group, path) for folder in folders for path in sorted((folder / group).rglob("*.yaml"))]
    by_name = {path.relative_to(top).with_suffix("").as_posix(): path for top, path in files}
    return {name: path for name, path in sorted(by_name.items()) if not path.name.startswith("_")}
