"""SupSup in the loop: what a stage learns, keeps and starts from."""

from collections.abc import Callable

import pytest
import torch

from maskbench.methods.continual import supsup
from maskbench.methods.continual.supsup import SupSup
from maskbench.training import evaluate

TINY = ("method=supsup", "data.base=synthetic", "backbone.widths=[24,12]", "budget.steps=30", "task.trials=5")


def test_a_mask_is_the_sign_of_its_scores_and_the_net_stays_as_it_was_drawn(build: Callable) -> None:
    bench = build(*TINY)
    drawn = {name: w.detach().clone() for name, w in bench.method.w.items()}
    bench.go()
    method, last = bench.method, bench.stages[-1]
    assert all(torch.equal(w, drawn[name]) for name, w in method.w.items())
    for name, mask in method.book.read(last.index).items():
        assert torch.equal(mask, method.score(name) >= 0)
    for t in range(len(bench.stages)):
        own, tensors = method.book.read(t), method.effective_weights(None, bench.stages[t])
        assert all(torch.equal(w, drawn[name] * own[name]) for name, w in tensors.items())


@pytest.mark.parametrize("density_scale", ["null", "4"])
def test_a_stage_answers_the_same_before_and_after_its_mask_is_written(density_scale: str, build: Callable) -> None:
    """What trains is what is kept: [score >= 0], or with budgets the top share of |score|."""
    bench = build(*TINY, f"method.density_scale={density_scale}")
    stage, heard = bench.stages[0], []

    def fit(method: SupSup, stage, **phase) -> None:
        bench.fit(method, stage, **phase)
        heard.append(evaluate.logits(method, stage, stage.test))

    bench.method.learn(stage, fit)
    assert torch.equal(heard[0], evaluate.logits(bench.method, stage, stage.test))


def test_learning_moves_some_scores_across_zero_and_about_half_are_kept(build: Callable) -> None:
    bench = build(*TINY, "optimizer.lr=0.01")
    starts = []

    def fit(method: SupSup, stage, **phase) -> None:
        starts.append({name: method.score(name) >= 0 for name in method.w})
        bench.fit(method, stage, **phase)

    bench.method.learn(bench.stages[0], fit)
    after = bench.method.book.read(0)
    assert any(not torch.equal(after[name], mask) for name, mask in starts[0].items())
    assert bench.method.extra_metrics()["density"] == pytest.approx(0.5, abs=0.05)


def test_each_stage_draws_scores_of_its_own(build: Callable) -> None:
    book = build(*TINY).go().method.book
    assert len({mask.numpy().tobytes() for mask in (book.read(t)["hidden.0.weight"] for t in book.stages)}) == 5


def test_nothing_is_forgotten_and_the_stage_is_reported_apart_when_found(build: Callable) -> None:
    metrics = build(*TINY).go().metrics
    assert metrics["logit_drift"] == 0.0 and metrics["forgetting"] == 0.0 and metrics["backward_transfer"] == 0.0
    assert metrics["average_accuracy_inferred"] <= metrics["average_accuracy"]
    rules = {f"task_inference_accuracy/{rule}_{images}" for rule in supsup.RULES for images in (1, 100)}
    assert rules <= metrics.keys()
    assert metrics["task_inference_accuracy"] == metrics["task_inference_accuracy/one_shot_H_1"]


@pytest.mark.full
def test_permutations_are_told_apart_from_one_image(build: Callable) -> None:
    """The paper's easy case at a scale of seconds; every rule is far above chance (1/3)."""
    small = ("method=supsup", "data=permutedmnist", "data.base=synthetic", "data.stages=3", "backbone.widths=[64,32]")
    metrics = build(*small, "budget.steps=150", "optimizer.lr=1e-3", "task.trials=30").go().metrics
    assert metrics["average_accuracy"] > 0.8
    for rule in supsup.RULES:
        assert metrics[f"task_inference_accuracy/{rule}_1"] > 0.7, rule


class Still:
    """A fit that leaves the scores as they are."""

    cpu_seconds = 0.0

    def __call__(self, *_: object, **__: object) -> None:
        pass


@pytest.mark.parametrize("transfer", ["random", "previous", "nearest", "mean_scores", "mean_masks"])
def test_where_a_stage_starts(build: Callable, transfer: str) -> None:
    bench = build(*TINY, f"method.transfer={transfer}")
    method, (first, second, third, *_) = bench.method, bench.stages
    seen = []
    for stage in (first, second):
        method.learn(stage, Still())
        seen.append({n: method.score(n).detach().clone() for n in method.w})
    method.begin(third)
    now = {n: method.score(n).detach() for n in method.w}
    drawn = [method.book.read(t) for t in (0, 1)]
    for name in method.w:
        if transfer == "previous":
            assert torch.equal(now[name], seen[1][name])
        elif transfer == "mean_scores":
            assert torch.allclose(now[name], (seen[0][name] + seen[1][name]) / 2)
        elif transfer == "nearest":
            assert any(torch.equal(now[name] >= 0, m[name]) for m in drawn)
        elif transfer == "mean_masks":
            both, none = drawn[0][name] & drawn[1][name], ~drawn[0][name] & ~drawn[1][name]
            assert bool((now[name][both] > 0).all()) and bool((now[name][none] < 0).all())
        else:
            assert not torch.equal(now[name], seen[1][name])


@pytest.mark.full
def test_norm_statistics_are_kept_by_stage(build: Callable) -> None:
    words = [word for word in TINY if "widths" not in word]
    norms = ["backbone=resnet20", "backbone.width=0.25", "backbone.affine=false", "backbone.bias=false", "budget.steps=3"]
    bench = build(*words, *norms, "method.density_scale=8", "method.inference=[brute_force_H]").go()
    assert bench.outcome.metrics["logit_drift"] == 0.0
    means = [bench.method.statistics.of(stage)["norm.running_mean"] for stage in range(5)]
    assert len({tuple(v.tolist()) for v in means}) == 5
