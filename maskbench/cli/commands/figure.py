"""`maskbench figure RUN ...`: the figures of a run, of runs that differ in the seed only, or of experiments side by side."""

import os
from collections import Counter
from collections.abc import Sequence
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskbench.cli.commands.common import Arguments, arguments, run_dir
from maskbench.common import foreign
from maskbench.common.asked import question
from maskbench.common.checksums import renew
from maskbench.common.errors import UsageError
from maskbench.report.look import FORMATS, Look
from maskbench.report.runs import DAMAGED, UNREADABLE, state

if TYPE_CHECKING:
    from maskbench.report.finished import Finished

ABOUT = """Figures of a run; of several that differ in the seed only: mean and band; of continual experiments on the same
stages: accuracy against bytes, against stages, and against the one setting in which they differ; of pruning experiments on
the same data: accuracy against the weights that remain. Options say how they look in a paper."""
MOST_NAMED = 3  # differences that a refusal names
OUTPUTS = {"data.labels"}  # which outputs the same images of a stage are told apart by


def main(argv: list[str]) -> int:
    parser = arguments("figure", ABOUT)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run directories, folders of runs, or patterns of either")
    where = "folder of the figures (the run's own; figures-KEY beside several; figures-DATA beside the folders of experiments)"
    parser.add_argument("--output", type=Path, help=where)
    options(parser)
    if (given := parser.read(argv)) is None:
        return 0
    look = Look.read(
        style=given.style,
        width=given.width,
        labels=given.labels,
        title=not given.no_title,
        interval=given.interval,
        formats=given.format,
    )
    from maskbench.report import figures

    folders = dict.fromkeys(path.resolve() for text in given.runs for path in finished(text))
    runs = sorted(readable(list(folders)), key=lambda run: run.result["seed"])
    of_one_origin(runs)
    groups = by_key(runs)
    for group in groups:
        each_seed_once(group)
    look.known(figures.names(runs))
    with look.used():
        if len(groups) > 1:
            of_the_same_data(groups)
            if not (written := figures.save_comparison(groups, given.output or place_of(groups))):
                raise UsageError(apart(groups))
        else:
            written = figures.save(runs, given.output or place(runs))
        if given.output is None and len(runs) == 1:
            renew(runs[0].folder, written)
    print(*written or [f"nothing to draw: task={runs[0].result['task']} leaves no curves and no accuracy matrix"], sep="\n")
    return 0


def options(parser: Arguments) -> None:
    """How figures look, of which only what is wrong is judged before matplotlib is there."""
    parser.add_argument("--format", default="png,svg", metavar="F,...", help=f"{', '.join(FORMATS)} (png,svg)")
    styles = "paper: 8 pt at the printed width and nothing below 6; talk: for slides; screen: as runs leave them (screen)"
    parser.add_argument("--style", default="screen", help=styles)
    widths = "column (3.5 in; a talk's 6), text (7; 12), or a length such as 9cm or 3.25in (each figure's own)"
    parser.add_argument("--width", help=widths)
    words = 'what stands for a config key, a method, a data set or a branch: method.scale="mask scale"; again for more'
    parser.add_argument("--labels", action="append", default=[], metavar="KEY=TEXT", help=words)
    parser.add_argument("--no-title", action="store_true", help="no title: for a caption")
    spreads = "of several seeds: t (95 %%, of shares never beyond 0 or 1), minmax or sd (screen: minmax, else t)"
    parser.add_argument("--interval", help=spreads)


def readable(folders: Sequence[Path]) -> "list[Finished]":
    """The records of the runs; of several, those that are damaged are said to be skipped.

    Raises:
        UsageError: none can be drawn.
    """
    from maskbench.report import figures

    runs, mistakes = [], []
    for folder in folders:
        try:
            runs.append(figures.read(folder))
        except UsageError as mistake:
            mistakes.append(mistake)
    if not runs:
        raise mistakes[0]
    for mistake in mistakes:
        foreign.say(f"skipped: {mistake}")
    return runs


def place(runs: Sequence["Finished"]) -> Path:
    """Where the figures go unless the user says: into the only run, or beside the first of several."""
    first = runs[0]
    return first.folder if len(runs) == 1 else first.folder.parent / f"figures-{first.result['key']}"


def place_of(groups: Sequence[Sequence["Finished"]]) -> Path:
    """Beside the folders of the experiments."""
    return Path(os.path.commonpath([run.folder.parent.parent for group in groups for run in group])) / (
        f"figures-{groups[0][0].result['data']}"
    )


# ---- which runs


