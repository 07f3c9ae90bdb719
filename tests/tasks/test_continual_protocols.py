"""What task=continual records of one run: which protocols it answers, what each stage gains, and the bytes after every stage."""

from collections.abc import Callable
from itertools import pairwise

import pytest

from maskbench.cli import clashes, preflight
from maskbench.common import identity
from maskbench.common.errors import UsageError
from maskbench.tasks import continual

TINY = (
    "data.base=synthetic",
    "backbone.widths=[24,12]",
    "budget.steps=25",
    "budget.batch_size=32",
    "optimizer=adam",
    "task.probe=20",
)
PROTOCOLS = ("class_il", "domain_il", "inferred")


def defined(metrics: dict) -> set[str]:
    return {name for name in PROTOCOLS if metrics[f"average_accuracy_{name}"] is not None}


def mean(row: list[float]) -> float:
    return sum(row) / len(row)


def test_one_head_over_all_classes_answers_class_il_after_every_stage(build: Callable) -> None:
    bench = build("method=finetune", "data.labels=kept", *TINY).go()
    found, matrices = bench.metrics, bench.outcome.matrices
    assert defined(found) == {"class_il"}
    assert found["average_accuracy"] > found["average_accuracy_class_il"] == mean(matrices["accuracy_class_il"][-1])
    assert found["forgetting_class_il"] > found["forgetting"] and found["learning_accuracy_class_il"] is not None
    assert matrices["accuracy_class_il"][0][0] == matrices["accuracy"][0][0], "of one stage there is nothing to find"
    assert not any(name.startswith("transfer_gain_") for name in found), "what is undefined without the stage is left out"
    assert found["intransigence"] is found["transfer_gain"] is None


def test_one_head_for_shifted_labels_answers_domain_il(build: Callable) -> None:
    bench = build("method=finetune", *TINY).go()
    assert defined(bench.metrics) == {"domain_il"}
    assert bench.metrics["average_accuracy_domain_il"] == bench.metrics["average_accuracy"]
    assert bench.metrics["forgetting_domain_il"] == bench.metrics["forgetting"]
    assert "accuracy_class_il" not in bench.outcome.matrices


@pytest.mark.parametrize("method", ["heads", "packnet", "piggyback"])
def test_heads_and_masks_answer_without_the_stage_at_the_end(build: Callable, method: str) -> None:
    bench = build(f"method={method}", *TINY).go()
    found, matrices = bench.metrics, bench.outcome.matrices
    assert defined(found) == {"class_il", "inferred"}
    assert [row[0] is None for row in matrices["accuracy_class_il"]] == [True] * 4 + [False]
    assert found["average_accuracy_inferred"] <= found["average_accuracy_inferred_shared"]
    assert found["average_accuracy_class_il"] <= found["average_accuracy"]
    assert found["task_inference_accuracy"] == found["task_inference_accuracy/brute_force_H_1"]
    assert sum(map(sum, matrices["stages_inferred"])) == sum(len(stage.test) for stage in bench.stages)
    assert bench.outcome.table[-1]["accuracy, class-IL"] == matrices["accuracy_class_il"][-1][-1]


def test_permutations_under_masks_answer_all_protocols(build: Callable) -> None:
    found = build("method=piggyback", "data=permutedmnist", "data.stages=3", *TINY).go().metrics
    assert defined(found) == set(PROTOCOLS)
    assert found["average_accuracy_class_il"] <= found["average_accuracy_domain_il"]


@pytest.mark.full
def test_masks_are_asked_after_every_stage_or_never_where_that_is_said(build: Callable) -> None:
    seen = build("method=piggyback", *TINY, "task.unknown=seen", folder="seen").go()
    cells = seen.outcome.matrices["accuracy_class_il"]
    assert all((cells[i][j] is None) == (j > i) for i in range(5) for j in range(5))
    assert seen.metrics["forgetting_class_il"] > 0 == seen.metrics["forgetting"], "more masks, more to confuse"
    assert seen.metrics["learning_accuracy_inferred"] is not None
    none = build("method=piggyback", *TINY, "task.unknown=none", folder="none").go()
    assert defined(none.metrics) == set() and "task.unknown=final" in none.outcome.notes[-1]
    same = [name for name in none.metrics if name in seen.metrics and "seconds" not in name and not name.endswith("inferred")]
    assert [name for name in same if none.metrics[name] != seen.metrics[name] and none.metrics[name] is not None] == []


