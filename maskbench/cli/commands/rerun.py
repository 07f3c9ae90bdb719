"""`maskbench rerun RUN`: the overrides a run recorded, once more, after showing where the config has changed since."""

import difflib
import shlex
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from maskbench.cli import command_line, preflight
from maskbench.cli.commands.common import arguments, run_dir
from maskbench.cli.launch import launch
from maskbench.common import identity
from maskbench.common.errors import UsageError
from maskbench.common.files import read_json
from maskbench.report import runs as records


def main(argv: list[str]) -> int:
    parser = arguments("rerun", "Replay a run's recorded overrides with force=true.")
    parser.add_argument("run", help="its directory")
    parser.add_argument("--dry", action="store_true", help="only show the command and what has changed")
    if (given := parser.read(argv)) is None:
        return 0
    run = run_dir(given.run)
    overrides = recorded(run)
    command = preflight.check(overrides, starts=False)
    now = command.compose([override.input_line for override in command.overrides])
    if place := moved(run, now):
        overrides.append(place)
    if lines := changes(run, now):
        print("the config has changed since:", *lines, sep="\n")
    if modules := records.load(run).code_now.changed:
        print("the code has changed since:", *modules, sep="\n  ")
    again = [*overrides, "force=true"]
    print(f"maskbench {shlex.join(again)}", flush=True)
    return 0 if given.dry else launch(preflight.check(again).argv, sweep=False)


def recorded(run: Path) -> list[str]:
    """The run's overrides, and its --config-dir if it had one.

    Raises:
        UsageError: the directory holds neither .hydra/overrides.yaml nor overrides in run.json.
    """
    about, file = read_json(run / "run.json"), run / ".hydra" / "overrides.yaml"
    overrides = list(OmegaConf.load(file)) if file.is_file() else about.get("overrides")
    if overrides is None:
        raise UsageError(f"{run} does not say how it was started (.hydra/overrides.yaml is missing).")
    overrides = [word for text in overrides if not text.startswith(("force=", "stale=")) for word in _now(text)]
    return overrides + _config_dir(about.get("argv") or [])


def _now(override: str) -> list[str]:
    """The override; for a preset that has moved the words that are the same run now."""
    group, _, name = override.partition("=")
    return preflight.moved_presets().get(name, override).split(" ") if group == "experiment" else [override]


def _config_dir(argv: list[str]) -> list[str]:
    try:
        folder = command_line.parse(argv[1:]).args.config_dir
    except UsageError:
        return []
    return ["--config-dir", folder] if folder else []


def moved(run: Path, now: DictConfig) -> str | None:
    """The override that puts the rerun beside the run, when it lies elsewhere than the overrides say from here."""
    root = run.absolute().parent.parent
    return None if Path(now.paths.output).absolute() == root else f"paths.output={root}"


def changes(run: Path, now: DictConfig) -> list[str]:
    """A unified diff from the saved to the new config, paths, `force` and `stale` aside; empty when they are equal."""
    saved = run / ".hydra" / "config.yaml"
    before = OmegaConf.load(saved) if saved.is_file() else OmegaConf.create(read_json(run / "run.json").get("config"))
    old, new = _yaml(before), _yaml(now)
    return [line.rstrip("\n") for line in difflib.unified_diff(old, new, "recorded", "now", n=1)]


def _yaml(cfg: DictConfig) -> list[str]:
    parts = identity.plain(cfg, without={"hydra", "force", "stale", "paths", "experiment"})
    return OmegaConf.to_yaml(OmegaConf.create(parts), sort_keys=True).splitlines(keepends=True)
