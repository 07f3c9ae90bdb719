"""Stages superposed in one net that keeps statistics, which belong to one of them: refused before data are read, or warned of."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from maskbench.backbones.batch_statistics import BatchStatistics, GroupStatistics, answers_single_images, in_groups
from maskbench.cli import preflight
from maskbench.common.errors import UsageError
from maskbench.methods.continual import supsup
from maskbench.methods.continual.batch_ensemble import BatchEnsemble
from maskbench.methods.continual.hopsupsup import HopSupSup
from maskbench.methods.continual.supsup import SupSup

NORMS = [
    *("resnet20", "resnet18", "resnet18_cifar", "vgg19", "resnet34", "resnet50", "resnet101", "wide_resnet50", "mlp_200x3_norm"),
]
BLIND = ("method=supsup", "method.inference=[]", "method.boundaries=unknown")  # every question superposes all masks


def judged(*words: str) -> None:
    preflight.check([*words, "logger=none"], starts=False)


def test_boundaries_that_one_net_is_to_find_are_refused_with_what_would_do() -> None:
    with pytest.raises(UsageError) as refused:
        judged(*BLIND, "backbone=resnet20")
    assert "method.boundaries=unknown asks one net" in str(refused.value)
    assert "take backbone.norm=batch_no_stats, or method.boundaries=given." in str(refused.value)
    judged(*BLIND, "backbone=resnet20", "backbone.norm=batch_no_stats")
    judged(*BLIND, "backbone=resnet20", "backbone.norm=none")
    judged(*BLIND)  # a net without norms


@pytest.mark.full
@pytest.mark.parametrize("backbone", NORMS)
def test_every_backbone_that_keeps_statistics_says_so(backbone: str, compose: Callable) -> None:
    with pytest.raises(UsageError, match="keeps running statistics"):
        judged(*BLIND, f"backbone={backbone}")
    judged("method=supsup", "method.inference=[brute_force_H]", f"backbone={backbone}")
    assert list(compose("method=supsup", f"backbone={backbone}").method.inference) == ["brute_force_H", "brute_force_G"]


def test_where_norms_keep_statistics_each_mask_is_asked_with_its_own_by_default(compose: Callable) -> None:
    def first(*words: str) -> str:
        return compose("method=supsup", *words).method.inference[0]

    assert first() == first("backbone=resnet20", "backbone.norm=none") == "one_shot_H"
    assert first("backbone=resnet20", "backbone.norm=batch_no_stats") == "one_shot_H"
    assert first("backbone=resnet20") == "brute_force_H"
    assert first("backbone=resnet20", "method.inference=[binary_G]") == "binary_G", "what is asked for is done"


def test_hopsupsup_recalls_from_all_stages_so_that_it_takes_no_such_net_at_all() -> None:
    with pytest.raises(UsageError, match="backbone=mlp_200x3_norm keeps .* take a backbone without such norms.$"):
        judged("method=hopsupsup", "backbone=mlp_200x3_norm")


class Kept(nn.Module):
    """A user's net, whose file says nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.norm, self.head = nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.hidden(x)).relu())


def test_a_net_of_the_users_own_is_refused_when_it_is_there() -> None:
    for made in (lambda: SupSup(Kept(), inference=[], boundaries="unknown"), lambda: HopSupSup(Kept())):
        with pytest.raises(UsageError, match="this net keeps running statistics"):
            made()


def test_a_rule_that_counts_and_superposes_is_warned_of_with_both_ways_out(caplog: pytest.LogCaptureFixture) -> None:
    SupSup(Kept(), inference=["brute_force_H", "one_shot_H"])
    SupSup(Kept(), inference=[])
    BatchEnsemble(Kept(), inference=["lowest_entropy", "one_shot_H"])
    assert not caplog.records, "what is measured beside the rule that counts says nothing against it"
    SupSup(Kept(), inference=["one_shot_H", "brute_force_H", "brute_force_G"])
    BatchEnsemble(Kept(), inference=["one_shot_H"])
    for record, instead in zip(caplog.records, ("method.inference=[brute_force_H,brute_force_G]", "brute_force_H"), strict=True):
        assert "one_shot_H, which counts, asks one net" in record.message
        assert "backbone.norm=batch_no_stats" in record.message and record.message.endswith(f"as {instead}.")


