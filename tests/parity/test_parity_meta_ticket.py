"""Meta-ticket against its authors' sparse module, and the MAML family against plain autograd, in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskbench.data.episodes.stages import Tasks
from maskbench.methods.meta.episodic import Episodic

SUPPORT = 6


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.head = nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(x).tanh())


def ticket(frozen: dict[str, Tensor], steps: int, first_order: bool) -> Episodic:
    patterns = {"outer": [], "adapted": ["*"], "masked": ["hidden.weight"]}
    method = Episodic(Net().double(), **patterns, rate=0.4, steps=steps, test_steps=1, first_order=first_order, dropped=0.3)
    method = method.double()
    method.net.load_state_dict(
        {
            "hidden.weight": frozen["phi"],
            "hidden.bias": frozen["bias"],
            "head.weight": frozen["head_w"],
            "head.bias": frozen["head_b"],
        }
    )
    method.score("hidden.weight").data.copy_(frozen["score"])
    method.threshold("hidden.weight").copy_(frozen["threshold"].squeeze())
    return method


@pytest.mark.parametrize(("key", "steps", "first_order"), [("1", 1, False), ("3", 3, False), ("1f", 1, True)])
def test_meta_gradient_of_the_scores(frozen, stage, key: str, steps: int, first_order: bool) -> None:
    method = ticket(frozen, steps, first_order)
    x, y = frozen["x"], frozen["y"]
    loss = method.loss((Tasks(x, y[:, :SUPPORT]), y[:, SUPPORT:]), stage())
    loss.backward()
    assert loss.item() == pytest.approx(frozen[f"loss_{key}"].item(), abs=1e-12)
    torch.testing.assert_close(method.score("hidden.weight").grad, frozen[f"grad_{key}"], rtol=0, atol=1e-12)


def test_scores_and_weights_start_with_the_authors_moments(frozen) -> None:
    torch.manual_seed(0)
    net = nn.Module()
    net.head = nn.Linear(64, 3000, bias=False)
    score = Episodic(net, outer=[], adapted=["*"], masked=["*"], rate=0.4, steps=1, test_steps=1).score("head.weight").detach()
    mean, deviation, bound, fourth = frozen["score_moments"].tolist()
    assert bound == pytest.approx((6 / 64) ** 0.5, rel=1e-3)
    assert score.abs().max().item() == pytest.approx(bound, rel=1e-3)
    assert score.std().item() == pytest.approx(deviation, rel=0.01)
    assert (score**4).mean().item() == pytest.approx(fourth, rel=0.03) and abs(score.mean().item() - mean) < 0.002
    w = net.head.weight
    assert w.std().item() == pytest.approx(frozen["weight_moments"][1].item(), rel=0.01)


def test_the_threshold_is_the_authors_quantile_of_the_scores(frozen) -> None:
    ranked = frozen["score"].flatten().sort().values
    threshold = frozen["threshold"].item()  # theirs is held in float32
    assert threshold == pytest.approx(ranked[round(0.3 * (len(ranked) - 1))].item(), rel=1e-6)


# ---- MAML, FOMAML, ANIL, BOIL

FAMILY = {
    "maml": {"outer": ["*"], "adapted": ["*"]},
    "fomaml": {"outer": ["*"], "adapted": ["*"], "first_order": True},
    "anil": {"outer": ["*"], "adapted": ["head.*"]},
    "boil": {"outer": ["*"], "adapted": ["*", "!head.*"]},
}


def by_autograd(method: Episodic, x: Tensor, y: Tensor, adapted: set[str], first_order: bool, ways: int) -> list[Tensor]:
    """The algorithm written out: `ways` is the factor of the summed loss, 1 for the mean."""
    start, total = dict(method.net.named_parameters()), 0.0

    def forward(w: dict[str, Tensor], x: Tensor) -> Tensor:
        return (x @ w["hidden.weight"].T + w["hidden.bias"]).tanh() @ w["head.weight"].T + w["head.bias"]

    def nll(logits: Tensor, y: Tensor) -> Tensor:
        shots = SUPPORT / ways if ways > 1 else len(y)  # the authors divide the sum over any set by K, the support's shots
        return -logits.log_softmax(-1)[torch.arange(len(y)), y].sum() / shots

    for task, answer in zip(x, y, strict=True):
        w = dict(start)
        for _ in range(2):
            moving = [name for name in w if name in adapted]
            slopes = torch.autograd.grad(
                nll(forward(w, task[:SUPPORT]), answer[:SUPPORT]), [w[n] for n in moving], create_graph=not first_order
            )
            w |= {name: w[name] - 0.4 * slope for name, slope in zip(moving, slopes, strict=True)}
        total = total + nll(forward(w, task[SUPPORT:]), answer[SUPPORT:]) / len(x)
    return list(torch.autograd.grad(total, list(start.values())))


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize(("reduction", "factor"), [("mean", 1), ("paper", 3)])
def test_meta_gradients_are_autograds(frozen, stage, name: str, reduction: str, factor: int) -> None:
    torch.manual_seed(0)
    method = Episodic(Net().double(), **FAMILY[name], masked=[], rate=0.4, steps=2, test_steps=2, reduction=reduction)
    x, y = frozen["x"], frozen["y"]
    loss = method.loss((Tasks(x, y[:, :SUPPORT]), y[:, SUPPORT:]), stage())
    ours = torch.autograd.grad(loss, list(method.trainable_parameters()))
    theirs = by_autograd(method, x, y, set(method.rates), name == "fomaml", factor)
    assert max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True)) < 1e-12


def test_a_squared_error_is_a_mean_in_both_reductions(frozen, stage) -> None:
    torch.manual_seed(0)
    net, x = Net().double(), frozen["x"]
    y = x[..., :3].sin()
    losses = {
        rule: Episodic(net, **FAMILY["maml"], masked=[], rate=0.1, steps=1, test_steps=1, reduction=rule).loss(
            (Tasks(x, y[:, :SUPPORT]), y[:, SUPPORT:]), stage(criterion=F.mse_loss)
        )
        for rule in ("mean", "paper")
    }
    assert torch.equal(losses["mean"], losses["paper"])


def test_testing_adapts_by_the_same_loss_as_training(frozen, stage) -> None:
    torch.manual_seed(0)
    net = Net().double()
    x, y = frozen["x"], frozen["y"]
    answers = {}
    for rule, rate in (("paper", 0.1), ("mean", 0.3)):
        method = Episodic(net, **FAMILY["maml"], masked=[], rate=rate, steps=1, test_steps=2, reduction=rule)
        answers[rule] = method.after(Tasks(x, y[:, :SUPPORT]), stage(), [2])
    torch.testing.assert_close(answers["paper"], answers["mean"], rtol=0, atol=1e-12)
