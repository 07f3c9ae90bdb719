"""What task=uncertainty makes of unknown classes: how well each score of an input tells them from the known ones."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from maskbench.tasks.metrics import bootstrap, detection, uncertainty
from maskbench.tasks.metrics.uncertainty import DETECTION
from maskbench.training.outputs import Outputs

Numbers = dict[str, float | None]
Scores = Mapping[str, Tensor | None]
FEWER = 5  # times fewer draws than the scores of the known classes have: each sorts both sets


def scores(made: Outputs, scorer: detection.Scorer) -> Scores:
    """Every score [n] of inputs, by name: of the mean prediction, of logits, of features."""
    return {**uncertainty.scores(made.log_p), **scorer(made)}


def judge(known: Scores, unknown: Scores, name: str, draws: int) -> tuple[Numbers, list[dict[str, Any]]]:
    """(numbers, draws as curves) of one set of unknown inputs: `<what>_<score>/<name>` by what logits and features tell, and of
    every score the ends of its interval, `<what>_<score>_low/<name>` and `_high`."""
    numbers: Numbers = {}
    curves = []
    rows = [next(len(score) for score in side.values() if score is not None) for side in (known, unknown)]
    blocks = []
    if draws and all(rows):
        both = (bootstrap.counts(count, -(-draws // FEWER), of) for count, of in zip(rows, ("test", name), strict=True))
        blocks = list(zip(*both, strict=True))
    for score, ours in known.items():
        theirs = unknown[score]
        there = ours is not None and theirs is not None
        if score in detection.NAMES:
            found = uncertainty.detection(ours, theirs) if there else dict.fromkeys(DETECTION)
            numbers |= {f"{what}_{score}/{name}": value for what, value in found.items()}
        drawn = bootstrap.drawn(detection.curve(ours, theirs), blocks) if there else {}
        for what in DETECTION if draws else ():
            low, high = (bootstrap.interval(drawn[what]) if drawn else None) or (None, None)
            numbers |= {f"{what}_{score}_low/{name}": low, f"{what}_{score}_high/{name}": high}
        if drawn:
            curves.append(bootstrap.row(f"auroc_{score}/{name}", drawn["auroc"]))
    return numbers, curves


def grouped(numbers: Numbers, groups: Mapping[str, Sequence[str]]) -> Numbers:
    """`<what>_<score>/<group>`: the mean over the sets of a group (near, far); None where one of them has no such number."""
    means: Numbers = {}
    for group, names in groups.items():
        for name in [name for name in numbers if name.endswith(f"/{names[0]}") and name.startswith(DETECTION)]:
            what = name.rpartition("/")[0]
            values = [numbers.get(f"{what}/{each}") for each in names]
            if not what.endswith(("_low", "_high")):
                means[f"{what}/{group}"] = None if None in values else sum(values) / len(values)
    return means