def test_superposed_masks_answer_with_the_mean_of_their_stages_statistics() -> None:
    torch.manual_seed(0)
    method = SupSup(Kept(), inference=["one_shot_H", "binary_H"]).eval()
    method.classes.fill_(2)
    for stage in range(3):
        method.book.write(stage, {name: torch.rand(w.shape) < 0.5 for name, w in method.w.items()})
        method.net.norm.running_mean.normal_()
        method.net.norm.running_var.uniform_(0.5, 2)
        method.statistics.keep(method.net, stage)
    method.net.norm.running_mean.fill_(100.0)  # what training left is nobody's

    def slopes(rows: list[int]) -> Tensor:
        alpha = torch.full((len(rows),), 1 / len(rows), requires_grad=True)
        weights = {
            name: w.detach() * sum(a * method.book.read(row)[name] for a, row in zip(alpha, rows, strict=True))
            for name, w in method.w.items()
        }
        for kind in ("running_mean", "running_var"):
            weights[f"norm.{kind}"] = torch.stack([method.statistics.of(row)[f"norm.{kind}"] for row in rows]).mean(0)
        p = torch.func.functional_call(method.net, weights, (x,)).softmax(-1)
        return torch.autograd.grad(-(p * p.log()).sum(-1).mean(), alpha)[0]

    x = torch.randn(5, 4)
    torch.testing.assert_close(method.one_shot(x[None], supsup.entropy)[0], slopes([0, 1, 2]))
    rows = sorted(slopes([0, 1, 2]).argsort()[:2].tolist())
    assert int(method.infer(x[None], "binary_H")) == rows[int(slopes(rows).argmin())]


@pytest.mark.parametrize("shape", [(7, 3), (7, 3, 4, 5), (1, 3, 4, 5)])
def test_the_norm_is_torchs_without_gain_shift_and_buffers_in_training_and_testing(shape: tuple[int, ...]) -> None:
    x, norm = torch.randn(shape, generator=torch.Generator().manual_seed(0)), GroupStatistics()
    reference = (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d)(3, affine=False, track_running_stats=False)
    for mode in (True, False):
        torch.testing.assert_close(norm.train(mode)(x), reference.train(mode)(x), atol=1e-6, rtol=1e-5)
    assert not norm.state_dict() and not list(norm.parameters())


def test_groups_stand_alone_in_one_pass() -> None:
    """And an image alone is standardised by its places; where it has one place, nothing would be left, and that is refused."""
    x, norm = torch.randn(12, 3, 4, 5, generator=torch.Generator().manual_seed(0)), GroupStatistics()
    for size in (1, 2, 6, 12):
        with in_groups(norm, size):
            together = norm(x)
        torch.testing.assert_close(together, torch.cat([norm(group) for group in x.split(size)]), rtol=1e-5, atol=1e-6)
    assert norm.group is None and not norm(torch.zeros(2, 3)).any()
    for lonely in (torch.ones(1, 3), torch.ones(1, 3, 1, 1)):
        with pytest.raises(UsageError, match="take task.group=2 or more with task.pooling=all"):
            norm(lonely)
    with pytest.raises(UsageError, match="cannot answer an image by itself"), in_groups(norm, 1):
        norm(torch.ones(4, 3))


@pytest.mark.parametrize("net, alone", [
    (nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), True),
    (nn.Sequential(nn.Conv2d(4, 3, 1), GroupStatistics()), True),
    (nn.Sequential(nn.Flatten(), nn.Linear(16, 3), GroupStatistics()), False),
    (nn.Sequential(nn.Conv2d(4, 3, 2), GroupStatistics()), False),  # one place is left
    (nn.Sequential(nn.Conv2d(4, 3, 1), BatchStatistics(3)), False),  # no group of a stated size is asked for
])  # fmt: skip
def test_whether_single_images_have_an_answer(net: nn.Module, alone: bool) -> None:
    net[0].eval()
    assert answers_single_images(net, (4, 2, 2)) is alone
    assert net.training and net[1].training and not net[0].training
