"""task=uncertainty: what validation rows decide, scores of logits and features, intervals; and that test rows decide nothing."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from maskbench.common.errors import UsageError
from maskbench.data.stage import Split
from maskbench.tasks import held_out
from maskbench.tasks.metrics import bootstrap, conformal, recalibration, uncertainty
from maskbench.training import evaluate

IMAGES = ("data.base=synthetic", "backbone=lenet_300_100", "backbone.widths=[16]", "budget.steps=30", "budget.epochs=null")
CURVE = ("data=cubic", "backbone=fold_mlp", "backbone.widths=[20]", "budget.steps=40", "budget.epochs=null", "optimizer.lr=0.01")
MAPS = "task.recalibrate=[temperature,vector,platt]"


def test_sets_and_maps_are_those_of_the_halves_of_validation(judged: Callable) -> None:
    bench = judged("method=masksembles", MAPS, "task.draws=20", *IMAGES)
    stage = bench.stages[0]
    parts = [evaluate.log_members(bench.method, stage, part) for part in (stage.val, stage.test)]
    (held, y), (test, truth) = ((uncertainty.mixture(members), labels) for members, labels in parts)
    choose, calibrate = conformal.halves(len(y))
    numbers, _ = conformal.classes((held[choose].exp(), y[choose]), (held[calibrate].exp(), y[calibrate]), (test.exp(), truth))
    assert {name: bench.metrics[name] for name in numbers} == numbers and len(numbers) == 6 * (3 + 10)
    for kind in recalibration.CLASSES:
        mapped = recalibration.MAPS[kind](held[choose], y[choose])(test)
        after = uncertainty.calibration(mapped[None], truth, 15)
        assert {name: bench.metrics[f"{name}_recalibrated/{kind}"] for name in after} == after
    assert [row["data"] for row in bench.outcome.table] == [
        "synthetic",
        *(f"synthetic, {kind}" for kind in recalibration.CLASSES),
    ]
    assert bench.outcome.table[0]["ece"] == bench.metrics["ece"], "without a map, beside those with one"


def test_test_labels_decide_no_set_and_no_map(judged: Callable) -> None:
    plain = judged("method=dense", "task=uncertainty", MAPS, "task.draws=0", *IMAGES)
    x, y = plain.stages[0].test.tensors()
    other = judged("method=dense", "task=uncertainty", MAPS, "task.draws=0", *IMAGES, test=Split(x, (y + 1) % 10))
    sizes = [name for name in plain.metrics if name.startswith("conformal_size")]
    assert len(sizes) == 6 and all(plain.metrics[name] == other.metrics[name] for name in sizes)
    assert plain.metrics["conformal_coverage_90/lac"] != other.metrics["conformal_coverage_90/lac"]


@pytest.mark.parametrize("how", ["none", "train"])
def test_without_rows_held_out_there_is_nothing_and_it_is_said(how: str, judged: Callable, build: Callable) -> None:
    stage = build("method=dense", "task=uncertainty", *IMAGES, folder="shape").stages[0]
    val = stage.train if how == "train" else Split(stage.val.x[:0], stage.val.y[:0])
    bench = judged("method=dense", "task=uncertainty", MAPS, "task.draws=0", *IMAGES, train=stage.train, val=val)
    names = [name for name in bench.metrics if name.startswith("conformal") or "_recalibrated/" in name]
    assert len(names) == 18 + 15 and all(bench.metrics[name] is None for name in names)
    assert any("no validation rows are held out" in note for note in bench.outcome.notes)


def test_scores_of_logits_and_features_and_their_intervals(judged: Callable) -> None:
    bench = judged("method=deep_ensembles", "method.members=2", "task.draws=100", *IMAGES)
    metrics = bench.metrics
    for score in ("energy", "maxlogit", "knn", "mahalanobis", "entropy", "mi", "maxprob"):
        for what in ("auroc", "aupr", "aupr_in", "fpr95"):
            low, value, high = (metrics[f"{what}_{score}{end}/synthetic_other"] for end in ("_low", "", "_high"))
            assert 0 <= low <= high <= 1 and low - 0.05 <= value <= high + 0.05
    for name in ("accuracy", "nll", "brier", "ece", "ece_adaptive", "ece_classwise", "aurc", "e_aurc", "auarc"):
        assert metrics[f"{name}_low"] < metrics[f"{name}_high"]
    assert metrics["auarc"] == pytest.approx(1 - metrics["aurc"])
    draws = {row["metric"]: row["values"] for row in bench.outcome.curves if row["kind"] == "draws"}
    assert len(draws["nll"]) == 100 and len(draws["auroc_energy/synthetic_other"]) == 20
    assert bootstrap.difference(draws["nll"], draws["nll"]) == (0, 0)


def test_near_and_far_are_means_over_their_sets(judged: Callable) -> None:
    bench = judged("method=dense", "task=uncertainty", "task.draws=0", "data.ood=near_far", *IMAGES)
    metrics = bench.metrics
    assert bench.stages[0].ood_groups == {"near": ("synthetic_other",), "far": ("noise",)}
    assert metrics["auroc_knn/near"] == metrics["auroc_knn/synthetic_other"]
    assert metrics["fpr95_energy/far"] == metrics["fpr95_energy/noise"] and "auroc_knn_low/near" not in metrics
    assert not any(name.endswith("_low") for name in metrics), "no draws, no intervals"


# ---- reals


def reals(n: int, folds: int, seed: int) -> Split:
    g = torch.Generator().manual_seed(seed)
    x, noise = torch.randn(n, folds, 5, generator=g), torch.randn(n, folds, 1, generator=g)
    return Split(x, x[..., :1] + noise)


def test_intervals_of_reals_hold_what_is_asked_and_isotonic_stands_beside(build: Callable) -> None:
    from maskbench.runs.build import make

    bench = build("method=dense", "task=uncertainty", "task.recalibrate=[isotonic]", *CURVE, "backbone.outputs=2")
    bench.stages = [replace(bench.stages[0], train=reals(200, 2, 0), val=reals(400, 2, 1), test=reals(400, 2, 2), shape=(2, 5),
                            folds=2, units=(torch.zeros(2, 1), torch.full((2, 1), 3.0)))]  # fmt: skip
    bench.method = bench.run.method(bench.stages)
    bench.journal.method = bench.method
    metrics = make(bench.cfg.task, bench.method, bench.stages, bench.fit, bench.journal).metrics
    for level in conformal.LEVELS:
        for kind in ("absolute", "scaled"):
            assert metrics[f"conformal_coverage_{level}/{kind}"] == pytest.approx(level / 100, abs=0.05)
            assert 0 < metrics[f"conformal_width_90/{kind}"] < metrics[f"conformal_width_95/{kind}"]
    assert 0 < metrics["quantile_error_recalibrated/isotonic"] < 0.08 and 0 < metrics["quantile_error"] < 0.5
    assert metrics["coverage_90_recalibrated/isotonic"] == pytest.approx(0.9, abs=0.05)
    assert metrics["width_90_recalibrated/isotonic"] > 0


def test_reals_that_hold_nothing_out_say_so(judged: Callable, build: Callable) -> None:
    train = build("method=dense", *CURVE, folder="shape").stages[0].train
    bench = judged("method=dense", "task.recalibrate=[isotonic]", *CURVE, train=train, val=train)
    assert bench.metrics["conformal_coverage_90/absolute"] is None and bench.metrics["quantile_error"] is None
    assert held_out.note(bench.stages[0]) == bench.outcome.notes != []


def test_a_map_for_other_targets_is_refused_before_training(build: Callable) -> None:
    with pytest.raises(UsageError, match="task.recalibrate=isotonic is for reals"):
        build("method=dense", "task=uncertainty", "task.recalibrate=[isotonic]", *IMAGES).go()
