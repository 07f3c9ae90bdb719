"""Stages superposed in one net: refused, before data are read, where the net keeps statistics that belong to one of them."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from maskbench.backbones.batch_statistics import GroupStatistics
from maskbench.cli import preflight
from maskbench.common.errors import UsageError
from maskbench.methods.continual.batch_ensemble import BatchEnsemble
from maskbench.methods.continual.hopsupsup import HopSupSup
from maskbench.methods.continual.supsup import SupSup

NORMS = [
    *("resnet20", "resnet18", "resnet18_cifar", "vgg19", "resnet34", "resnet50", "resnet101", "wide_resnet50", "mlp_200x3_norm"),
]
REFUSED = {  # words -> the key it names, and what would do
    "method=supsup": (
        "method.inference=[one_shot_H,one_shot_G,binary_H,binary_G]",
        "method.inference=[brute_force_H,brute_force_G]",
    ),
    "method=supsup method.inference=[binary_H]": ("method.inference=[binary_H]", "method.inference=[]"),
    "method=supsup method.inference=[] method.boundaries=unknown": ("method.boundaries=unknown", "method.boundaries=given"),
    "method=batch_ensemble": ("method.inference=[one_shot_H]", "method.inference=[lowest_entropy,highest_probability]"),
}


def judged(*words: str) -> None:
    preflight.check([*words, "logger=none"], starts=False)


@pytest.mark.parametrize("words", REFUSED)
def test_one_net_for_all_stages_is_refused_with_the_key_and_what_would_do(words: str) -> None:
    key, mend = REFUSED[words]
    with pytest.raises(UsageError) as refused:
        judged(*words.split(), "backbone=resnet20")
    assert f"{key} asks one net" in str(refused.value) and f"take backbone.norm=batch_no_stats, or {mend}." in str(refused.value)
    judged(*words.split(), "backbone=resnet20", "backbone.norm=batch_no_stats")
    judged(*words.split(), "backbone=resnet20", "backbone.norm=none")
    judged(*words.split())  # a net without norms


@pytest.mark.full
@pytest.mark.parametrize("backbone", NORMS)
def test_every_backbone_that_keeps_statistics_says_so(backbone: str, compose: Callable) -> None:
    with pytest.raises(UsageError, match="keeps running statistics"):
        judged("method=supsup", "method.inference=[one_shot_H]", f"backbone={backbone}")
    judged("method=supsup", "method.inference=[brute_force_H]", f"backbone={backbone}")


def test_hopsupsup_recalls_from_all_stages_so_that_it_takes_no_such_net_at_all() -> None:
    with pytest.raises(UsageError, match="backbone=mlp_200x3_norm keeps .* take a backbone without such norms.$"):
        judged("method=hopsupsup", "backbone=mlp_200x3_norm")


class Kept(nn.Module):
    """A user's net, whose file says nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.norm, self.head = nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)


def test_a_net_of_the_users_own_is_refused_when_it_is_there() -> None:
    for made in (lambda: SupSup(Kept()), lambda: BatchEnsemble(Kept(), inference=["one_shot_H"]), lambda: HopSupSup(Kept())):
        with pytest.raises(UsageError, match="this net keeps running statistics"):
            made()
    SupSup(Kept(), inference=["brute_force_H"])


@pytest.mark.parametrize("shape", [(7, 3), (7, 3, 4, 5), (1, 3, 4, 5)])
def test_the_norm_is_torchs_without_gain_shift_and_buffers_in_training_and_testing(shape: tuple[int, ...]) -> None:
    x, norm = torch.randn(shape, generator=torch.Generator().manual_seed(0)), GroupStatistics()
    reference = (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d)(3, affine=False, track_running_stats=False)
    for mode in (True, False):
        torch.testing.assert_close(norm.train(mode)(x), reference.train(mode)(x), atol=1e-6, rtol=1e-5)
    assert not norm.state_dict() and not list(norm.parameters())
