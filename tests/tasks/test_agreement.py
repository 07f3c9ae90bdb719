"""A given net, cut without training, beside itself: what is compared."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch

from maskbench.tasks import agreement


@pytest.fixture
def cut(cut_given: Callable) -> Callable:
    return partial(cut_given, "task=agreement", "method.first=given")


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