def is_finished(run: Path) -> bool:
    """Whether a run is finished; one of which that cannot be told is said to be skipped."""
    now = state(run)
    if now in (DAMAGED, UNREADABLE):
        foreign.skip(run, f"it is {now}; maskbench show {run} tells why")
    return now == "finished"


def finished(given: str) -> list[Path]:
    """The finished runs that an argument names: a run directory, a pattern, or a folder of runs.

    Raises:
        UsageError: there is none, or the named one is not finished.
    """
    path = Path(given).expanduser()
    if not path.exists() and (matches := sorted(glob(str(path)))):
        folders, mistakes = [], []
        for match in matches:  # a pattern may also meet what is no experiment: figures, runs under way
            try:
                folders += finished(match)
            except UsageError as mistake:
                mistakes.append(mistake)
                if (Path(match) / "run.json").exists():
                    is_finished(Path(match))
        if not folders:
            raise mistakes[0]
        return folders
    if path.is_dir() and not any((path / name).is_file() for name in ("run.json", "result.json")):
        folders = [below.parent for below in sorted(path.rglob("run.json")) if is_finished(below.parent)]
        if not folders:
            raise UsageError(f"{path} holds no finished run; maskbench results --output FOLDER lists what there is.")
        return folders
    run = run_dir(given)
    if (now := state(run)) != "finished":
        raise UsageError(f"{given} is {now}; figures are drawn from finished runs, and its command goes on with it.")
    return [run]


# ---- whether they belong together


def by_key(runs: Sequence["Finished"]) -> list[list["Finished"]]:
    """The runs of each experiment, in the order of methods and keys."""
    groups: dict[tuple[str, str], list[Finished]] = {}
    for run in runs:
        groups.setdefault((run.result["method"], run.result["key"]), []).append(run)
    return [groups[name] for name in sorted(groups)]


def of_one_origin(runs: Sequence["Finished"]) -> None:
    """Refuse runs that no figure may join for where their data came from.

    Raises:
        UsageError: the runs got their data from different sources.
    """
    first = runs[0]
    for run in runs[1:]:
        if run.result["source"] != first.result["source"]:
            sources = f"{first.result['source']} and {run.result['source']}"
            raise UsageError(
                f"{first.name} and {run.name} got their data from different sources ({sources}), which no figure mixes; "
                "rerun one of them with the other's."
            )


def each_seed_once(runs: Sequence["Finished"]) -> None:
    """Refuse an experiment that counts one seed twice.

    Raises:
        UsageError: two runs of one experiment have the same seed.
    """
    seeds = Counter(run.result["seed"] for run in runs)
    if twice := [seed for seed, count in seeds.items() if count > 1]:
        names = " and ".join(run.name for run in runs if run.result["seed"] == twice[0])
        raise UsageError(f"seed {twice[0]} is there twice ({names}); give each seed once.")


def of_the_same_data(groups: Sequence[Sequence["Finished"]]) -> None:
    """Refuse experiments whose stages are not the same.

    Raises:
        UsageError: the experiments differ in a key of their data; the message names it.
    """
    first = groups[0][0]
    for other, *_ in groups[1:]:
        keys = {key for key, _, _ in differences(first.config, other.config)} - OUTPUTS
        if any(key.startswith("data.") for key in keys):
            raise UsageError(apart([groups[0], [other]]))


def apart(groups: Sequence[Sequence["Finished"]]) -> str:
    """Why no figure joins these experiments: in what the first two differ, what of data first; and what there is to choose."""
    first, other = groups[0][0], groups[1][0]
    phrases = differences(first.config, other.config)
    phrases = [f"{k} is {a} and {b}" for k, a, b in sorted(phrases, key=lambda one: not one[0].startswith("data."))]
    more = f" and {len(phrases) - MOST_NAMED} more" if len(phrases) > MOST_NAMED else ""
    listed = "; ".join(phrases[:MOST_NAMED]) + more or "their keys, made by different versions of maskbench"
    kinds = ", ".join(f"{group[0].folder.parent}/*-{group[0].result['key']} ({len(group)})" for group in groups)
    return f"{first.name} and {other.name} differ in more than the seed, so no figure joins them: {listed}. Choose from {kinds}."


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """(key, value in a, value in b) of what makes two experiments different, names of choices first."""
    left, right = question(a), question(b)
    keys = [k for k in dict.fromkeys([*left, *right]) if left.get(k) != right.get(k)]
    return [(k, left.get(k), right.get(k)) for k in sorted(keys, key=lambda k: not k.endswith(".name"))]
