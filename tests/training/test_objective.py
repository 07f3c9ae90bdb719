"""What a sweeper is told: the task's own number, or for searches what the validation splits say."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from maskbench.common.errors import UsageError
from maskbench.tasks.outcome import Outcome
from maskbench.training import evaluate

pytestmark = pytest.mark.full  # whole runs: make test-full

WORDS = ("data.base=synthetic", "budget.steps=3", "budget.epochs=null", "logger=none", "loop.progress=false")


def test_a_search_goes_by_the_validation_splits(cli: Callable, tmp_path: Path) -> None:
    """The validation split is not the test split, and the run that searches is another run than the one that reports."""
    told = {}
    for words in ((), ("objective=validation",)):
        done = cli("method=dense", *WORDS, *words)
        assert done.returncode == 0, done.stderr
        (path,) = set(tmp_path.glob("outputs/*/*/result.json")) - {found["path"] for found in told.values()}
        told[words] = json.loads(path.read_text()) | {"path": path}
    plain, search = told.values()
    assert plain["objective_name"] == "accuracy" and plain["objective"] == plain["metrics"]["accuracy"]
    assert search["objective_name"] == "validation" and search["metrics"]["accuracy"] == plain["metrics"]["accuracy"]
    assert search["objective"] != search["metrics"]["accuracy"]


def test_it_is_the_mean_over_stages_of_validation_accuracy(build: Callable) -> None:
    bench = build("method=finetune", "data.base=synthetic", "budget.steps=3", "budget.epochs=null", "task.trials=5").go()
    accuracies = [evaluate.accuracy(bench.method, stage, stage.val) for stage in bench.stages]
    assert evaluate.validation(bench.method, bench.stages) == pytest.approx(sum(accuracies) / len(accuracies))


def test_for_reals_it_is_minus_the_loss(build: Callable) -> None:
    bench = build("method=transfer_finetune", "data=pendulum", "budget.steps=3", "budget.epochs=null").go()
    (target,) = (bench.stages[i] for i in bench.outcome.chosen_on)
    assert target is bench.stages[1]
    assert evaluate.validation(bench.method, [target]) == -evaluate.loss_and_accuracy(bench.method, target, target.val)["loss"]


def test_data_that_holds_nothing_out_is_refused(compose: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from maskbench.runs import assemble as module

    cfg = compose("method=dense", "data.base=synthetic", "objective=validation")
    (stage,) = module.Run(cfg, tmp_path).stages()
    monkeypatch.setattr(module, "make", lambda *_, **__: [replace(stage, val=stage.train)])
    with pytest.raises(UsageError, match="holds none out: set data.val"):
        module.Run(cfg, tmp_path).stages()


def test_an_objective_of_no_name_is_refused(cli: Callable) -> None:
    done = cli("method=dense", "objective=test")
    assert done.returncode == 2 and "objective=test must be validation, or null" in done.stderr


def test_all_stages_choose_unless_a_task_says_which() -> None:
    assert Outcome({}, "accuracy").chosen_on is None
