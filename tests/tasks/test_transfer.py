"""task=transfer: which number is of which net on which data, and what a sweep maximises."""

from collections.abc import Callable

import pytest
import torch

from maskbench.common.errors import UsageError
from maskbench.tasks.metrics import continual as metrics
from maskbench.training import evaluate

TINY = (
    "data.n_source=300", "data.n_target=12", "data.val=20", "data.test=60", "backbone.widths=[24,16]",
    "budget.steps=60", "budget.batch_size=50",
)  # fmt: skip
IMAGES = ("data.base=synthetic", "data.n_target=3", "budget.steps=20", "backbone=lenet_300_100", "backbone.widths=[24,12]")


def error(method, stage, tested) -> float:
    """By hand, in original units: the answer under one stage on another's test data."""
    x, y = tested.test.tensors()
    method.eval()
    with torch.no_grad():
        mean, deviation = tested.units
        gap = (method.logits(x, stage) * deviation + mean) - (y * deviation + mean)
    return gap.double().square().mean().sqrt().item()


@pytest.fixture(params=["pac_net", "transfer_finetune"])
def finished(request: pytest.FixtureRequest, build: Callable):
    """(bench, errors by hand after the source, after the target)."""
    bench, errors = build(f"method={request.param}", *TINY), []
    source, target = bench.stages

    def measure(*_) -> None:
        pairs = [(source, source), (source, target)] + [(target, target), (target, source)] * bool(errors)
        errors.append({(a.index, t.index): error(bench.method, a, t) for a, t in pairs})

    bench.journal.on_part = measure
    return bench.go(), *errors


def test_every_number_is_of_the_net_and_the_data_it_names(finished) -> None:
    bench, first, second = finished
    wanted = {
        "source_rmse": first[0, 0],
        "target_rmse_source_model": first[0, 1],
        "target_rmse": second[1, 1],
        "source_rmse_after": second[1, 0],
        "source_rmse_unloaded": second[0, 0],
    }
    assert {name: bench.metrics[name] for name in wanted} == pytest.approx(wanted, rel=1e-5)
    assert bench.metrics["source_forgetting"] == pytest.approx(second[1, 0] - first[0, 0], rel=1e-4)
    assert bench.metrics["n_target"] == 12


def test_a_sweep_maximises_what_is_better(finished, build: Callable) -> None:
    bench = finished[0]
    assert bench.outcome.metrics[bench.outcome.objective] == -bench.metrics["target_rmse"]
    images = build("method=transfer_finetune", "data=mnist2rotated", *IMAGES, folder="images").go()
    assert images.outcome.objective == "target_accuracy"


def test_one_net_cannot_unload(build: Callable) -> None:
    metrics = build("method=transfer_finetune", *TINY).go().metrics
    assert metrics["source_rmse_unloaded"] == metrics["source_rmse_after"] and metrics["unload_drift"] > 0


def test_the_target_trains_for_its_share(build: Callable) -> None:
    rows = build("method=transfer_finetune", *TINY, "task.target_share=0.25", "loop.log_every=1000").go().rows.decode()
    assert [row.split(",")[:3] for row in rows.splitlines()[1:]] == [["source", "train", "60"], ["target", "train", "15"]]


def test_last_and_best_by_validation(build: Callable) -> None:
    bench = build("method=transfer_finetune", *TINY, "budget.validate_every=5", "budget.test_curve=true").go()
    curve = bench.outcome.curves[1]["curve"]
    assert bench.outcome.curves[1]["stage"] == "target" and [point["step"] for point in curve] == [5, 10, 15, 20, 25, 30]
    best = min(curve, key=lambda point: point["val_loss"])
    deviation = bench.stages[1].units[1].item()
    assert bench.metrics["target_rmse_best"] == pytest.approx(best["test_loss"] ** 0.5 * deviation)
    assert bench.metrics["target_rmse"] == pytest.approx(curve[-1]["test_loss"] ** 0.5 * deviation)


def test_best_by_validation_of_classes(build: Callable) -> None:
    words = ("method=transfer_finetune", "data=mnist2rotated", *IMAGES, "budget.validate_every=5", "budget.test_curve=true")
    bench = build(*words).go()
    curve = bench.outcome.curves[1]["curve"]
    assert bench.metrics["target_accuracy_best"] == max(curve, key=lambda point: point["val_accuracy"])["test_accuracy"]


def test_what_cannot_be_compared_is_undefined(build: Callable) -> None:
    metrics = build("method=pac_net", "data=digits_split", *IMAGES).go().metrics
    for name in ("target_accuracy_source_model", "source_accuracy_after", "source_forgetting", "target_accuracy_best"):
        assert metrics[name] is None
    assert metrics["source_accuracy_unloaded"] == metrics["source_accuracy"]


def test_a_stages_own_measures_are_told_of_both_nets(build: Callable) -> None:
    words = ("method=pac_net", "data=pendulum", *TINY, "backbone.activation=tanh")
    bench = build(*words).go()
    for name in ("rollout_mse", "energy_error"):
        assert bench.metrics[f"source_{name}"] > 0 and bench.metrics[f"target_{name}"] > 0


def test_data_of_one_stage_is_refused(build: Callable) -> None:
    with pytest.raises(UsageError, match="a source and a target"):
        build("method=transfer_finetune", "data=mnist", "data.base=synthetic").go()


def test_rmse_is_over_all_values_in_their_own_units() -> None:
    members = torch.tensor([[[1.0, 0.0], [0.0, 0.0]], [[3.0, 0.0], [0.0, 2.0]]])  # mean: [2, 0], [0, 1]
    y, units = torch.zeros(2, 2), (torch.tensor([[5.0, 5.0]]), torch.tensor([[10.0, 2.0]]))
    assert metrics.rmse(members, y) == pytest.approx(((4 + 1) / 4) ** 0.5)
    assert metrics.rmse(members, y, units) == pytest.approx(((400 + 4) / 4) ** 0.5)
    with_variances = torch.cat([members, torch.ones(2, 2, 2)], -1)
    assert metrics.rmse(with_variances, y, units) == metrics.rmse(members, y, units)


def test_looking_does_not_train(finished) -> None:
    bench = finished[0]
    before = bench.state
    evaluate.members(bench.method, bench.stages[0], bench.stages[0].test)
    assert all(torch.equal(before[name], value) for name, value in bench.state.items())
