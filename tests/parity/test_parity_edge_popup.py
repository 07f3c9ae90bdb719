"""edge-popup against its authors' subnet layer: mask, ties, output, gradient, one SGD step, bounds, and the scaled fans."""

import pytest
import torch
from torch import nn

from maskbench import masks
from maskbench.common.errors import UsageError
from maskbench.methods.prune.edge_popup import EdgePopup


def popup(w: torch.Tensor, scores: torch.Tensor, **knobs: object) -> EdgePopup:
    net = nn.Sequential(nn.Conv2d(w.shape[1], w.shape[0], 3, padding=1, bias=False))
    net[0].weight.data.copy_(w)
    method = EdgePopup(net, **knobs)
    method.score("0.weight").data.copy_(scores)
    return method


def test_mask_output_gradient_and_one_sgd_step(frozen, stage) -> None:
    method = popup(frozen["w"], frozen["scores"], keep=0.3)
    score = method.score("0.weight")
    assert torch.equal(method.masks_of({"0.weight": score})["0.weight"], frozen["mask"].bool())
    y = method.logits(frozen["x"], stage())
    torch.testing.assert_close(y, frozen["y"])
    y.square().mean().backward()
    torch.testing.assert_close(score.grad, frozen["grad"])
    torch.optim.SGD(method.trainable_parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4).step()
    torch.testing.assert_close(score.detach(), frozen["stepped"])


def test_of_equal_scores_the_later_ones_stay(frozen) -> None:
    score = frozen["tie_scores"]
    cut = masks.cut(score, masks.kept_count(0.4, score.numel()), magnitude=True)
    assert torch.equal(masks.kept(score, cut, magnitude=True), frozen["tie_mask"].bool())


def test_scores_fill_the_authors_interval(frozen) -> None:
    torch.manual_seed(0)
    method = EdgePopup(nn.Sequential(nn.Conv2d(24, 50, 3, bias=False)))
    largest, bound = method.score("0.weight").abs().max().item(), int(frozen["fan_in"]) ** -0.5
    assert frozen["bound"].item() == pytest.approx(bound, rel=0.01)
    assert 0.99 * bound < largest <= bound * (1 + 1e-6)


@pytest.mark.parametrize("keep", [0.15, 0.3, 0.5])
def test_the_authors_scaled_fan_and_ours(frozen, keep: float) -> None:
    constant = (2 / (24 * 9)) ** 0.5
    sizes = {}
    for rule in (False, True, "authors"):
        method = popup(torch.full((50, 24, 3, 3), constant), torch.zeros(50, 24, 3, 3), keep=keep, scale_fan=rule)
        sizes[rule] = method.w["0.weight"].mean().item()
    assert sizes["authors"] == pytest.approx(frozen[f"scaled_{keep}"].item(), rel=1e-5)
    assert sizes[True] == pytest.approx(constant * keep**-0.5, rel=1e-5) and sizes[False] == pytest.approx(constant, rel=1e-5)


def test_all_of_the_fan_kept_has_no_authors_scale() -> None:
    with pytest.raises(UsageError, match="scale_fan=authors"):
        EdgePopup(nn.Sequential(nn.Conv2d(3, 4, 3, bias=False)), keep=1.0, scale_fan="authors")
