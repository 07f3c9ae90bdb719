"""`maskbench rerun RUN [KEY=VALUE ...]`: the overrides a run recorded, once more or with others in the place of some of them,
after showing where the config differs from the recorded one.

A record may come from a stranger: what it says is read as text, and judged, before Hydra sees any of it.
"""

import difflib
import json
import re
import shlex
from collections.abc import Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from maskbench.cli import command_line, preflight
from maskbench.cli.commands.common import arguments, run_dir
from maskbench.cli.start import start
from maskbench.common import foreign, identity, yamls
from maskbench.common.errors import UsageError
from maskbench.common.files import content, read_json
from maskbench.common.foreign import printable
from maskbench.report import runs as records
from maskbench.runs import trust

WAY = "maskbench rerun RUN --trust"
OVERRIDES = foreign.MB  # bytes of .hydra/overrides.yaml
NO_CHANGE = identity.ELSEWHERE - {"logger", "loop", "seed", "trainer"}  # these a reader of what has changed is shown
PLAIN = re.compile(r"[\w/.\-+~@ ]+")  # a path that Hydra takes as it is


EITHER = {"budget.steps": "budget.epochs", "budget.epochs": "budget.steps"}  # one takes the other's place
ABOUT = """Replay a run's recorded overrides: with force=true, which does it anew.

KEY=VALUE ...: in the place of what was recorded for these keys, or beside it. What is another question then is another run,
beside the first, and is not done anew where it is finished: maskbench rerun RUN optimizer.lr=0.01. Values with commas are a
sweep: maskbench rerun RUN seed=1,2,3."""


def main(argv: list[str]) -> int:
    parser = arguments("rerun", ABOUT)
    parser.add_argument("run", help="its directory")
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="overrides in the place of recorded ones")
    parser.add_argument("--dry", action="store_true", help="only show the command and what has changed")
    parser.add_argument("--trust", action="store_true", help="do also what the record asks of code outside maskbench")
    if (given := parser.read(argv)) is None:
        return 0
    run = run_dir(given.run)
    overrides, flags = recorded(run), config_dir(run)
    if things := [] if given.trust else list(dict.fromkeys(chain(flags, *map(trust.words, overrides)))):
        if not given.dry:
            trust.refuse(run, things, WAY)
        print(f"the command asks for what is no part of maskbench, and was not read further: {printable(', '.join(things))}")
        print(printable(f"maskbench {shlex.join([*overrides, *flags, 'force=true'])}"))
        return 0
    overrides = [*replaced([word for text in overrides for word in _now(text)], given.words), *flags]
    if any(override.is_sweep_override() for override in command_line.parse(overrides).overrides):
        overrides.append("-m")
    command = preflight.check(overrides, starts=False)
    now = composed(command, run, given.trust)
    if "paths.output" not in map(key, given.words) and (place := moved(run, now)):
        overrides.append(place)
    if lines := changes(run, now):
        print("beside the recorded config:" if given.words else "the config has changed since:", *map(printable, lines), sep="\n")
    if modules := records.load(run).code_now.changed:
        print("the code has changed since:", *map(printable, modules), sep="\n  ")
    same = not command.multirun and identity.run_dir(now).parts[-2:] == run.absolute().parts[-2:]
    anew = (same or not given.words) and "force" not in map(key, given.words)
    again = [*overrides, "force=true"] if anew else overrides
    if given.words and not command.multirun and not same:
        print(printable(f"another run than the recorded one: {'/'.join(identity.run_dir(now).parts[-2:])}"))
    print(printable(f"maskbench {shlex.join(again)}"), flush=True)
    return 0 if given.dry else start(again)


def replaced(overrides: Sequence[str], words: Sequence[str]) -> list[str]:
    """The overrides with these in the place of those for the same keys; of steps and epochs, one is given."""
    keys = {name for word in words for name in (key(word), EITHER.get(key(word), ""))}
    return [*(text for text in overrides if key(text) not in keys), *words]


def key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def recorded(run: Path) -> list[str]:
    """The run's overrides.

    Raises:
        UsageError: the directory holds neither .hydra/overrides.yaml nor overrides in run.json, or no list of words.
    """
    file = run / ".hydra" / "overrides.yaml"
    try:
        text = content(file, OVERRIDES)
        overrides = read_json(run / "run.json").get("overrides") if text is None else yamls.parse(text)
    except (ValueError, yaml.YAMLError, RecursionError):
        raise UsageError(f"{printable(file)} cannot be read; without it run.json says how the run was started.") from None
    if overrides is None:
        raise UsageError(f"{printable(run)} does not say how it was started (.hydra/overrides.yaml is missing).")
    if not isinstance(overrides, list) or not all(isinstance(text, str) for text in overrides):
        raise UsageError(f"{printable(run)} does not say how it was started: its overrides are no list of words.")
    return [text for text in overrides if not text.startswith(("force=", "stale="))]


def _now(override: str) -> list[str]:
    """The override; for a preset that has moved the words that are the same run now."""
    group, _, name = override.partition("=")
    return preflight.moved_presets().get(name, override).split(" ") if group == "experiment" else [override]


def config_dir(run: Path) -> list[str]:
    """The run's --config-dir, whose files may say anything."""
    argv = read_json(run / "run.json").get("argv")
    words = argv[1:] if isinstance(argv, list) and all(isinstance(word, str) for word in argv) else []
    for word, after in zip_longest(words, words[1:], fillvalue=""):
        name, equals, folder = word.partition("=")
        if name in ("--config-dir", "-cd") and (folder := folder if equals else after):
            return ["--config-dir", folder]
    return []


def composed(command: command_line.Command, run: Path, trusted: bool) -> DictConfig:
    """The config of the overrides now, of a sweep that of its first job; what follows from one another in it has been judged too.

    Raises:
        UsageError: it names what is no part of maskbench.
    """
    now = command.compose(next(command_line.jobs(command)))
    if not trusted:
        written = {name: part for name, part in OmegaConf.to_container(now).items() if name != "hydra"}
        trust.refuse(run, trust.strange(written), WAY)
        trust.refuse(run, trust.strange(resolved(now)), WAY)  # which calls no more than what was judged
    return now


def resolved(now: DictConfig) -> dict[str, Any]:
    try:
        return identity.plain(now, without={"hydra"})
    except OmegaConfBaseException as error:
        raise UsageError(command_line.one_line(error)) from error


def moved(run: Path, now: DictConfig) -> str | None:
    """The override that puts the rerun beside the run, when it lies elsewhere than the overrides say from here.

    Raises:
        UsageError: the folder's name has signs that Hydra would read as something else.
    """
    root = run.absolute().parent.parent
    if Path(now.paths.output).absolute() == root:
        return None
    if not PLAIN.fullmatch(str(root)):
        raise UsageError(f"{printable(root)} has signs in its name that mean something in a config; rename the folder.")
    return f"paths.output={root}"


def changes(run: Path, now: DictConfig) -> list[str]:
    """A unified diff from the recorded to the present config, paths, `force` and `stale` aside; empty when they are equal."""
    before = records.load(run).config
    if not before:
        return []
    old, new = _yaml(before), _yaml(json.loads(json.dumps(resolved(now))))
    return [line.rstrip("\n") for line in difflib.unified_diff(old, new, "recorded", "now", n=1)]


def _yaml(config: dict[str, Any]) -> list[str]:
    parts = {name: part for name, part in config.items() if name not in NO_CHANGE}
    return yaml.safe_dump(parts, sort_keys=True, allow_unicode=True).splitlines(keepends=True)
