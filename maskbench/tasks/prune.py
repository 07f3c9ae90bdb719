"""Pruning level by level: train, prune, rewind, again; controls branch off the same mask at every level.

Nets are scored by test accuracy on classes, and on reals by root mean squared error in the targets' own units. Where the mask
that solves the problem is known (backbone=planted), masks are also compared with it.
"""

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from math import floor, log10
from typing import Any

from maskbench.common.errors import UsageError
from maskbench.common.knobs import Count, Probability, Whole
from maskbench.data.stage import Split, Stage
from maskbench.tasks import savings
from maskbench.tasks.contracts import Exhausts, Prunes
from maskbench.tasks.metrics import recovery
from maskbench.tasks.metrics.continual import rmse
from maskbench.tasks.needs import need
from maskbench.tasks.outcome import Outcome
from maskbench.training import evaluate
from maskbench.training.journal import Journal
from maskbench.training.method import Method

TICKET = "ticket"  # the method itself, beside its branches
DECIMALS, DIGITS = 4, 3  # of a density in a name: decimals and significant digits, at least
EARLY = {"accuracy": "early_stop_accuracy", "rmse": "early_stop_rmse"}  # a score -> what it is at the early-stop step
CHANCE = 1.5  # times 1 / classes: accuracies up to that are chance


def run(
    method: Method,
    stages: list[Stage],
    fit: Callable,
    journal: Journal,
    *,
    levels: Whole,
    branches: Mapping[str, Mapping[str, Any]],
    branch_levels: Sequence[Whole] | None,
    supermasks: Mapping[str, Mapping[str, Any]],
    supermask_levels: Count | None,
    fast: Probability,
) -> Outcome:
    """Iterative pruning: train the dense net (level 0), then prune and retrain it level by level.

    Args:
        levels: prunings after the first training.
        branches: controls trained from a level's mask: by name, what the method's `branch` takes.
        branch_levels: levels they are trained at (None: all pruned ones).
        supermasks: one-shot masks that are tested at every level's counts and never trained: by name, what `branch` takes.
        supermask_levels: how many levels of them (None: `levels`).
        fast: validation accuracy whose first step measures speed (of classes).

    Raises:
        UsageError: a branch has the name of the method's own rows.
    """
    keys = {"levels": levels, "branches": branches, "supermasks": supermasks}
    need("prune", Prunes, method, stages, **keys, instead="data=mnist")
    if TICKET in branches:
        raise UsageError(f"task.branches.{TICKET}: rows of that name are the method's own; give the branch another name.")
    stage, at = stages[0], range(1, levels + 1) if branch_levels is None else branch_levels
    journal.expected = 1 + levels + len(branches) * len([n for n in range(levels + 1) if n in at]) + bool(supermasks)
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    for level in range(levels + 1):
        row = journal.part(f"level {level}", partial(train, method, stage, fit, level, fast))
        rows.append(row)
        notes += ([] if stage.regression else starved(rows, stage.outputs)) + collapsed(rows)
        if level in at:
            for name, knobs in branches.items():
                work = partial(control, method, stage, fit, level, name, knobs, fast)
                rows.append(journal.part(f"level {level} {name}", work))
                notes += collapsed(rows)
        if level == 0 and supermasks:
            rows += journal.part("supermasks", partial(untrained, method, stage, supermask_levels or levels, supermasks))["rows"]
        empty = [name for name, share in row["extra_metrics"].items() if name.startswith("density/") and share == 0]
        if empty and (level < levels or not row["savings"].get("collapse")):
            notes.append(f"Level {level} leaves nothing of {', '.join(n.removeprefix('density/') for n in empty)}: stopped.")
            break
        if level < levels and isinstance(method, Exhausts) and method.exhausted():
            notes.append(
                f"Level {level} is the last, though task.levels={levels}: this method.scope leaves nothing more to prune."
            )
            break
    return report(rows, notes)


def starved(rows: Sequence[dict[str, Any]], outputs: int) -> list[str]:
    """A sentence where the last of the ticket's rows is the first at chance: which layer keeps so little that it may be why."""
    *before, row = [row["accuracy"] for row in rows if row["branch"] == TICKET]
    metrics = next(row["extra_metrics"] for row in reversed(rows) if row["branch"] == TICKET)
    layers = {name.removeprefix("density/"): share for name, share in metrics.items() if name.startswith("density/")}
    if not before or not layers or row > CHANCE / outputs or min(before) <= CHANCE / outputs:
        return []
    thinnest = min(layers, key=layers.get)
    return [
        f"Level {len(before)} falls to chance (accuracy {row:.3f}): of {thinnest} {layers[thinnest]:.2g} of the weights are "
        f"left, of the whole net {metrics['density']:.2g}. A layer that is nearly empty lets nothing pass; method.scope=layer "
        "prunes all alike."
    ]


