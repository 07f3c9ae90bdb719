"""One data set, learnt once; what all members predict is judged: how right, how sure, how calibrated, and beyond the data."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from statistics import mean
from typing import Any, Literal

import torch

from maskbench.common.knobs import Count, Whole
from maskbench.data import gaussian
from maskbench.data.stage import Split, Stage
from maskbench.tasks import answering, held_out, pictures, unknown_classes
from maskbench.tasks.contracts import Predicts
from maskbench.tasks.metrics import bootstrap, calibration_errors, detection, recalibration, uncertainty
from maskbench.tasks.needs import need
from maskbench.tasks.outcome import Outcome
from maskbench.training import evaluate
from maskbench.training.journal import Journal
from maskbench.training.method import Method
from maskbench.training.outputs import Outputs, outputs

THRESHOLDS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of confidence (1612.01474, figure 6)
QUANTILES = tuple(i / 20 for i in range(1, 20))
CELLS = 40  # of an entropy histogram
SINGLES = 50  # members whose own scores are averaged, at most
DRAWS = 1000  # of the bootstrap
GRID = 200  # places at which a curve is drawn
TABLE = ("rmse", "log_likelihood", "nll")  # of each fold, for people
GIVEN = (
    "The net came trained, and nothing was trained here. Rows that it was trained on may be among the validation rows, which "
    "calibrate, and among the test rows: it is judged too well then."
)
CURVE = (*TABLE, "nll_mixture")  # of the first 1, 2, ... members

Numbers = dict[str, float | None]
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class How:
    """How predictions are judged: the keys of the task."""

    bins: int
    recalibrate: Sequence[str]
    draws: int


def run(
    method: Method, stages: list[Stage], fit: Callable, journal: Journal, *,
    bins: Count, recalibrate: Sequence[Literal["temperature", "vector", "platt", "isotonic"]] | None = None,
    draws: Whole | None = None,
) -> Outcome:  # fmt: skip
    """Predictive uncertainty: learn the one stage, then judge the predictions on its test split, on unknown classes and on
    shifted test splits; validation rows calibrate conformal sets.

    Args:
        bins: of the calibration errors: equal width (ece) and equal count (ece_adaptive).
        recalibrate: maps that are fitted on one half of the validation rows, whose scores stand beside those without:
            temperature, vector, platt for classes, isotonic for reals.
        draws: of the bootstrap over test inputs, for 95 % intervals; null: 1,000; 0: none.

    Raises:
        UsageError: a map is for targets of the other kind.
    """
    need("uncertainty", Predicts, method, stages, instead="data=mnist")
    (stage,) = stages
    how = How(bins, tuple(dict.fromkeys(recalibrate or ())), DRAWS if draws is None else draws)
    recalibration.check(how.recalibrate, stage.regression)
    kinds = [(kind, list(names)) for kind, names in groupby(stage.shifted, lambda name: name.rsplit("/", 1)[0])]
    journal.expected = 1 + len(kinds)
    learnt = journal.part(stage.name, partial(learn, method, stage, fit, how))
    for kind, names in kinds:
        rows = journal.part(f"shifted {kind}", partial(shift, method, stage, names, bins))["rows"]
        learnt["curves"] += rows
    numbers = learnt["metrics"] | shifted([row for row in learnt["curves"] if row["kind"] == "shifted"])
    numbers |= learnt["extra_metrics"] | {"train_cpu_seconds_per_stage": learnt["cpu_seconds"]}
    objective = "accuracy"
    if stage.regression:
        numbers["negative_rmse"], objective = -numbers["rmse"], "negative_rmse"  # what a sweep maximises
    if numbers.get("log_likelihood") is not None:
        objective = "log_likelihood"
    return Outcome(numbers, objective, learnt["table"], notes=notes(stage, learnt["metrics"]), curves=learnt["curves"])


def notes(stage: Stage, numbers: Numbers) -> list[str]:
    """What a reader of the numbers has to be told."""
    if stage.given:
        return [GIVEN, *notes(replace(stage, given=False), numbers)]
    if stage.regression or not len(stage.val) or numbers["temperature"] is not None:
        return held_out.note(stage)
    hottest = f"{uncertainty.HOTTEST:g}"
    return [
        f"No temperature: NLL on the validation rows has no minimum between 1/{hottest} and {hottest}, as where all of them are "
        "right, or answers are worse than even ones.",
        *held_out.note(stage),
    ]


def learn(method: Method, stage: Stage, fit: Callable, how: How) -> dict[str, Any]:
    seconds = fit.cpu_seconds
    method.learn(stage, fit)
    seconds = fit.cpu_seconds - seconds
    numbers, curves, table = (regress if stage.regression else classify)(method, stage, how)
    numbers |= answering.cost(method, stage)
    headline = {name: numbers[name] for name in (("rmse", "log_likelihood") if stage.regression else ("accuracy", "nll"))}
    scores = {"metrics": numbers, "curves": curves, "table": table, "headline": headline}
    return scores | {"cpu_seconds": seconds, "extra_metrics": method.extra_metrics()}


def predictions(method: Method, stage: Stage, split: Split, mode: str = "") -> tuple[torch.Tensor, torch.Tensor]:
    """What members predict, to be judged, and the targets: log-probabilities [members, n, classes], or for reals values.

    Raises:
        FloatingPointError: the predictions are no numbers, so that scores of them would mean nothing.
    """
    members, y = (evaluate.members if stage.regression else evaluate.log_members)(method, stage, split, mode=mode)
    return finite(members), y


def finite(members: torch.Tensor) -> torch.Tensor:
    """The predictions, or a refusal (as above)."""
    if not members.isfinite().all():
        raise FloatingPointError("training diverged, predictions are not finite; try a smaller optimizer.lr")
    return members


def whole(method: Method, stage: Stage, split: Split, first: int | None = None) -> Outputs:
    """What members compute, to be judged (as above)."""
    made = outputs(method, stage, split, first)
    finite(made.log_p)
    return made


# ---- classes


def classify(method: Method, stage: Stage, how: How) -> tuple[Numbers, Rows, Rows]:
    begun = time.process_time()
    made, bins = whole(method, stage, stage.test), how.bins
    spent = {"answer_cpu_seconds": time.process_time() - begun}
    members, y = made.log_p, made.y
    mean_of = uncertainty.mixture(members)
    sure, guess = uncertainty.confidence(mean_of)
    right = guess == y
    calibration = uncertainty.calibration(members, y, bins)
    numbers: Numbers = calibration | uncertainty.selective(sure, right) | uncertainty.diversity(members, y)
    held = validated(method, stage)
    numbers |= tempered(held, mean_of, y, bins)
    for mode in method.prediction_modes():
        if mode:
            scores = uncertainty.calibration(*predictions(method, stage, stage.test, mode), bins)
            numbers |= {f"{name}_{mode}": value for name, value in scores.items()}
    curves = named("members", uncertainty.by_members(members, y, bins))
    curves += named("reliability", uncertainty.reliability(sure, right, bins))
    curves += named("confidence", uncertainty.by_confidence(sure, right, THRESHOLDS), data=stage.name)
    curves += [histogram(members, stage.name)]
    curves += named("risk", pictures.risk(sure, right)) + named("disputed", pictures.disputed(stage, members))
    for part in (intervals(mean_of, y, how), held_out.classes(stage, held, (mean_of, y), how.recalibrate, bins)):
        numbers, curves = part[0] | numbers, curves + part[1]
    table = [{"data": stage.name} | calibration, *part[2]]
    if stage.ood:
        scorer = detection.Scorer(whole(method, stage, stage.train, detection.ROWS))
        known = unknown_classes.scores(made, scorer)
    for name, split in stage.ood.items():
        seen = whole(method, stage, split)
        theirs = seen.log_p
        numbers |= {f"{what}/{name}": value for what, value in uncertainty.outside(members, theirs).items()}
        more, drawn = unknown_classes.judge(known, unknown_classes.scores(seen, scorer), name, how.draws)
        numbers, curves = numbers | more, curves + drawn
        mixed = torch.cat([sure, uncertainty.confidence(uncertainty.mixture(theirs))[0]])
        hits = torch.cat([right, right.new_zeros(theirs.shape[1])])  # of an unknown class nothing is right
        curves += named("confidence", uncertainty.by_confidence(mixed, hits, THRESHOLDS), data=f"{stage.name} + {name}")
        curves += [histogram(theirs, name)]
        for row in [row for row in curves if row["kind"] == "members"]:
            few = (uncertainty.scores(part[: row["members"]])["entropy"] for part in (members, theirs))
            row[f"auroc_entropy/{name}"] = uncertainty.detection(*few)["auroc"]
    return numbers | unknown_classes.grouped(numbers, stage.ood_groups) | spent, curves, table


def intervals(log_p: torch.Tensor, y: torch.Tensor, how: How) -> tuple[Numbers, Rows]:
    """(the calibration errors, each score's interval over test inputs; the draws, as curves) of mean predictions."""
    errors = calibration_errors.errors(log_p, y, how.bins)
    numbers: Numbers = {name: value.item() for name, value in errors(torch.ones(len(y), 1, dtype=torch.float64)).items()}
    numbers |= {"ece_classwise": calibration_errors.classwise(log_p, y, how.bins)}
    drawn = bootstrap.drawn(errors, bootstrap.counts(len(y), how.draws, "test"))
    return numbers | bootstrap.ends(drawn), [bootstrap.row(name, values) for name, values in drawn.items()]


def validated(method: Method, stage: Stage) -> tuple[torch.Tensor, torch.Tensor] | None:
    """(log of the mean prediction [rows, classes], labels [rows]) of the validation split; None where it has no rows."""
    if not len(stage.val):
        return None
    members, y = predictions(method, stage, stage.val)
    return uncertainty.mixture(members), y


def tempered(held: tuple[torch.Tensor, torch.Tensor] | None, log_p: torch.Tensor, y: torch.Tensor, bins: int) -> Numbers:
    """Calibration of the mean prediction after temperature scaling, the temperature fitted on the validation split; all
    None where that has no rows or no best temperature."""
    t = uncertainty.temperature(*held) if held is not None else None
    if t is None:
        return dict.fromkeys(("temperature", "nll_temperature", "ece_temperature"))
    scores = uncertainty.calibration(uncertainty.tempered(log_p, t)[None], y, bins)
    return {"temperature": t, "nll_temperature": scores["nll"], "ece_temperature": scores["ece"]}


def histogram(members: torch.Tensor, data: str) -> dict[str, Any]:
    """Counts of the entropy of the mean prediction, in equal cells from 0 to its largest possible value."""
    entropy, top = uncertainty.scores(members)["entropy"], torch.tensor(members.shape[-1]).double().log().item()
    counts = torch.histc(entropy.clamp(0, top), CELLS, 0, top).long().tolist()
    return {"kind": "entropy", "data": data, "counts": counts, "top": top}


def shift(method: Method, stage: Stage, names: list[str], bins: int) -> dict[str, Any]:
    """Calibration on the test split under one type of corruption, level by level."""
    rows = []
    for name in names:
        scores = uncertainty.calibration(*predictions(method, stage, stage.shifted[name]()), bins)
        kind, level = name.rsplit("/", 1)
        rows.append({"kind": "shifted", "type": kind, "level": int(level)} | scores)
    return {"rows": rows, "headline": {"accuracy": mean(row["accuracy"] for row in rows)}}


def shifted(rows: Rows) -> Numbers:
    """Means over all types and levels, over the types at a level, and each cell: `accuracy_shifted`, `accuracy_shifted/<level>`,
    `accuracy_shifted/<type>/<level>`."""
    numbers: Numbers = {}
    for name in ("accuracy", "nll", "brier", "ece") if rows else ():
        numbers[f"{name}_shifted"] = mean(row[name] for row in rows)
        for level in sorted({row["level"] for row in rows}):
            numbers[f"{name}_shifted/{level}"] = mean(row[name] for row in rows if row["level"] == level)
        numbers |= {f"{name}_shifted/{row['type']}/{row['level']}": row[name] for row in rows}
    return numbers


def named(kind: str, rows: Rows, **more: Any) -> Rows:
    return [{"kind": kind} | more | row for row in rows]


# ---- reals


def regress(method: Method, stage: Stage, how: How) -> tuple[Numbers, Rows, Rows]:
    """Scores in original units, fold by fold: their mean over folds, and its spread as `<name>_sd` and `<name>_se`."""
    begun = time.process_time()
    members, y = predictions(method, stage, stage.test)
    spent = {"answer_cpu_seconds": time.process_time() - begun}
    members = full(members, y)
    by_fold = gaussian.scores(members, y, stage.units)
    numbers = over_folds(by_fold) | spent
    held = moments(stage, *predictions(method, stage, stage.val)) if stage.holds_out else None
    numbers |= held_out.reals(stage, held, moments(stage, members, y), how.recalibrate)
    for mode in method.prediction_modes():
        if mode:
            theirs, _ = predictions(method, stage, stage.test, mode)
            scores = over_folds(gaussian.scores(full(theirs, y), y, stage.units))
            numbers |= {f"{name}_{mode}": scores[name] for name in TABLE}
    alone = [gaussian.scores(one[None], y, stage.units) for one in members[:SINGLES]]
    numbers |= {f"member_{name}": over_folds(average(alone))[name] for name in TABLE}
    curves = []
    for count in uncertainty.counts_of(len(members)):
        scores = over_folds(gaussian.scores(members[:count], y, stage.units))
        spread = {f"{name}_se": scores.get(f"{name}_se") for name in CURVE}
        curves.append({"kind": "members", "members": count} | {name: scores[name] for name in CURVE} | spread)
    below = gaussian.quantile_curve(members, y, QUANTILES)
    curves += [{"kind": "quantile", "level": q, "below": share} for q, share in zip(QUANTILES, below or (), strict=False)]
    table = [
        {"fold": fold} | {name: None if by_fold[name] is None else by_fold[name][fold].item() for name in TABLE}
        for fold in range(len(by_fold["rmse"]))
    ]
    curves += [{"kind": "fold"} | row for row in table]
    if stage.shape == (1,) and stage.outputs == 1:
        line, ratio = picture(method, stage)
        curves, numbers = curves + line, numbers | {"sd_ends_over_inside": ratio}
    return numbers, curves, table


def moments(stage: Stage, members: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(mean, variance, target) of the prediction of all members, each [rows, folds, values], in original units."""
    mean_of, variance, y = gaussian.in_units(full(members, y), y, stage.units)
    return *gaussian.mixture_moments(mean_of, variance), y


def full(members: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Predictions that state no variance, [..., values], with variances of 0 beside them."""
    return members if members.shape[-1] == 2 * y.shape[-1] else gaussian.moments(members, y.shape[-1])


def average(scores: list[dict[str, torch.Tensor | None]]) -> dict[str, torch.Tensor | None]:
    """Mean over members of what each reaches alone, fold by fold (of the first ones, where there are many)."""
    first = scores[0]
    return {n: None if any(s[n] is None for s in scores) else torch.stack([s[n] for s in scores]).mean(0) for n in first}


def over_folds(by_fold: dict[str, torch.Tensor | None]) -> Numbers:
    """The mean over folds, and where there are several their deviation `<name>_sd` and the mean's error `<name>_se`."""
    numbers: Numbers = {}
    folds = len(by_fold["rmse"])
    for name, values in by_fold.items():
        numbers[name] = None if values is None else values.mean().item()
        if folds > 1:
            numbers[f"{name}_sd"] = None if values is None else values.std().item()
            numbers[f"{name}_se"] = None if values is None else values.std().item() / folds**0.5
    return numbers


def picture(method: Method, stage: Stage) -> tuple[Rows, float | None]:
    """Of a table with one input: the prediction along it with the rows that train and test (for the figure), and the
    deviation at the two ends of the tested range over its median inside the trained one."""
    parts = {"train": stage.train.tensors(), "test": stage.test.tensors()}
    (low, high), (left, right) = ((x.min().item(), x.max().item()) for x, _ in parts.values())
    x = torch.cat([torch.linspace(min(low, left), max(high, right), GRID), torch.tensor([left, right])])[:, None]
    y = torch.zeros(len(x), stage.outputs)
    members = evaluate.members(method, stage, Split(x, y))[0].cpu()
    centre, spread = gaussian.mixture_moments(*gaussian.in_units(full(members, y), y, stage.units)[:2])
    mean_of, deviation = centre[:, 0, 0].tolist(), spread[:, 0, 0].sqrt()
    points = zip(x[:GRID, 0].tolist(), mean_of, deviation.tolist(), strict=False)
    rows = [{"kind": "line", "x": at, "mean": value, "sd": sd} for at, value, sd in points]
    for name, (inputs, targets) in parts.items():
        values = gaussian.in_units(full(members, y)[:1, :1], targets, stage.units)[2][:, 0, 0].tolist()
        pairs = zip(inputs[:, 0].tolist(), values, strict=True)
        rows += [{"kind": "point", "data": name, "x": at, "y": value} for at, value in pairs]
    inside = deviation[:GRID][(x[:GRID, 0] >= low) & (x[:GRID, 0] <= high)].median()
    return rows, (deviation[GRID:].mean() / inside).item() if inside > 0 else None
