"""`maskbench show KEY=VALUE ...`: the resolved config and who set what; `maskbench show RUN`: a run's record."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from maskbench.cli.commands import notes
from maskbench.cli.commands.common import aligned, run_dir, size
from maskbench.common import identity
from maskbench.common.errors import UsageError
from maskbench.common.foreign import printable
from maskbench.report.runs import Run, load
from maskbench.report.spark import series, spark


def main(argv: list[str]) -> int:
    if argv in (["--help"], ["-h"]):
        print("maskbench show KEY=VALUE ...: the resolved config and which files made each part of it")
        print("maskbench show KEY=VALUE ... --coverage: which weights the method masks, trains and freezes, by parameter")
        print("maskbench show RUN --coverage [--trust]: the same of a run; --trust also makes what it names outside maskbench")
        print("maskbench show RUN: status, choices, metrics, origin, files and W&B record of a run directory")
        print("maskbench show RUN --curves: its learning curves, finished or not, a line each")
        return 0
    if "--coverage" in argv:
        words = [word for word in argv if word not in ("--coverage", "--trust")]
        coverage(words, trusted="--trust" in argv)
    elif "--curves" in argv and is_run(words := [word for word in argv if word != "--curves"]):
        curves(run_dir(words[0]))
    elif is_run(argv):
        record(run_dir(argv[0]))
    else:
        config(argv)
    return 0


def is_run(words: list[str]) -> bool:
    """Whether the words name a run directory, and are no config."""
    return len(words) == 1 and "=" not in words[0] and not words[0].startswith(("-", "~"))


# ---- a config


def config(argv: list[str]) -> None:
    """Print the config as YAML, with comments in front: what the preset says of itself, and where each part came from."""
    from maskbench.cli import preflight

    command = preflight.check(argv, starts=False)
    overrides = [override.input_line for override in command.overrides]
    cfg = command.compose(overrides)
    parts = identity.plain(cfg, without={"hydra"})
    note = parts.pop("experiment", None)
    rows = [[name, " < ".join(files)] for name, files in origins(command, overrides, cfg).items()]
    if note:
        print("".join(f"# {line}\n" for line in notes.lines(note)), end="")
    print(f"# run directory: {identity.run_dir(cfg)}")
    print("# each part and what made it, the last wins:")
    print(aligned(rows, indent="#   "))
    print()
    print(OmegaConf.to_yaml(OmegaConf.create(parts)), end="")


def coverage(argv: list[str], trusted: bool) -> None:
    """Print what the method of a config, or of a run, masks, trains and freezes of its backbone; data are read, nothing is
    trained."""
    method, stages = made(argv, trusted)
    from maskbench.runs.coverage import coverage as rows_of

    rows = rows_of(method, stages)
    words = {True: "masked", False: ""}
    cells = [[words.get(value, value) for value in row.values()] for row in rows]
    print(aligned(cells, list(rows[0])))


def made(argv: list[str], trusted: bool) -> tuple["Method", list["Stage"]]:  # noqa: F821
    """The untrained method and the stages of a config, or of a run's record."""
    if is_run(argv):
        folder = run_dir(argv[0])
        from maskbench.runs.read_back import untrained

        return untrained(folder, trust=trusted, way="maskbench show RUN --coverage --trust")[:2]
    from maskbench.cli import preflight

    command = preflight.check(argv, starts=False)
    cfg = command.compose([override.input_line for override in command.overrides])

    from maskbench.runs.assemble import Run

    run = Run(cfg, Path(identity.run_dir(cfg)))
    stages = run.stages()
    return run.method(stages), stages


def origins(command: "cmdline.Command", overrides: list[str], cfg: DictConfig) -> dict[str, list[str]]:  # noqa: F821
    """Top-level key -> the files and overrides that set something in it, in order of precedence, lowest first."""
    from hydra.types import RunMode

    makers: dict[str, list[str]] = {name: [] for name in cfg if name not in ("hydra", "experiment")}
    for default in command.loader.compute_defaults_list("config", overrides, RunMode.RUN).defaults:
        if (default.package or "").split(".")[0] == "hydra" or default.config_path.startswith("hydra/"):
            continue
        loaded = command.loader.repository.load_config(default.config_path)
        if loaded is None or loaded.path.startswith("structured"):
            continue
        file = _short(Path(loaded.path.removeprefix("file://")) / f"{default.config_path}.yaml", command.folders)
        for name in [default.package.split(".")[0]] if default.package else loaded.config:
            if name in makers:
                makers[name].append(file)
    for override in command.overrides:
        top = override.key_or_group.split(".")[0]
        if top in makers and not command.is_group(override):
            makers[top].append(override.input_line)
    return makers


