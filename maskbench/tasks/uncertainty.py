"""One data set, learnt once; predictions of all members judged by accuracy and by calibration."""

from collections.abc import Callable
from typing import Any

from maskbench import evaluate, metrics
from maskbench.data.stage import Stage
from maskbench.errors import UsageError
from maskbench.journal import Journal
from maskbench.method import Method
from maskbench.tasks.outcome import Outcome


def run(method: Method, stages: list[Stage], fit: Callable, journal: Journal, *, bins: int) -> Outcome:
    """Learn the one stage, look at its test split once. `bins` of the ECE are of equal width."""
    if len(stages) != 1:
        raise UsageError(f"task=uncertainty takes data of one stage, and this has {len(stages)}; try data=mnist")
    journal.expected = 1
    result = journal.step(stages[0].name, lambda: judge(method, stages[0], fit, bins))
    facts = result["metrics"] | {"train_cpu_seconds_per_stage": result["cpu_seconds"]}
    return Outcome(facts, "accuracy", [{"data": stages[0].name} | result["metrics"]])


def judge(method: Method, stage: Stage, fit: Callable, bins: int) -> dict[str, Any]:
    method.learn(stage, fit)
    numbers = metrics.calibration(*evaluate.members(method, stage, stage.test), bins)
    return {"metrics": numbers, "cpu_seconds": fit.cpu_seconds, "headline": {"accuracy": numbers["accuracy"]}}
