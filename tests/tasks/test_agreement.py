"""A given net, cut without training, beside itself: what is compared, and what is refused."""

import math
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
from maskbench.tasks import agreement


@pytest.fixture
def cut(build: Callable, tmp_path: Path) -> Callable:
    """`cut(*words)`: a run of one_shot over a net of a file, on twelve images."""
    torch.manual_seed(3)
    path = tmp_path / "net.safetensors"
    save_file(MLP((1, 28, 28), 10, widths=[24, 12]).state_dict(), path)

    def make(*words: str, folder: str = "run"):
        bench = build(
            "method=one_shot", "data=mnist", "data.base=synthetic", "method.first=given", "method.finetune=0", *words,
            "backbone.widths=[24,12]", f"backbone.init=file:{path}", "task=agreement", folder=folder,
        )  # fmt: skip
        (stage,) = bench.stages
        x, y = stage.test.tensors(first=12)
        bench.stages[:] = in_order(
            [replace(stage, train=Split(x, y), val=Split(x, y), test=Split(x, y), given=True, samples=True)]
        )
        return bench.go()

    return make


def test_a_net_that_is_not_cut_agrees_with_itself(cut: Callable) -> None:
    bench = cut("method.keep=1")
    told = bench.metrics
    assert told["same"] == 1 and told["kl"] == told["drift"] == 0 and told["density"] == 1 and told["samples"] == 12
    assert bench.fit.steps == 0 and not any("accuracy" in name for name in told)


def test_the_less_is_kept_the_further_answers_move(cut: Callable) -> None:
    kl = [cut(f"method.keep={keep}", folder=str(keep)).metrics["kl"] for keep in (0.9, 0.6, 0.2)]
    assert 0 < kl[0] < kl[1] < kl[2]
    bench = cut("method.keep=0.6", "method.criterion=wanda", folder="wanda")
    assert bench.metrics["kl"] > 0 and bench.outcome.objective == "negative_kl"
    assert bench.outcome.notes[0].endswith("they are no test set.")


def test_divergence_by_hand() -> None:
    p, q = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.25, 0.75]])
    wanted = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert agreement.divergence(p.log() + 3, q.log() - 1) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("data=imagenet_samples", "task=prune takes data with a test set, and these are a few samples for task=agreement"),
        ("data=mnist task=agreement", "task=agreement compares the answers of a given net with its own, on samples"),
    ],
)
def test_what_is_refused(words: str, why: str) -> None:
    with pytest.raises(UsageError) as refused:
        preflight.check(["method=one_shot", *words.split(), "logger=none"])
    assert why in str(refused.value) and "\n" not in str(refused.value)