def test_of_more_than_so_many_stages_masks_are_asked_only_on_request(build: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continual, "ASKED", 4)
    left_out = build("method=heads", *TINY, folder="more").go()
    assert defined(left_out.metrics) == set() and "more than 4 stages" in left_out.outcome.notes[-1]
    assert defined(build("method=heads", *TINY, "task.unknown=final", folder="asked").go().metrics) == {"class_il", "inferred"}
    free = build("method=finetune", "data.labels=kept", *TINY, folder="free").go()
    assert defined(free.metrics) == {"class_il"} and free.outcome.notes == [], "one answer for all stages costs nothing"


@pytest.mark.full
def test_each_stage_alone_leaves_the_stream_as_it_is_and_says_what_others_lent(build: Callable, relay: Callable) -> None:
    plain = build("method=packnet", *TINY, folder="plain").go()
    words = ("method=packnet", *TINY, "task.alone=true", "loop.checkpoint_seconds=0")
    alone = build(*words, folder="alone").go()
    assert alone.outcome.matrices["accuracy"] == plain.outcome.matrices["accuracy"]
    gain, matrix = alone.metrics["transfer_gain"], alone.outcome.matrices["accuracy"]
    assert gain is not None and abs(gain) < 0.5 and len(matrix) == 5
    again = relay(*words, folder="again", halts=[1, 2])
    assert again.metrics["transfer_gain"] == gain and again.outcome.matrices == alone.outcome.matrices


def test_bytes_are_stated_after_every_stage(build: Callable) -> None:
    bench = build("method=packnet", *TINY).go()
    stored = [row["bytes stored"] for row in bench.outcome.table]
    assert stored[-1] == bench.metrics["memory_bytes"] and stored == sorted(set(stored))
    weights = sum(w.numel() for w in bench.method.trunk.values())
    owners = [-(-weights * bits // 8) for bits in (1, 2, 2, 3, 3)]  # ceil(log2(t + 1)) bits name t owners and nobody
    own = bench.metrics["memory_bytes_per_stage"]
    assert [more - less for less, more in pairwise(stored)] == [own + more - less for less, more in pairwise(owners)]


def test_a_part_of_an_earlier_version_says_what_it_knows(build: Callable) -> None:
    """Lessons that were done before protocols were told apart, taken up by this version."""
    bench = build("method=heads", *TINY).go()
    told = [None] * 5
    lessons = [
        {"accuracy": row, "drift": 0.0, "extra_metrics": {}, "cpu_seconds": 1.0} for row in bench.outcome.matrices["accuracy"]
    ]
    outcome = continual.report(bench.method, bench.stages, lessons, [], [], told, told)
    assert outcome.metrics["average_accuracy"] == bench.metrics["average_accuracy"] and defined(outcome.metrics) == set()
    assert outcome.metrics["memory_bytes"] == bench.metrics["memory_bytes"] and "bytes stored" not in outcome.table[0]


def test_stages_alone_have_one_number_of_epochs() -> None:
    assert "budget.epochs" in clashes.alone_mistake({"alone": True}, {"steps": None, "epochs": [1, 2]})
    for task, steps, epochs in (({"alone": None}, None, [1, 2]), ({"alone": True}, 30, [1, 2]), ({"alone": True}, None, 2)):
        assert clashes.alone_mistake(task, {"steps": steps, "epochs": epochs}) is None


@pytest.mark.full
def test_their_defaults_leave_keys_alone_and_wrong_words_are_refused(compose: Callable) -> None:
    def key(*words: str) -> str:
        return identity.key(compose("method=supsup", *words))

    assert len({key(), key("task.unknown=seen"), key("task.alone=true")}) == 3
    assert key() == key("task.unknown=null", "task.alone=null")
    with pytest.raises(UsageError, match="task.unknown=always must be one of final, seen, none, or null"):
        preflight.check(["method=supsup", "task.unknown=always", "logger=none"], starts=False)
