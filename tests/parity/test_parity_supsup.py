"""SupSup against its authors' layers: masks, gradients, a step, what the coefficients' slopes say, Hopfield memory, norms."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskbench import masks
from maskbench.backbones.norm import norm_of
from maskbench.methods.continual import hopfield, supsup
from maskbench.methods.continual.supsup import SupSup


class Net(nn.Module):
    def __init__(self, hidden: Tensor, head: Tensor) -> None:
        super().__init__()
        self.hidden, self.head = (nn.Linear(w.shape[1], w.shape[0], bias=False) for w in (hidden, head))
        self.hidden.weight.data.copy_(hidden)
        self.head.weight.data.copy_(head)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(x).relu())


@pytest.fixture
def method(frozen) -> SupSup:
    """The authors' weights, with all their masks learnt."""
    made = SupSup(Net(frozen["w_hidden"], frozen["w_head"]))
    made.classes.fill_(3)
    for t in range(len(frozen["masks_head"])):
        made.book.write(t, {f"{name}.weight": frozen[f"masks_{name}"][t].bool() for name in ("hidden", "head")})
    return made


def test_mask_gradient_and_one_rmsprop_step(frozen, stage) -> None:
    method = SupSup(Net(frozen["w_hidden"], frozen["w_head"]))
    for name in ("hidden", "head"):
        method.score(f"{name}.weight").data.copy_(frozen[f"scores_{name}"])
        assert torch.equal(method.mask(f"{name}.weight"), frozen[f"masks_{name}"][0].bool()), "a score of 0 is kept"
    loss = F.cross_entropy(method.logits(frozen["x"], stage()), torch.tensor([0, 1, 2, 0]))
    torch.testing.assert_close(loss.detach(), frozen["loss0"])
    loss.backward()
    for name in ("hidden", "head"):
        torch.testing.assert_close(method.score(f"{name}.weight").grad, frozen[f"grad_{name}"])
    torch.optim.RMSprop(method.trainable_parameters(), lr=1e-4).step()
    torch.testing.assert_close(method.score("hidden.weight").detach(), frozen["stepped_hidden"])


@pytest.mark.parametrize("objective", ["H", "G"])
def test_objective_and_slopes_along_the_coefficients(frozen, method, objective: str) -> None:
    rule = supsup.entropy if objective == "H" else supsup.superfluous
    torch.testing.assert_close(rule(frozen["logits"], 3).mean().detach(), frozen[f"value_{objective}"])
    slopes = method.one_shot(frozen["x"][None], rule)[0]
    torch.testing.assert_close(slopes, frozen[f"slope_{objective}"])
    assert int(method.infer(frozen["x"][None], f"one_shot_{objective}")) == int(frozen[f"slope_{objective}"].argmin())


def test_budgets_keep_the_authors_top_share(frozen) -> None:
    for name in ("top", "top_conv"):
        score, mask = (frozen["top_scores"], frozen["top_mask"]) if name == "top" else (frozen[name], frozen[f"{name}_mask"])
        cut = masks.cut(score, supsup.budget(score, 2.0), magnitude=True)
        assert torch.equal(masks.kept(score, cut, magnitude=True), mask.bool())


def test_scores_fill_the_authors_interval(frozen) -> None:
    torch.manual_seed(0)
    for fan_in, authors in zip((16, 100), frozen["bound"].tolist(), strict=True):
        method = SupSup(Net(torch.zeros(900, fan_in), torch.zeros(3, 900)))
        method.statistics.restart = lambda net: None  # the net has no norms
        method.begin(None)
        largest = method.score("hidden.weight").abs().max().item()
        assert authors == pytest.approx(fan_in**-0.5, rel=0.01) and largest == pytest.approx(fan_in**-0.5, rel=0.01)


def test_hopfield_memory_and_energy(frozen) -> None:
    psi = torch.zeros_like(frozen["hop_psi"])
    for z in frozen["hop_z"]:
        psi = hopfield.storkey(psi, z)
    torch.testing.assert_close(psi, frozen["hop_psi"])
    torch.testing.assert_close(hopfield.energy(psi, frozen["hop_probe"]), frozen["hop_energy"])


def test_the_authors_norm_without_statistics_is_not_what_a_stage_answers_with(frozen) -> None:
    """Theirs standardises by the batch in evaluation too; ours answers with the stage's own running statistics."""
    x = frozen["bn_x"]
    spread = x.var((0, 2, 3), correction=0, keepdim=True)
    torch.testing.assert_close((x - x.mean((0, 2, 3), keepdim=True)) / (spread + 1e-5).sqrt(), frozen["bn_y"])
    torch.testing.assert_close(norm_of("batch_no_stats", affine=False)(3).eval()(x), frozen["bn_y"], atol=1e-6, rtol=1e-5)
    norm = nn.BatchNorm2d(3, affine=False)
    assert not torch.allclose(norm.eval()(x), frozen["bn_y"]) and math.isclose(norm.eps, 1e-5)
