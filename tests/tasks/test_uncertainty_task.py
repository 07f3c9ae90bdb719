"""task=uncertainty as a whole: what it records for classes and for reals, with unknown classes and shifted test images."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from maskbench.data import gaussian
from maskbench.data.stage import Split
from maskbench.runs.build import make
from maskbench.tasks.metrics import uncertainty
from maskbench.training import evaluate

IMAGES = ("data.base=synthetic", "backbone=lenet_300_100", "backbone.widths=[16]", "budget.steps=30", "budget.epochs=null")
CURVE = ("data=cubic", "backbone=fold_mlp", "backbone.widths=[20]", "budget.steps=40", "budget.epochs=null", "optimizer.lr=0.01")


# ---- classes


def test_names_of_a_classifier(judged: Callable) -> None:
    metrics = judged("method=deep_ensembles", "method.members=3", *IMAGES).metrics
    known = {"accuracy", "nll", "brier", "ece", "ece_adaptive", "aurc", "risk_80", "temperature", "nll_temperature", "member_nll",
             "mutual_information", "disagreement", "variation_ratio"}  # fmt: skip
    unknown = {f"{what}_{score}/synthetic_other" for what in ("auroc", "aupr", "fpr95") for score in ("entropy", "mi", "maxprob")}
    assert known | unknown <= set(metrics) and all(metrics[name] is not None for name in known | unknown)
    assert metrics["nll"] <= metrics["member_nll"]


def test_a_single_net_has_no_members_to_compare(judged: Callable) -> None:
    metrics = judged("method=dense", *IMAGES).metrics
    names = ("mutual_information", "disagreement", "variation_ratio", "auroc_mi/synthetic_other", "fpr95_mi/synthetic_other")
    assert all(metrics[name] is None for name in names)
    assert metrics["accuracy"] == pytest.approx(metrics["member_accuracy"]) and metrics["nll"] == pytest.approx(
        metrics["member_nll"]
    )
    assert metrics["auroc_entropy/synthetic_other"] == pytest.approx(metrics["member_auroc_entropy/synthetic_other"])


def test_numbers_are_those_of_the_predictions(judged: Callable) -> None:
    bench = judged("method=masksembles", *IMAGES)
    stage = bench.stages[0]
    members, y = evaluate.log_members(bench.method, stage, stage.test)
    assert {n: bench.metrics[n] for n in ("accuracy", "nll", "brier", "ece", "ece_adaptive")} == uncertainty.calibration(
        members, y, 15
    )
    theirs, _ = evaluate.log_members(bench.method, stage, stage.ood["synthetic_other"])
    scores = uncertainty.outside(members, theirs)
    assert all(bench.metrics[f"{name}/synthetic_other"] == value for name, value in scores.items())
    assert bench.metrics["mask_iou"] == bench.method.extra_metrics()["mask_iou"]
    rows = [row for row in bench.outcome.curves if row["kind"] == "members"]
    assert [row["members"] for row in rows] == [1, 2, 3, 4] and rows[-1]["nll"] == bench.metrics["nll"]
    assert rows[-1]["auroc_entropy/synthetic_other"] == bench.metrics["auroc_entropy/synthetic_other"]


@pytest.mark.parametrize("data", [IMAGES, CURVE])
def test_what_diverged_is_not_judged(data: tuple[str, ...], build: Callable) -> None:
    with pytest.raises(FloatingPointError, match="optimizer.lr"):
        build("method=dense", *data, "optimizer.lr=1e30").go()


def test_of_unknown_classes_nothing_is_right(judged: Callable) -> None:
    bench = judged("method=dense", *IMAGES)
    stage = bench.stages[0]
    by_data = {}
    for row in bench.outcome.curves:
        if row["kind"] == "confidence" and row["threshold"] == 0:
            by_data[row["data"]] = row["accuracy"]
    n, more = len(stage.test), len(stage.ood["synthetic_other"])
    assert list(by_data) == [stage.name, f"{stage.name} + synthetic_other"]
    assert by_data[f"{stage.name} + synthetic_other"] == pytest.approx(by_data[stage.name] * n / (n + more))


def test_the_temperature_is_fitted_on_validation_rows_only(judged: Callable) -> None:
    bench = judged("method=dense", *IMAGES)
    stage = bench.stages[0]
    p, y = evaluate.log_members(bench.method, stage, stage.val)
    assert bench.metrics["temperature"] == uncertainty.temperature(uncertainty.mixture(p), y)
    empty = Split(stage.val.x[:0], stage.val.y[:0])
    without = judged("method=dense", *IMAGES, val=empty).metrics
    assert without["temperature"] is None and without["nll_temperature"] is None


def test_a_temperature_that_does_not_exist_is_said(judged: Callable) -> None:
    bench = judged("method=dense", *IMAGES)
    stage = bench.stages[0]
    x, y = stage.val.tensors()
    rows = bench.method.predict(x, stage)[0].argmax(-1) == y
    bench = judged("method=dense", *IMAGES, val=Split(x[rows], y[rows]))
    assert bench.metrics["temperature"] is None and bench.metrics["ece_temperature"] is None
    assert "No temperature" in bench.outcome.notes[0]


@pytest.mark.parametrize("where", ["ood", "shifted"])
def test_predictions_that_are_no_numbers_are_refused_on_every_set(where: str, judged: Callable, build: Callable) -> None:
    stage = build("method=dense", *IMAGES, folder="shape").stages[0]
    x, y = stage.test.tensors()
    broken = Split(torch.full_like(x, torch.nan), y)
    sets = {"broken": broken} if where == "ood" else {"noise/1": lambda: broken}
    with pytest.raises(FloatingPointError, match="predictions are not finite"):
        judged("method=dense", *IMAGES, **{where: sets})


def test_without_unknown_inputs_detection_is_undefined(judged: Callable, build: Callable) -> None:
    stage = build("method=dense", *IMAGES, folder="shape").stages[0]
    bench = judged("method=deep_ensembles", *IMAGES, ood={"none": Split(stage.test.x[:0], stage.test.y[:0])})
    values = {name: value for name, value in bench.metrics.items() if name.endswith("/none")}
    assert len(values) > 10 and set(values.values()) == {None}
    rows = [row for row in bench.outcome.curves if row["kind"] == "members"]
    assert all(row["auroc_entropy/none"] is None for row in rows)


def test_shifted_test_sets_by_type_and_level(judged: Callable, build: Callable) -> None:
    stage = build("method=dense", *IMAGES, folder="shape").stages[0]
    x, y = stage.test.tensors()
    made = []

    def noisy(scale: float) -> Callable[[], Split]:
        return lambda: made.append(scale) or Split(x + scale * torch.randn_like(x), y)

    sets = {f"noise/{level}": noisy(level) for level in (1, 2)} | {f"more/{level}": noisy(level) for level in (1, 2)}
    bench = judged("method=dense", *IMAGES, shifted=sets)
    metrics = bench.metrics
    assert made == [1, 2, 1, 2], "each made when it is asked for, once"
    assert bench.journal.done == [stage.name, "shifted noise", "shifted more"]
    cells = [metrics[f"accuracy_shifted/{kind}/{level}"] for kind in ("noise", "more") for level in (1, 2)]
    assert metrics["accuracy_shifted"] == pytest.approx(sum(cells) / 4)
    assert metrics["accuracy_shifted/1"] == pytest.approx((cells[0] + cells[2]) / 2)
    assert metrics["accuracy_shifted/1"] > metrics["accuracy_shifted/2"]


# ---- reals


@pytest.mark.sample(4)
@pytest.mark.parametrize("method", ["dense", "deep_ensembles", "masksembles", "mc_dropout"])
@pytest.mark.parametrize("outputs", [1, 2])
def test_every_method_answers_in_reals(method: str, outputs: int, judged: Callable) -> None:
    more = ("method.tau=0.1", "method.where=all", "method.passes=8") if method == "mc_dropout" else ()
    bench = judged(f"method={method}", *CURVE, f"backbone.outputs={outputs}", *more)
    metrics, stage = bench.metrics, bench.stages[0]
    members, y = evaluate.members(bench.method, stage, stage.test)
    stated = outputs == 2 or method == "mc_dropout"
    assert members.shape[-1] == 2 if stated else members.shape[-1] in (1, 2)
    if stated:
        scores = gaussian.scores(members, y, stage.units)
        assert metrics["rmse"] == pytest.approx(scores["rmse"].item())
        assert metrics["log_likelihood"] == pytest.approx(scores["log_likelihood"].item())
        assert bench.outcome.objective == "log_likelihood"
    else:
        assert metrics["log_likelihood"] is None and (metrics["nll"] is None) == (method == "dense")
        assert bench.outcome.objective == "negative_rmse" and metrics["negative_rmse"] == -metrics["rmse"], (
            "what a sweep maximises"
        )
    assert metrics["sd_ends_over_inside"] is None or metrics["sd_ends_over_inside"] > 0
    kinds = {row["kind"] for row in bench.outcome.curves}
    assert {"members", "fold", "line", "point"} <= kinds


def test_several_folds_have_a_mean_a_deviation_and_an_error(build: Callable) -> None:
    bench = build("method=mc_dropout", "method.tau=0.5", *CURVE)
    stage = bench.stages[0]
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(30, 4, 5, generator=g), torch.randn(30, 4, 1, generator=g)
    many = replace(stage, train=Split(x, y), val=Split(x, y), test=Split(x, y), shape=(4, 5), folds=4,
                   units=(torch.zeros(4, 1), torch.ones(4, 1)))  # fmt: skip
    bench.stages, bench.method = [many], bench.run.method([many])
    bench.journal.method = bench.method
    metrics = make(bench.cfg.task, bench.method, bench.stages, bench.fit, bench.journal).metrics
    rmse = torch.tensor([row["rmse"] for row in read(bench, "fold")])
    assert len(rmse) == 4
    assert metrics["rmse"] == pytest.approx(rmse.mean().item(), rel=1e-5) and metrics["rmse_sd"] == pytest.approx(
        rmse.std().item(), rel=1e-4
    )
    assert metrics["rmse_se"] == pytest.approx(metrics["rmse_sd"] / 2)


def read(bench, kind: str) -> list[dict]:
    """Rows of a kind out of what the task's one step left."""
    from maskbench.training.journal import read as loaded

    (path,) = sorted((bench.folder / "state").glob("part-*.pt"))
    return [row for row in loaded(path)["curves"] if row["kind"] == kind]


def test_reals_need_no_probabilities_and_several_stages_are_refused(build: Callable) -> None:
    from maskbench.common.errors import UsageError

    bench = build("method=dense", "data=splitmnist", "data.base=synthetic")
    with pytest.raises(UsageError, match="one stage"):
        bench.go()
