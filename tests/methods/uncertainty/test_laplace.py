"""Last-layer Laplace: its precision is the loss's Hessian, its prior the most likely one, its members draws of the head."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd.functional import hessian
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from maskbench.backbones.fold import FoldMLP
from maskbench.backbones.mlp import MLP
from maskbench.common.errors import UsageError
from maskbench.data.stage import Split
from maskbench.methods.uncertainty.laplace import Laplace, curvature


class Stage:
    """All that learning and a prediction ask of one."""

    link = staticmethod(lambda outputs: outputs.softmax(-1))
    criterion = staticmethod(cross_entropy)
    regression = False

    def __init__(self, rows: int = 40) -> None:
        torch.manual_seed(5)
        self.train = Split(torch.randn(rows, 6), torch.randint(3, (rows,)))


def laplace(bias: bool = True, **knobs) -> Laplace:
    torch.manual_seed(0)
    return Laplace(MLP((6,), 3, widths=[5], bias=bias), **knobs)


def untrained(method: Laplace, stage: Stage, **phase) -> None:
    """A fit that leaves the weights."""


def pieces(method: Laplace, stage: Stage) -> list[tuple[Tensor, Tensor]]:
    x, y = stage.train.tensors()
    return [(method.features(part).detach(), targets) for part, targets in zip(x.split(15), y.split(15), strict=True)]


@pytest.mark.parametrize("bias", [True, False])
def test_the_full_precision_is_the_hessian_of_the_loss(bias: bool) -> None:
    method, stage = laplace(bias, structure="full").double(), Stage()
    stage.train = Split(stage.train.x.double(), stage.train.y)
    (x, y), head = stage.train.tensors(), method.net.head
    features = method.features(x).detach()

    def nll(weight: Tensor) -> Tensor:
        tensors = {"weight": weight[:, :5]} | ({"bias": weight[:, 5]} if bias else {})
        return cross_entropy(functional_call(head, tensors, (features,)), y, reduction="sum")

    joined = torch.cat([head.weight, head.bias[:, None]], 1) if bias else head.weight
    wanted = hessian(nll, joined.detach()).flatten(2).flatten(0, 1)
    with torch.no_grad():
        (block,) = curvature("full", pieces(method, stage), head).blocks
    (basis,) = block.bases
    torch.testing.assert_close(basis @ torch.diag(block.values) @ basis.T, wanted)


@pytest.mark.parametrize("structure", ["full", "kron"])
def test_draws_have_the_inverse_of_the_precision_as_covariance(structure: str) -> None:
    method, lot = laplace(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        posterior = curvature(structure, pieces(method, Stage()), method.net.head)
    draws = [posterior.draw(2.0, lot) for _ in range(4000)]
    for number, block in enumerate(posterior.blocks):
        (unit,) = torch.eye(block.values.numel(), dtype=torch.float64).unflatten(1, block.values.shape)[None]
        vectors = torch.stack([block.out(one).flatten() for one in unit])  # by row, orthonormal
        torch.testing.assert_close(vectors @ vectors.T, torch.eye(len(vectors), dtype=torch.float64))
        if structure == "full":
            parts = torch.stack([torch.cat([d["weight"], d["bias"][:, None]], 1).flatten() for d in draws])
        else:
            parts = torch.stack([d[("weight", "bias")[number]].flatten() for d in draws])
        along = (parts @ vectors.T).var(0)
        torch.testing.assert_close(along, 1 / (block.values.flatten() + 2.0), rtol=0.15, atol=0)


@pytest.mark.parametrize("structure", ["full", "kron"])
def test_the_prior_has_the_largest_evidence(structure: str) -> None:
    method = laplace(structure=structure)
    method.learn(Stage(), untrained)
    head = method.net.head
    weights = torch.cat([p.detach().double().flatten() for p in head.parameters()])
    with torch.no_grad():
        posterior = curvature(structure, pieces(method, Stage()), head)
    best = posterior.evidence(float(method.precision), weights)
    assert float(method.evidence) == pytest.approx(best)
    assert all(posterior.evidence(float(method.precision) * factor, weights) < best for factor in (0.1, 0.8, 1.25, 10))
    # MacKay's fixed point: effective parameters = prior * |weights|^2
    values = torch.cat([block.values.flatten() for block in posterior.blocks])
    effective = float((values / (values + method.precision)).sum())
    assert effective == pytest.approx(float(method.precision) * float(weights.square().sum()), rel=1e-3)


@pytest.mark.parametrize("bias", [True, False])
def test_members_are_nets_that_differ_in_their_head(bias: bool) -> None:
    method, x = laplace(bias, members=3), torch.randn(4, 6)
    assert torch.equal(method.predict(x, Stage), method.net(x).softmax(-1)[None])
    method.learn(Stage(), untrained)
    answers = method.predict(x, Stage)
    assert answers.shape == (3, 4, 3) and not torch.equal(answers[0], answers[1])
    for number in range(3):
        head = method.member(number)
        assert set(head) == ({"head.weight", "head.bias"} if bias else {"head.weight"})
        torch.testing.assert_close(functional_call(method.net, head, (x,)).softmax(-1), answers[number])
    assert torch.equal(method.prediction_modes()["map"](x, Stage), method.net(x).softmax(-1)[None])
    again = laplace(bias, members=3)
    again.learn(Stage(), untrained)
    assert torch.equal(again.predict(x, Stage), answers)


def test_a_strong_prior_leaves_the_trained_head() -> None:
    method, x = laplace(prior=1e12), torch.randn(4, 6)
    method.learn(Stage(), untrained)
    torch.testing.assert_close(method.predict(x, Stage)[7], method.net(x).softmax(-1), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: laplace(members=0), "method.members="),
        (lambda: laplace(prior=0), "method.prior="),
        (lambda: laplace(structure="diag"), "method.structure="),
        (lambda: Laplace(FoldMLP((6,), 1, widths=[5])), "needs a Linear `head`"),
        (lambda: Laplace(MLP((6,), 200, widths=[99]), structure="full"), "method.structure=full is for heads of up to 10,000"),
    ],
)
def test_wrong_knobs_and_nets_are_refused_in_words(make: Callable, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()


def test_numbers_are_refused_before_anything_is_trained() -> None:
    stage = Stage()
    stage.regression = True
    with pytest.raises(UsageError, match="method=laplace is for classes"):
        laplace().learn(stage, lambda *_, **__: pytest.fail("trained"))
