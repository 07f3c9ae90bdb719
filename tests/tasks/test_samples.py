"""A given net's own stage of a few samples: agreement with what it answered is stated of it, never an accuracy; and stages with
unlike numbers of classes.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from maskbench.backbones.mlp import MLP
from maskbench.cli import preflight
from maskbench.common.errors import UsageError
from maskbench.data.stage import Split, in_order
from maskbench.tasks import samples

NET = ("data=splitmnist", "data.base=synthetic", "data.sizes=[4,3,3]", "budget.steps=6", "budget.batch_size=32",
       "backbone.widths=[24,12]", "backbone.bias=true", "backbone.outputs=10")  # fmt: skip


@pytest.fixture
def over(build: Callable, tmp_path: Path) -> Callable:
    """`over(method, *words)`: an attempt over a net of ten classes, whose first stage is twelve samples of them."""
    torch.manual_seed(3)
    path = tmp_path / "net.safetensors"
    save_file(MLP((1, 28, 28), 10, widths=[24, 12]).state_dict(), path)

    def make(method: str, *words: str, folder: str = "run"):
        bench = build(f"method={method}", *NET, "method.first=given", f"backbone.init=file:{path}", *words, folder=folder)
        first, *others = bench.stages
        x, y = first.test.tensors(first=12)
        none = Split(x[:0], y[:0])
        first = replace(first, train=none, val=none, test=Split(x, y), outputs=10, name="samples", samples=True)
        bench.stages[:] = in_order([first, *others])
        return bench

    return make


@pytest.mark.sample(2)
@pytest.mark.parametrize("method", ["packnet", "piggyback", "frozen_heads", "separate"])
def test_answers_that_stay_are_an_agreement_and_no_accuracy(method: str, over: Callable) -> None:
    words = ["method.prune=[0.9,0.5]"] if method == "packnet" else []
    bench = over(method, *words).go()
    assert bench.stages[0].samples and not any(stage.samples for stage in bench.stages[1:])
    outcome, metrics = bench.outcome, bench.metrics
    assert [row["stage"] for row in outcome.table] == [stage.name for stage in bench.stages[1:]]
    assert all(len(cells) == 2 == len(cells[0]) for cells in outcome.matrices.values())
    assert metrics["average_accuracy"] == pytest.approx(sum(outcome.matrices["accuracy"][-1]) / 2)
    assert metrics["logit_drift"] == metrics["given_net/drift"] == 0 and metrics["given_net/kept"] == 1
    assert (metrics["given_net/same"] == 1) == (method != "packnet"), "pruned by nine in ten it answers otherwise"
    assert 0 <= metrics["given_net/top_1"] <= metrics["given_net/top_5"] <= 12
    assert "samples: 12 samples, no test set. At the end" in outcome.notes[0]


def test_a_trunk_that_is_trained_on_answers_otherwise(over: Callable) -> None:
    metrics = over("finetune", "optimizer=adam", "optimizer.lr=0.05").go().metrics
    assert metrics["given_net/kept"] == 0 and metrics["logit_drift"] >= metrics["given_net/drift"] > 0
    assert metrics["given_net/same"] < 1


def test_fine_tuning_has_heads_for_stages_with_unlike_numbers_of_classes(over: Callable) -> None:
    bench = over("finetune")
    method, (first, second, _) = bench.method, bench.stages
    head = method.net.head.weight.clone()
    assert [method.has_learned(stage) for stage in bench.stages] == [True, False, False]
    method.learn(first, bench.fit)
    method.learn(second, bench.fit)
    assert torch.equal(method.net.head.weight, head) and method.heads.of(1)["head.weight"].shape == (second.outputs, 12)
    assert method.memory_after(second) - method.memory_after(first) == 4 * second.outputs * 13
    moved = {id(p) for p in method.trainable_parameters()}
    assert {id(p) for p in method.heads.of(1).values()} < moved and id(method.net.head.weight) not in moved


def test_a_reading() -> None:
    stage = type("Stage", (), {"test": Split(torch.zeros(3, 1), torch.tensor([0, 1, 2]))})
    came = torch.eye(3)
    learnt = came.clone()
    learnt[2] = torch.tensor([2.0, 0.0, 1.0])
    told = samples.reading(stage, came, learnt, learnt + torch.tensor([0.0, 0.0, 0.5]).view(3, 1))
    assert told == {"same": pytest.approx(2 / 3), "kept": pytest.approx(2 / 3), "drift": 0.5, "top_1": 2, "top_5": 3}


def test_sizes_of_groups_that_differ_between_stages_are_told_apart(build: Callable) -> None:
    bench = build("method=piggyback", *NET, "task.group=30", "backbone.outputs=null")
    first, *others = bench.stages
    x, y = first.test.tensors(first=20)
    bench.stages[:] = in_order([replace(first, test=Split(x, y)), *others])
    metrics = bench.go().metrics
    assert {"task_inference_accuracy/brute_force_H_20", "task_inference_accuracy/brute_force_H_30"} < metrics.keys()


def test_a_method_that_trains_a_mask_for_every_stage_is_refused(over: Callable) -> None:
    with pytest.raises(UsageError, match="method=wsn would answer the first stage by a mask that nothing has trained"):
        over("wsn")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("data=imagenet_samples", "task=prune takes data with a test set, and these are a few samples for task=agreement"),
        ("data=mnist task=agreement", "task=agreement compares the answers of a given net with its own, on samples"),
        ("data=mnist task=similarity", "task=similarity compares the answers of a given net with its own, on samples"),
        ("data=fortunes_samples task=agreement", "task=agreement compares answers, and the net that goes with this data gives"),
        ("data=fortunes_samples", "task=prune takes data with a test set, and these are a few samples"),
        ("data=fortunes backbone.init=imagenet", "backbone=hf has no weights of ImageNet for backbone.init=imagenet; "),
        ("data=mnist backbone.init=published", "backbone.init=published is for nets of text: take backbone=hf"),
    ],
)
def test_tasks_that_compare_a_net_with_itself_refuse_other_data_and_nets(words: str, why: str) -> None:
    with pytest.raises(UsageError) as refused:
        preflight.check(["method=one_shot", *words.split(), "logger=none"])
    assert why in str(refused.value) and "\n" not in str(refused.value)
