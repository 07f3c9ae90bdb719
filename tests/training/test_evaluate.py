"""Log-probabilities of any method, whatever its `predict` is made of; and the loss of them."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from maskbench.backbones.batch_statistics import GroupStatistics
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


# ---- nets that standardise by the rows at hand


class Grouped(Method):
    """A net that answers with its inputs, standardised over what it is asked together."""


@pytest.mark.parametrize("rows", [5, 8, 20, 23])
def test_groups_are_of_one_size_and_the_last_is_filled_up_from_the_start(rows: int) -> None:
    x = torch.arange(rows).float()[:, None]
    for parts in (x.split(3), x.split(50)):
        made = list(evaluate.groups_of(parts, 8))
        assert [len(group) for group, _ in made] == [8] * -(-rows // 8)
        assert torch.equal(torch.cat([group[:count] for group, count in made]), x)
        last, count = made[-1]
        assert last[count:].flatten().tolist() == [float(i % min(rows, 8)) for i in range(8 - count)]
    assert list(evaluate.groups_of([], 8)) == []


def test_neither_batch_nor_split_size_has_a_part_in_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = torch.randn(37, 3, 2, 2, generator=torch.Generator().manual_seed(0)), torch.zeros(37, dtype=torch.long)
    split = Split(x, y)
    sizes = {"index": 0, "total": 1, "name": "far", "classes": (0, 1), "outputs": 12, "shape": (3, 2, 2)}
    stage = Stage(train=split, val=split, test=split, origin=Origin("far", "synthetic"), **sizes)
    method = Grouped(nn.Sequential(GroupStatistics(), nn.Flatten()))
    method.register_parameter("where", nn.Parameter(torch.zeros(())))
    found = evaluate.logits(method, stage, split, group=8)
    for at in range(0, 32, 8):
        torch.testing.assert_close(found[at : at + 8], method.net(x[at : at + 8]))
    torch.testing.assert_close(found[32:], method.net(torch.cat([x[32:], x[:3]]))[:5])
    assert torch.equal(evaluate.members(method, stage, split, group=8)[0][0], found.softmax(-1))
    assert not torch.equal(evaluate.logits(method, stage, split, group=16), found)
    assert torch.equal(evaluate.logits(method, stage, split, group=128), evaluate.logits(method, stage, split))
    for batch in (5, 10, 100, 1000):
        monkeypatch.setattr(evaluate, "BATCH", batch)
        assert torch.equal(evaluate.logits(method, stage, split, group=8), found)
    monkeypatch.setattr(evaluate, "ROWS", 16)  # how many small groups pass together
    torch.testing.assert_close(evaluate.logits(method, stage, split, group=8), found)
    monkeypatch.setattr(evaluate, "ROWS", 1)
    torch.testing.assert_close(evaluate.logits(method, stage, split, group=8), found)


@pytest.mark.parametrize("rows, group, wanted", [(37, 8, [128]), (300, 128, [128] * 3), (300, 50, [100] * 3), (5, 200, [200])])
def test_as_many_rows_pass_at_a_time_whatever_is_asked(rows: int, group: int, wanted: list[int]) -> None:
    """So the last group is answered by the same arithmetic as the first."""
    asked = []
    made = evaluate.grouped(nn.Identity(), lambda x: asked.append(len(x)) or x, torch.arange(rows)[:, None].split(7), group)
    assert torch.equal(torch.cat(list(made))[:, 0], torch.arange(rows)) and asked == wanted


class Counts(Method):
    """Remembers how many inputs it was asked for at a time."""

    def logits(self, x: Tensor, stage: Stage) -> Tensor:
        self.asked = [*getattr(self, "asked", []), len(x)]
        return super().logits(x, stage)


@pytest.mark.parametrize("shape, most", [((3, 32, 32), evaluate.IMAGES), ((1, 28, 28), evaluate.BATCH)])
def test_large_images_pass_convolutions_in_batches_that_fit_the_cache(shape: tuple, most: int, stage: Stage) -> None:
    """And the answers are those to all images at once; a net without convolutions is asked for as many as ever."""
    torch.manual_seed(0)
    split = Split(torch.randn(evaluate.BATCH + 50, *shape), torch.zeros(evaluate.BATCH + 50, dtype=torch.long))
    stage = replace(stage, train=split, val=split, test=split, shape=shape)
    method = Counts(nn.Sequential(nn.Conv2d(shape[0], 2, 3), nn.Flatten(), nn.LazyLinear(2)))
    together = method.logits(split.x, stage)
    del method.asked
    answers = evaluate.logits(method, stage, stage.test)
    assert max(method.asked) == most and sum(method.asked) == len(split)
    assert torch.allclose(answers, together, rtol=1e-6, atol=1e-7)
    plain = Counts(nn.Sequential(nn.Flatten(), nn.LazyLinear(2)))
    plain.logits(split.x[:1], stage)
    plain.asked = []
    evaluate.logits(plain, stage, stage.test)
    assert max(plain.asked) == evaluate.BATCH
