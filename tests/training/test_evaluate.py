"""Log-probabilities of any method, whatever its `predict` is made of; and the loss of them."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from maskbench.data.stage import Origin, Split, Stage
from maskbench.training import evaluate
from maskbench.training.method import Method

FAR = 199.2  # nats between two classes: as float32 a probability of 0


class Far(Method):
    """Two members that find the second class exp(-199.2) as probable as the first."""

    def outputs(self, x: Tensor) -> Tensor:
        return torch.stack([torch.zeros(len(x)), torch.full((len(x),), -FAR)], -1)

    def predict(self, x: Tensor, stage: Stage) -> Tensor:
        return torch.stack([stage.link(self.outputs(x)), stage.link(self.outputs(x) * 2)])


class Own(Far):
    """Makes its probabilities itself."""

    def predict(self, x: Tensor, stage: Stage) -> Tensor:
        return self.outputs(x).softmax(-1)[None]


class Averages(Far):
    """One answer, the mean of two members' probabilities: under a link that takes logarithms no distribution."""

    def predict(self, x: Tensor, stage: Stage) -> Tensor:
        return super().predict(x / 1, stage).mean(0, keepdim=True)

    def outputs(self, x: Tensor) -> Tensor:
        return super().outputs(x) / FAR


@pytest.fixture
def stage() -> Stage:
    split = Split(torch.zeros(3, 1), torch.tensor([1, 1, 0]))
    sizes = {"index": 0, "total": 1, "name": "far", "classes": (0, 1), "outputs": 2, "shape": (1,)}
    return Stage(train=split, val=split, test=split, origin=Origin("far", "synthetic"), **sizes)


def logs(kind: type[Method], stage: Stage) -> Tensor:
    return evaluate.log_members(kind(nn.Linear(1, 2)), stage, stage.test)[0]


def test_log_probabilities_are_exact_where_probabilities_are_0(stage: Stage) -> None:
    torch.testing.assert_close(logs(Far, stage)[:, 0, 1], torch.tensor([-FAR, -2 * FAR], dtype=torch.float32).double())
    numbers = evaluate.loss_and_accuracy(Far(nn.Linear(1, 2)), stage, stage.test)
    assert numbers == {"loss": pytest.approx(2 / 3 * (FAR + torch.tensor(2.0).log().item()), rel=1e-6), "accuracy": 1 / 3}


@pytest.mark.parametrize("kind", [Own, Averages])
def test_a_method_that_makes_its_own_probabilities_is_taken_by_them(kind: type[Method], stage: Stage) -> None:
    p, _ = evaluate.members(kind(nn.Linear(1, 2)), stage, stage.test)
    log_p = logs(kind, stage)
    assert log_p.isfinite().all()
    torch.testing.assert_close(log_p.exp(), p.double())


def test_another_link_is_left_alone(stage: Stage) -> None:
    halves = replace(stage, link=lambda outputs: torch.full_like(outputs, 0.5))
    assert logs(Far, halves).exp().eq(0.5).all()


def test_predictions_that_are_no_numbers_stay_so(stage: Stage) -> None:
    method = Method(nn.Linear(1, 2))
    nn.init.constant_(method.net.weight, torch.nan)
    assert evaluate.log_members(method, stage, stage.test)[0].isnan().all()