def _short(path: Path, folders: list[Path]) -> str:
    if path.is_relative_to(folders[0]):
        return f"conf/{path.relative_to(folders[0])}"
    return str(path)


# ---- a run


def record(run: Path) -> None:
    """Print what the run directory holds; what is missing is left out, and of a damaged record all but why it is."""
    there = load(run)
    about, result = there.about, there.result
    for title, rows in [
        (printable(run), [["state", there.status], *_fault(there), *_freshness(there), *_remarks(there), *_attempts(about)]),
        ("choices", [[k, v] for k, v in (about.get("choices") or {}).items() if v is not None]),
        ("metrics", [[k, v] for k, v in (result.get("metrics") or {}).items()]),
        ("fingerprints", [[k, v] for k, v in (result.get("fingerprints") or result.get("marks") or {}).items()]),
        ("origin", list(_origin(about))),
        ("cost", [[k, v] for k, v in (about.get("cost") or {}).items()]),
        ("W&B, read back from its offline file", list(_wandb(run))),
        ("files", [[size(p.stat().st_size), p.name] for p in sorted(run.iterdir()) if p.is_file()]),
    ]:
        if rows:
            print(f"{title}\n{aligned(rows, indent='  ')}\n")
    if table := result.get("table"):
        head = list(dict.fromkeys(name for row in table for name in row))
        print(f"result\n{aligned([[row.get(name) for name in head] for row in table], head, indent='  ')}\n")
    for note in result.get("notes") or []:
        print(printable(note))


def curves(run: Path) -> None:
    """Print each curve of the history as a line: where it begins and ends, and bars from its least to its most."""
    rows = [
        [*names, curve[-1][0], curve[0][1], curve[-1][1], spark([value for _, value in curve])]
        for names, curve in series(run).items()
    ]
    if not rows:
        raise UsageError(f"{run} has no history yet (metrics.csv); its rows come every loop.log_every steps.")
    print(aligned(rows, ["part", "phase", "metric", "steps", "first", "last", "curve"]))


def _fault(run: Run) -> list[list]:
    return [["because", run.fault]] if run.fault else []


def _freshness(run: Run) -> list[list]:
    if not run.freshness:
        return []
    return [["code", f"{run.freshness}: {run.code_now}" if run.code_now.old else f"{run.freshness}, {', '.join(run.codes)}"]]


def _remarks(run: Run) -> list[list]:
    """Its tags, and what people said of it."""
    said = [["note", str(run.config["notes"])]] if run.config.get("notes") else []
    said += [["note", f"{note.text} ({note.at})"] for note in run.said if note.text]
    return [*([["tags", str(run.tags)]] if run.tags else []), *said]


def _attempts(about: dict) -> list[list]:
    return [
        ["attempt", f"{attempt.get('started', '?')} to {attempt.get('ended', '?')}: {attempt.get('status', '?')}"]
        for attempt in about.get("attempts") or []
    ]


def _origin(about: dict) -> Iterator[list]:
    commit = about.get("git") or about
    if commit.get("commit"):
        yield ["commit", f"{commit['commit']}{' with changes (uncommitted.patch)' if commit.get('dirty') else ''}"]
    for name in ("key", "seed", "threads", "python", "platform", "cpu", "cores"):
        if about.get(name) is not None:
            yield [name, str(about[name])]
    for name, value in (about.get("machine") or {}).items():
        yield [name, str(value)]
    if versions := about.get("versions"):
        yield ["versions", ", ".join(f"{name} {version}" for name, version in versions.items() if version)]
    if source := (about.get("data") or {}).get("source"):
        yield ["data from", source]
    if overrides := about.get("overrides"):
        yield ["command", f"maskbench {' '.join(overrides)}"]


def _wandb(run: Path) -> Iterator[list]:
    if not any(run.glob("wandb/*/run-*.wandb")):
        return
    if find_spec("wandb") is None:
        yield ["file", "cannot be read: the wandb package, whose format it has, is not installed"]
        return
    from maskbench.report import wandb_file

    try:
        logged = wandb_file.read(run)
    except (UsageError, OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        yield ["file", f"cannot be read ({type(error).__name__})"]
        return
    if logged is None:
        return
    names = {name for row in logged.history for name in row if not name.startswith("_")}
    yield [
        "run",
        f"{logged.id} of project {logged.project}, group {logged.group}, attempts {logged.attempts}",
    ]
    yield ["history", f"{len(logged.history)} rows of {', '.join(sorted(names))}"]
    yield ["summary", f"{len([name for name in logged.summary if not name.startswith('_')])} values"]
    yield ["exit code", "none: still running, or killed" if logged.exit_code is None else str(logged.exit_code)]