def collapsed(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A sentence where the last of the rows is the first of its branch whose masks leave a layer empty or an output unreached."""
    *before, row = [row for row in rows if row["branch"] == rows[-1]["branch"]]
    words = row.get("savings", {}).get("collapse")
    if not words or any(earlier.get("savings", {}).get("collapse") for earlier in before):
        return []
    whose = f"Level {row['level']}" if row["branch"] == TICKET else f"Level {row['level']} of {row['branch']}"
    share = row["savings"]["effective_density"] / density(row) if density(row) else 0.0
    return [f"{whose} has collapsed: {words}; of the weights it keeps {share:.2g} lie on a path from an input to an output."]


def train(method: Method, stage: Stage, fit: Callable, level: int, fast: float) -> dict[str, Any]:
    if level:
        method.shrink(stage)
    return measure(method, stage, fit, level, TICKET, fast)


def control(
    method: Method, stage: Stage, fit: Callable, level: int, name: str, knobs: Mapping[str, Any], fast: float
) -> dict[str, Any]:
    """A branch: a copy of the method turned into a control, trained as the method was; the method stays as it is."""
    return measure(copy.deepcopy(method).branch(stage, **knobs), stage, fit, level, name, fast)


def measure(method: Method, stage: Stage, fit: Callable, level: int, branch: str, fast: float) -> dict[str, Any]:
    """Train, then: the test score at the end and at the early-stop step, speed, density, what the mask saves and connects, and
    what was found of a planted ticket."""
    before, steps, k = fit.cpu_seconds, fit.steps, kind(stage)
    method.learn(stage, fit)
    scores = {f"{k}_{mode}".rstrip("_"): score(method, stage, stage.test, mode) for mode in method.prediction_modes()}
    found = recovery.of(method)
    return {
        "level": level,
        "branch": branch,
        **scores,
        **found,
        **early_stop(fit.curve, fast, stage),
        "extra_metrics": method.extra_metrics(),
        "savings": savings.of(method, stage, fit, fit.steps - steps),
        "cpu_seconds": fit.cpu_seconds - before,
        "headline": {"density": method.extra_metrics().get("density"), k: scores[k], **found},
    }


def kind(stage: Stage) -> str:
    """The name of what nets are scored by."""
    return "rmse" if stage.regression else "accuracy"


def score(method: Method, stage: Stage, split: Split, mode: str = "") -> float:
    """The mean over members of their accuracies; of reals the error of their mean."""
    if not stage.regression:
        return evaluate.member_accuracy(method, stage, split, mode)
    return rmse(*evaluate.members(method, stage, split, mode=mode), stage.units)


def untrained(method: Method, stage: Stage, levels: int, supermasks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Each supermask at every level's counts, with no training after the mask: validation and test score."""
    rows, k = [], kind(stage)
    for name, knobs in supermasks.items():
        rated = "mask" not in knobs  # a mask of its own has no rate, so no levels
        for level in range(1, levels + 1) if rated else [1]:
            drawn = {"mask": "one_shot", "level": level} if rated else {}
            twin = copy.deepcopy(method).branch(stage, **drawn, **knobs)
            rows.append(
                {
                    "level": level,
                    "branch": f"supermask/{name}",
                    k: score(twin, stage, stage.test),
                    f"val_{k}": score(twin, stage, stage.val),
                    **recovery.of(twin),
                    "extra_metrics": twin.extra_metrics(),
                }
            )
    best = chosen(rows, k)
    return {"rows": rows, "headline": {"best": best["branch"], k: best[k]}}


def chosen(rows: Sequence[dict[str, Any]], k: str) -> dict[str, Any]:
    """The row that validates best."""
    return min(rows, key=lambda row: row["val_rmse"]) if k == "rmse" else max(rows, key=lambda row: row["val_accuracy"])


def early_stop(curve: list[dict[str, float]], fast: float, stage: Stage) -> dict[str, Any]:
    """From the evaluations during training: the step of minimum validation loss, the test score there, and the first step at
    which validation accuracy reaches `fast`. None where nothing was evaluated, or it was never reached."""
    best = min(curve, key=lambda point: point["val_loss"], default={})
    reached = [point["step"] for point in curve if not stage.regression and point["val_accuracy"] >= fast]
    return {
        "early_stop_step": best.get("step"),
        EARLY[kind(stage)]: error(best, stage) if stage.regression else best.get("test_accuracy"),
        "fast_step": reached[0] if reached else None,
        "curve": curve,
    }


def error(point: dict[str, float], stage: Stage) -> float | None:
    """The test error of an evaluation during training, in the targets' own units; None where their values have several."""
    deviations = [1.0] if stage.units is None else stage.units[1].unique().tolist()
    return point["test_loss"] ** 0.5 * deviations[0] if "test_loss" in point and len(deviations) == 1 else None


def report(rows: list[dict[str, Any]], notes: list[str]) -> Outcome:
    """`accuracy/<branch>/<density>`, of reals `rmse/...`, and its companions; supermasks also by their best level, chosen on
    validation."""
    numbers: dict[str, float | None] = {}
    k = scored_by(rows)
    own = [row for row in rows if row["branch"] == TICKET]
    numbers[k] = own[-1][k]
    if k == "rmse":
        numbers["negative_rmse"] = -own[-1][k]  # what a sweep maximises
    numbers |= {name: own[-1][name] for name in own[-1] if name.startswith(f"{k}_") or name in recovery.NAMES}
    if own[0]["extra_metrics"].get("density", 1.0) == 1.0:
        numbers[f"dense_{k}"] = own[0][k]
    numbers |= {name: v for name, v in own[-1]["extra_metrics"].items() if not name.startswith("density/")}
    numbers |= savings.last(own)
    shares = densities(rows)
    for row in rows:
        where = f"{row['branch']}/{spelled(density(row), shares[row['branch']])}"
        numbers[f"{k}/{where}"] = row[k]
        numbers |= {f"{name}/{where}": row[name] for name in recovery.NAMES if name in row}
        for name in ("early_stop_step", EARLY[k], "fast_step"):
            if row.get("curve"):
                numbers[f"{name}/{where}"] = row[name]
        numbers |= {f"{name}/{where}": row["savings"][name] for name in savings.EACH if name in row.get("savings", {})}
        if (of := difference(row, rows)) is not None:
            numbers[f"difference/{where}"] = of
    for name in dict.fromkeys(row["branch"] for row in rows if f"val_{k}" in row):
        best = chosen([row for row in rows if row["branch"] == name], k)
        numbers[name], numbers[f"{name}/density"] = best[k], best["extra_metrics"]["density"]
    numbers["train_cpu_seconds_per_stage"] = sum(row["cpu_seconds"] for row in rows if "cpu_seconds" in row)
    return Outcome(numbers, "negative_rmse" if k == "rmse" else k, table(rows), notes=notes, curves=rows)


def scored_by(rows: Sequence[dict[str, Any]]) -> str:
    """`accuracy` or `rmse`, whichever these rows have."""
    return "rmse" if "rmse" in rows[0] else "accuracy"


def density(row: dict[str, Any]) -> float:
    return row["extra_metrics"].get("density", 1.0)


def densities(rows: list[dict[str, Any]]) -> dict[str, set[float]]:
    """Branch -> the densities it was measured at."""
    found: dict[str, set[float]] = {}
    for row in rows:
        found.setdefault(row["branch"], set()).add(density(row))
    return found


def spelled(density: float, among: Collection[float]) -> str:
    """A density in the name of a result: 0.5128, 0.0358, 0.000132; with more decimals where another is spelled alike."""
    decimals = max(DECIMALS, DIGITS - 1 - floor(log10(density))) if density > 0 else DECIMALS
    while any(f"{density:.{decimals}f}" == f"{other:.{decimals}f}" for other in among if other != density):
        decimals += 1
    return f"{density:.{decimals}f}"


def difference(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> float | None:
    """The ticket's score at the same level minus this one's, which started from the same weights; None of the ticket itself
    and of what never trained."""
    k = scored_by(rows)
    if row["branch"] == TICKET or f"val_{k}" in row:
        return None
    own = next((own for own in rows if own["branch"] == TICKET and own["level"] == row["level"]), None)
    return own and own[k] - row[k]


def table(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line a level: density, then the score of the ticket and of each branch, and what the ticket has of a planted one;
    where there is one level alone, a line a branch. Where masks have collapsed, a column more says whose, or in what."""
    k = scored_by(rows)
    trained = [row for row in rows if f"val_{k}" not in row]
    if {row["level"] for row in trained} == {0} and len(trained) > 1:
        return one_level(trained)
    branches = list(dict.fromkeys(row["branch"] for row in trained))
    measured = {(row["level"], row["branch"]): row for row in rows}
    lines = [
        {"level": level, "density": measured[level, TICKET]["extra_metrics"].get("density", 1.0)}
        | {branch: measured[level, branch][k] if (level, branch) in measured else None for branch in branches}
        | {name: measured[level, TICKET][name] for name in recovery.NAMES if name in measured[level, TICKET]}
        for level in dict.fromkeys(row["level"] for row in rows if row["branch"] == TICKET)
    ]
    marks = {row["level"]: [] for row in trained}
    for row in trained:
        marks[row["level"]] += [row["branch"]] if row.get("savings", {}).get("collapse") else []
    return [line | {"collapsed": ", ".join(marks[line["level"]])} for line in lines] if any(marks.values()) else lines


def one_level(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A line for the method and for each of its controls, with the difference paired on the weights they started from."""
    k, lines = scored_by(rows), []
    for row in rows:
        known = row.get("savings", {})
        connected = {"effective_density": known["effective_density"]} if "effective_density" in known else {}
        line = {"branch": row["branch"], "density": density(row)} | connected | {k: row[k]}
        line |= {name: row[name] for name in recovery.NAMES if name in row}
        lines.append(line | {f"{TICKET} - branch": difference(row, rows), "collapse": known.get("collapse", "")})
    return lines if any(line["collapse"] for line in lines) else [{k: line[k] for k in line if k != "collapse"} for line in lines]
