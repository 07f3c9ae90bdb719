"""What task=uncertainty makes of validation rows: conformal sets, and maps that recalibrate.

One half of the rows chooses, the other calibrates; test rows do neither.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from maskbench.data.stage import Stage
from maskbench.tasks.metrics import conformal, recalibration, uncertainty

Numbers = dict[str, float | None]
Rows = list[dict[str, Any]]
CALIBRATION = ("accuracy", "nll", "brier", "ece", "ece_adaptive")


def halves(stage: Stage, held: Sequence[Tensor] | None) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]] | None:
    """(what chooses, what calibrates) of tensors [rows, ...] made of the validation rows; None where none are held out."""
    if held is None or note(stage):
        return None
    choose, calibrate = conformal.halves(len(stage.val))
    return tuple(part.cpu()[choose] for part in held), tuple(part.cpu()[calibrate] for part in held)


def note(stage: Stage) -> list[str]:
    """Why there are no conformal sets, where there are none."""
    if stage.holds_out and len(stage.val) > 1:
        return []
    return [
        "No conformal sets: no validation rows are held out of training to calibrate them by, and test rows must not; where "
        "these data take it, data.val holds some out."
    ]


def classes(
    stage: Stage, held: Sequence[Tensor] | None, test: Sequence[Tensor], kinds: Sequence[str], bins: int
) -> tuple[Numbers, Rows, Rows]:
    """(numbers, curves, rows of the table) of mean predictions: log-probabilities [rows, classes] and labels [rows].

    Numbers after a map are called `<name>_recalibrated/<map>`; they are None where nothing is held out, or no map is best.
    """
    two, (log_p, y) = halves(stage, held), (part.cpu() for part in test)
    numbers: Numbers = conformal.no_classes()
    curves, table = [], []
    if two is not None:
        sets, curves = conformal.classes(*((theirs.exp(), labels) for theirs, labels in (*two, (log_p, y))))
        numbers, curves = numbers | sets, [{"kind": "conformal"} | row for row in curves]
    for kind in kinds:
        mapped = None if two is None else recalibration.MAPS[kind](*two[0])
        after = dict.fromkeys(CALIBRATION)
        if mapped is not None:
            after = uncertainty.calibration(mapped(log_p)[None], y, bins)
            sure, guess = uncertainty.confidence(mapped(log_p))
            curves += [{"kind": "recalibrated", "map": kind} | row for row in uncertainty.reliability(sure, guess == y, bins)]
        numbers |= {f"{name}_recalibrated/{kind}": value for name, value in after.items()}
        table.append({"data": f"{stage.name}, {kind}"} | after)
    return numbers, curves, table


def reals(stage: Stage, held: Sequence[Tensor] | None, test: Sequence[Tensor], kinds: Sequence[str]) -> Numbers:
    """Numbers of predicted means, variances and targets, each [rows, folds, values], in the targets' units."""
    two, test = halves(stage, held), tuple(part.cpu() for part in test)
    numbers = conformal.no_reals() if two is None else conformal.reals(two[1], test)
    if kinds:  # isotonic alone is for reals
        before, after = recalibration.reals(two and two[0], test)
        numbers |= {"quantile_error": before["quantile_error"]}
        numbers |= {f"{name}_recalibrated/isotonic": value for name, value in after.items()}
    return numbers
