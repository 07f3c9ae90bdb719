"""`maskbench figure RUN ...`: the figures of a run, or of runs that differ in the seed only, as PNG and SVG."""

from collections import Counter
from collections.abc import Iterator, Sequence
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskbench.commands.common import arguments, run_dir
from maskbench.errors import UsageError
from maskbench.report.runs import state

if TYPE_CHECKING:
    from maskbench.report.figures import Finished

TOLD = 3  # differences that a refusal names


def main(argv: list[str]) -> int:
    parser = arguments("figure", "Figures of a run; of several that differ in the seed only: mean and min-max band.")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run directories, or a folder of runs that share one key")
    parser.add_argument("--output", type=Path, help="folder of the figures (the run's own; figures-KEY beside several)")
    if (given := parser.read(argv)) is None:
        return 0
    from maskbench.report import figures

    folders = dict.fromkeys(path.resolve() for text in given.runs for path in finished(text))
    runs = sorted((figures.read(folder) for folder in folders), key=lambda run: run.result["seed"])
    comparable(runs)
    written = figures.save(runs, given.output or place(runs))
    print(*written or [f"nothing to draw: task={runs[0].result['task']} leaves no curves and no accuracy matrix"], sep="\n")
    return 0


def place(runs: Sequence["Finished"]) -> Path:
    """Where the figures go unless the user says: into the only run, or beside the first of several."""
    first = runs[0]
    return first.folder if len(runs) == 1 else first.folder.parent / f"figures-{first.result['key']}"


# ---- which runs


def finished(given: str) -> list[Path]:
    """The finished runs that an argument names: a run directory, a pattern, or a folder of runs of one key.

    Raises:
        UsageError: there is none, the named one is not finished, or the folder holds several keys.
    """
    path = Path(given).expanduser()
    if not path.exists() and (matches := sorted(glob(str(path)))):
        return [run for match in matches for run in finished(match)]
    if path.is_dir() and not any((path / name).is_file() for name in ("run.json", "result.json")):
        return below(path)
    run = run_dir(given)
    if (now := state(run)) != "finished":
        raise UsageError(f"{given} is {now}; figures are drawn from finished runs, and its command goes on with it.")
    return [run]


def below(folder: Path) -> list[Path]:
    """All finished runs of a folder.

    Raises:
        UsageError: there is none, or they belong to several keys; the message says which.
    """
    from maskbench.report import figures

    runs = [figures.read(path.parent) for path in sorted(folder.rglob("run.json")) if state(path.parent) == "finished"]
    if not runs:
        raise UsageError(f"{folder} holds no finished run; maskbench results --output FOLDER lists what there is.")
    kinds = Counter(f"{run.folder.parent}/*-{run.result['key']}" for run in runs)
    if len({run.result["key"] for run in runs}) > 1:
        listed = ", ".join(f"{kind} ({count})" for kind, count in sorted(kinds.items()))
        raise UsageError(f"{folder} holds finished runs of several experiments; give one of them: {listed}.")
    return [run.folder for run in runs]


# ---- whether they belong together


def comparable(runs: Sequence["Finished"]) -> None:
    """Runs of one figure have one key, one data source, and each its own seed.

    Raises:
        UsageError: they differ in more than the seed; the message names it.
    """
    first = runs[0]
    for run in runs[1:]:
        if run.result["key"] != first.result["key"]:
            found = [f"{k} is {a} and {b}" for k, a, b in differences(first.config, run.config)]
            more = f" and {len(found) - TOLD} more" if len(found) > TOLD else ""
            told = "; ".join(found[:TOLD]) + more or "their keys, made by different versions of maskbench"
            raise UsageError(f"{first.name} and {run.name} differ in more than the seed, so no figure joins them: {told}.")
        if run.result["source"] != first.result["source"]:
            sources = f"{first.result['source']} and {run.result['source']}"
            raise UsageError(
                f"{first.name} and {run.name} got their data from different sources ({sources}), which no figure mixes; "
                "rerun one of them with the other's."
            )
    seeds = Counter(run.result["seed"] for run in runs)
    if twice := [seed for seed, count in seeds.items() if count > 1]:
        names = " and ".join(run.name for run in runs if run.result["seed"] == twice[0])
        raise UsageError(f"seed {twice[0]} is there twice ({names}); give each seed once.")


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """(key, value in a, value in b) of what makes two experiments different, names of choices first."""
    from maskbench.identity import ELSEWHERE, WORDS

    left, right = dict(leaves(a)), dict(leaves(b))
    ignored = {top for top in ELSEWHERE if top != "trainer"}
    keys = [k for k in dict.fromkeys([*left, *right]) if k.split(".")[0] not in ignored and k.split(".")[-1] not in WORDS]
    keys = [k for k in keys if not k.startswith("trainer.") or k == "trainer.precision"]
    keys = [k for k in keys if left.get(k) != right.get(k) and not k.endswith("._target_")]
    return [(k, left.get(k), right.get(k)) for k in sorted(keys, key=lambda k: not k.endswith(".name"))]


def leaves(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
