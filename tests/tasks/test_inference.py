"""The stage that nobody names, by the least entropy of each stage's own net: any method with masks or heads."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from maskbench.backbones.batch_statistics import GroupStatistics
from maskbench.common.errors import UsageError
from maskbench.data.stage import Origin, Split, Stage
from maskbench.methods.continual import supsup
from maskbench.methods.continual.supsup import SupSup
from maskbench.tasks.inference import doubt, infer_by_entropy
from maskbench.training import evaluate
from maskbench.training.method import Method

SHAPE, OUTPUTS = (2, 6, 6), 5


def stages(outputs: int = OUTPUTS, total: int = 3) -> list[Stage]:
    split = Split(torch.zeros(1, *SHAPE), torch.zeros(1, dtype=torch.long))
    one = Stage(
        index=0, total=total, name="", train=split, val=split, test=split, classes=(), outputs=outputs, shape=SHAPE,
        origin=Origin("made", "synthetic"),
    )  # fmt: skip
    return [replace(one, index=i) for i in range(total)]


class Sure(Method):
    """Two members; under stage i the images of value i are answered surely, the others not at all."""

    learnt = 3

    def __init__(self) -> None:
        super().__init__(nn.Linear(1, 1))

    def predict(self, x: Tensor, stage: Stage) -> Tensor:
        here = (x.flatten(1)[:, :1] == stage.index).float()
        outputs = here * torch.tensor([4.0, -4.0])
        return torch.stack([stage.link(outputs), stage.link(0.5 * outputs)])

    def has_learned(self, stage: Stage) -> bool:
        return stage.index < self.learnt


def test_the_surest_stage_is_named_of_those_that_are_learnt_the_first_of_equal_ones() -> None:
    groups = torch.tensor([2.0, 1.0, 0.0, 7.0]).view(4, 1, 1, 1, 1).expand(4, 3, *SHAPE)
    method = Sure()
    assert infer_by_entropy(method, stages(), groups).tolist() == [2, 1, 0, 0]
    method.learnt = 2
    assert infer_by_entropy(method, stages(), groups).tolist() == [0, 1, 0, 0]
    method.learnt = 3
    assert infer_by_entropy(method, stages()[1:], groups).tolist() == [2, 1, 1, 1], "an index, not a place in the list"


def test_doubt_is_the_entropy_of_the_members_mean_in_nats_averaged_over_a_group() -> None:
    groups = torch.tensor([0.0, 5.0]).view(1, 2, 1, 1, 1).expand(1, 2, *SHAPE)
    p = (torch.tensor([4.0, -4.0]).softmax(-1) + torch.tensor([2.0, -2.0]).softmax(-1)) / 2
    wanted = (-(p * p.log()).sum() + math.log(2)) / 2
    assert doubt(Sure(), stages()[0], groups).item() == pytest.approx(wanted.item(), rel=1e-6)


def masked(net: nn.Module) -> SupSup:
    torch.manual_seed(0)
    method = SupSup(net, inference=["brute_force_H"])
    method.classes.fill_(OUTPUTS)
    for stage in range(3):
        method.book.write(stage, {name: torch.rand(w.shape) < 0.5 for name, w in method.w.items()})
        method.slots.put(str(stage), torch.tensor(stage))
        for _, statistic in method.statistics.live(net):
            statistic.copy_(torch.rand(statistic.shape) + 0.5)
        method.statistics.keep(net, stage)
    return method


def convolutions(norm: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(2, 8, 3), norm, nn.ReLU(), nn.Conv2d(8, 6, 3), nn.Flatten(), nn.Linear(24, OUTPUTS))


@pytest.mark.parametrize("norm", [nn.Identity(), GroupStatistics(), nn.BatchNorm2d(8, affine=False)])
@pytest.mark.parametrize("images", [1, 3, 16])
def test_it_is_brute_force_of_supsup_with_each_masks_own_statistics(norm: nn.Module, images: int) -> None:
    method, groups = masked(convolutions(norm)), torch.randn(9, images, *SHAPE)
    doubts = torch.stack([doubt(method, stage, groups) for stage in stages()], 1)
    torch.testing.assert_close(doubts.float(), method.brute_force(groups, supsup.entropy), rtol=1e-5, atol=1e-6)
    assert len(doubts.unique(dim=1).T) == 3, "stages differ"
    assert torch.equal(infer_by_entropy(method, stages(), groups), method.infer(groups, "brute_force_H"))


@pytest.mark.parametrize("norm", [GroupStatistics(), nn.BatchNorm2d(8, affine=False)])
def test_the_batch_of_the_evaluation_has_no_part_in_what_is_named(norm: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor have the other groups: bit for bit where a net standardises by the images at hand."""
    method, groups, found = masked(convolutions(norm)), torch.randn(7, 40, *SHAPE), []
    for batch in (10, 100, 1000):
        monkeypatch.setattr(evaluate, "BATCH", batch)
        found.append(doubt(method, stages()[1], groups))
    exact = isinstance(norm, GroupStatistics)
    for other in found[1:]:
        assert torch.equal(other, found[0]) or (not exact and torch.allclose(other, found[0], rtol=1e-6))
    alone = torch.cat([doubt(method, stages()[1], group[None]) for group in groups])
    torch.testing.assert_close(alone, found[0], rtol=1e-6, atol=1e-7)


def test_an_image_alone_is_refused_where_it_has_no_statistics() -> None:
    method = masked(nn.Sequential(nn.Flatten(), nn.Linear(72, 9), GroupStatistics(), nn.Linear(9, OUTPUTS)))
    infer_by_entropy(method, stages(), torch.randn(4, 2, *SHAPE))
    with pytest.raises(UsageError, match="cannot answer an image by itself"):
        infer_by_entropy(method, stages(), torch.randn(4, 1, *SHAPE))
