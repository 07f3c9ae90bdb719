"""The lottery ticket against its authors' pruning function, level after level, and its Glorot starts."""

import math

import pytest
import torch
from torch import nn

from maskbench import masks
from maskbench.backbones import initial
from maskbench.masks import criteria
from maskbench.methods.prune.lottery import Lottery


def test_masks_of_three_levels_are_the_authors_but_for_one_weight_a_level(frozen) -> None:
    """Theirs removes what is at most the entry *after* the share, so one weight more a level; ours is the exact count."""
    for name, rate in (("hidden", 0.2), ("head", 0.1)):
        w = frozen[f"w_{name}"]
        alive = torch.ones_like(w, dtype=torch.bool)
        for level in range(3):
            left = int(alive.sum())
            score = criteria.large_final(criteria.Weights(w, w, alive, 0, torch.Tensor))
            ours, theirs = masks.keep_best(score, alive, left - round(rate * left)), frozen[f"mask{level}_{name}"].bool()
            assert int(ours.sum()) == int(theirs.sum()) + 1 and bool((theirs <= ours).all())
            assert w[ours & ~theirs].abs().item() == w[ours].abs().min().item(), "the smallest of those that stay"
            alive = theirs  # go on from the authors' own state


def test_only_what_is_alive_gets_a_gradient_or_a_step() -> None:
    torch.manual_seed(0)
    method = Lottery(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)))
    alive = torch.rand(5, 6) < 0.5
    method.alive["0.weight"].copy_(alive)
    x, y = torch.randn(4, 6), torch.tensor([0, 1, 2, 0])
    w = [p.detach().double().clone().requires_grad_() for p in method.net.parameters()]
    hidden = (x.double() @ (w[0] * alive).T + w[1]).clamp(min=0)
    loss = -(hidden @ w[2].T + w[3]).log_softmax(-1)[range(4), y].mean()
    slopes = torch.autograd.grad(loss, w)
    ours = nn.functional.cross_entropy(method.logits(x, None), y)
    torch.testing.assert_close(ours.double(), loss, rtol=1e-5, atol=1e-6)
    ours.backward()
    before = method.net[0].weight.detach().clone()
    torch.testing.assert_close(method.net[0].weight.grad.double(), slopes[0], rtol=1e-4, atol=1e-6)
    torch.optim.Adam(method.trainable_parameters(), lr=1.2e-3).step()
    moved = method.net[0].weight.detach() - before
    assert torch.equal(moved[~alive], torch.zeros_like(moved[~alive]))
    first = -1.2e-3 * slopes[0] / (slopes[0].abs() + 1e-8)  # Adam's first step from nothing
    torch.testing.assert_close(moved.double(), first, rtol=1e-2, atol=1e-6)


def test_glorot_normal_is_the_papers_law_and_tensorflows_is_cut_off() -> None:
    """TensorFlow 1.10, with which Deconstructing was made, divides by .87962566103423978 and cuts off at twice that."""
    deviation = math.sqrt(2 / (300 + 784))
    beyond = {"glorot_normal": 0.0455, "glorot_truncated_normal": 0.0346}  # two deviations of what is drawn
    for name, share in beyond.items():
        torch.manual_seed(0)
        w = torch.empty(300, 784)
        initial.RULES[name](w)
        assert w.std().item() == pytest.approx(deviation, rel=0.01)
        assert (w.abs() > 2 * deviation).double().mean().item() == pytest.approx(share, abs=0.003), name
    assert pytest.approx(0.87962566103423978, rel=1e-12) == initial.CUT_DEVIATION
    assert w.abs().max().item() == pytest.approx(2 * deviation / 0.87962566103423978, rel=1e-3)
