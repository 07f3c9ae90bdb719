"""What criteria ask of a net: SynFlow's conservation, GraSP's Hg, Wanda's norms layer by layer, balanced batches."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskbench import masks
from maskbench.backbones.conv import LeNet5
from maskbench.backbones.mlp import MLP
from maskbench.common.errors import UsageError
from maskbench.data.stage import Split
from maskbench.masks import criteria, scopes
from maskbench.methods.prune import scoring

LENET = ["hidden.0.weight", "hidden.1.weight", "head.weight"]


def mlp(seed: int = 0, widths: tuple[int, ...] = (300, 100), inputs: int = 784, **knobs: object) -> MLP:
    torch.manual_seed(seed)
    return MLP((inputs,), 10, widths=list(widths), **knobs)


def weights(net: nn.Module) -> dict[str, Tensor]:
    return {name: net.get_parameter(name).detach() for name in masks.sites(net)}


def ones(net: nn.Module) -> dict[str, Tensor]:
    return {name: torch.ones_like(w, dtype=torch.bool) for name, w in weights(net).items()}


def seen(net: nn.Module, alive: dict[str, Tensor], rows: int = 20, **more: object) -> scoring.Scores:
    g = torch.Generator().manual_seed(1)
    shape = more.pop("shape", (784,))
    x, y = torch.randn(rows, *shape, generator=g), torch.arange(rows) % 10
    w = weights(net)
    return scoring.Scores(net, w, w, alive, batch=lambda: (x, y), loss=F.cross_entropy, shape=shape, **more)


# ---- SynFlow


def test_what_flows_is_the_same_in_every_layer_and_through_every_unit() -> None:
    """Section 3: the sum of s is one number, in = out at each hidden unit to 1e-14, under any mask."""
    net, total = mlp(), 266_200
    alive, counts = ones(net), {"": total}
    for keep in (1.0, 0.1, 0.01):
        counts = scopes.counts({n: w.shape for n, w in weights(net).items()}, "global", keep)
        alive = scoring.draw(criteria.synflow, seen(net, alive), "global", counts)
        scores = seen(net, alive)
        s = {name: criteria.synflow(scores.weights(name, 0, alive)) * alive[name] for name in LENET}
        assert all(score.dtype == torch.float64 for score in s.values())
        sums = [float(score.sum()) for score in s.values()]
        assert sums[1] == pytest.approx(sums[0], rel=1e-13) and sums[2] == pytest.approx(sums[0], rel=1e-13)
        for before, after in zip(LENET, LENET[1:], strict=False):
            torch.testing.assert_close(s[after].sum(0), s[before].sum(1), rtol=1e-13, atol=1e-14 * sums[0])


def test_flow_by_autograd_is_the_closed_form() -> None:
    """|W| * (back-ones x forward-ones), to 1e-15 of it."""
    net = mlp()
    w = [value.double().abs() for value in weights(net).values()]
    forward, back = [torch.ones(784).double()], [torch.ones(10).double()]
    for one in w[:-1]:
        forward.append(one @ forward[-1])
    for one in reversed(w[1:]):
        back.insert(0, one.T @ back[0])
    scores = seen(net, ones(net))
    for name, one, a, b in zip(LENET, w, forward, back, strict=True):
        torch.testing.assert_close(criteria.synflow(scores.weights(name, 0, {})), one * torch.outer(b, a), rtol=4e-15, atol=0)


@pytest.mark.parametrize(
    ("widths", "inputs", "keep"), [((60, 30), 150, 0.01), pytest.param((300, 100), 784, 0.001, marks=pytest.mark.full)]
)
def test_a_hundred_rounds_never_empty_a_layer_and_one_does(widths: tuple[int, int], inputs: int, keep: float) -> None:
    """One round empties the first layer already at .05."""
    net = mlp(widths=widths, inputs=inputs)
    shapes = {n: w.shape for n, w in weights(net).items()}
    alive = ones(net)
    for share in scoring.shares(keep, 100):
        alive = scoring.draw(
            criteria.synflow, seen(net, alive, shape=(inputs,)), "global", scopes.counts(shapes, "global", share)
        )
    assert all(m.any() for m in alive.values())
    assert sum(int(m.sum()) for m in alive.values()) == masks.kept_count(keep, sum(m.numel() for m in alive.values()))
    counts = scopes.counts(shapes, "global", 0.05)
    once = scoring.draw(criteria.synflow, seen(net, ones(net), shape=(inputs,)), "global", counts)
    assert not once["hidden.0.weight"].any()


def test_rounds_end_at_the_share_itself() -> None:
    assert scoring.shares(0.05, 1) == [0.05]
    assert scoring.shares(0.05, 100)[-1] == 0.05 and scoring.shares(0.05, 100)[49] == pytest.approx(0.05**0.5)


def test_flow_that_overflows_is_refused_and_curved_activations_are_named() -> None:
    net = mlp(widths=(5,), inputs=4)
    huge = {name: w.double() * 1e200 for name, w in weights(net).items()}
    with pytest.raises(UsageError, match="sum of outputs is inf in this net"):
        scoring.flow(net, huge, (4,))
    assert scoring.curved(net, (4,)) == []
    assert scoring.curved(mlp(widths=(5,), inputs=4, activation="tanh"), (4,)) == ["tanh"]


def test_a_net_is_left_as_it_was() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 10))
    net[3].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    scores = seen(net, ones(net), shape=(1, 4, 4))
    for criterion in (criteria.snip, criteria.grasp, criteria.synflow, criteria.wanda):
        for name in masks.sites(net):
            assert criterion(scores.weights(name, 0, scores.alive)).isfinite().all()
    assert [m.training for m in net] == [True, True, True, False, True, True]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())


# ---- GraSP


def test_curvature_is_the_hessian_times_the_gradient() -> None:
    net = mlp(widths=(4,), inputs=3).double()
    scores = seen(net, ones(net), shape=(3,))
    scores.make_batch = lambda: (torch.randn(6, 3, generator=torch.Generator().manual_seed(2)).double(), torch.arange(6))
    x, y = scores.batch
    flat = torch.cat([w.flatten() for w in scores.init.values()])

    def loss(v: Tensor) -> Tensor:
        first, last = v[:12].reshape(4, 3), v[12:].reshape(10, 4)
        return F.cross_entropy((x @ first.T).relu() @ last.T / 200, y)

    expected = torch.autograd.functional.hessian(loss, flat) @ torch.autograd.functional.jacobian(loss, flat)
    got = torch.cat([scores.curvature[name].flatten() for name in scores.alive])
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-18)


def test_gradients_under_a_mask_are_those_of_what_it_leaves() -> None:
    net, g = mlp(widths=(30, 20)), torch.Generator().manual_seed(3)
    alive = {name: torch.rand(w.shape, generator=g) < 0.3 for name, w in weights(net).items()}
    cut = mlp(widths=(30, 20))
    with torch.no_grad():
        for name in alive:
            cut.get_parameter(name).mul_(alive[name])
    under, dense = seen(net, alive, under=True).gradient, seen(net, alive).gradient
    for name in alive:
        assert torch.equal(under[name], seen(cut, ones(cut)).gradient[name])
        assert torch.equal(dense[name], seen(net, ones(net)).gradient[name])


# ---- Wanda


def test_norms_are_those_of_the_net_pruned_so_far() -> None:
    net = mlp(widths=(30, 20))
    alive, counts = ones(net), scopes.counts({n: w.shape for n, w in weights(net).items()}, "row", 0.2)
    scores = seen(net, alive)
    kept = scoring.draw(criteria.wanda, scores, "row", counts)
    (x, _), names = scores.batch, masks.sites(net)
    for name, layer in zip(names, (*net.hidden, net.head), strict=True):
        score = layer.weight.detach().abs() * x.square().sum(0).sqrt()
        expected = scopes.best({name: score}, {name: alive[name]}, "row", counts)[name]
        assert torch.equal(kept[name], expected)
        x = F.linear(x, layer.weight.detach() * kept[name], layer.bias.detach()).relu()
    once = scoring.draw(criteria.wanda, scores, "global", {"": 500})  # several layers in one ranking: as they are
    assert sum(int(m.sum()) for m in once.values()) == 500


def test_norms_of_a_convolution_are_over_images_and_places() -> None:
    torch.manual_seed(0)
    net, x = LeNet5((1, 28, 28), 10, channels=[6, 16], widths=[120, 84]), torch.randn(5, 1, 28, 28)
    norms = scoring.input_norms(net, weights(net), x, "convs.1.weight")
    inputs = F.max_pool2d(F.relu(net.convs[0](x)), 2)
    assert norms.shape == (1, 6, 1, 1)
    torch.testing.assert_close(norms.flatten(), inputs.detach().transpose(0, 1).flatten(1).norm(dim=1))
    other = nn.Sequential(nn.Conv2d(2, 4, 1, groups=2), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(UsageError, match="wanda: 0 is neither Linear nor a convolution without groups: .*method.dense"):
        scoring.input_norms(other, weights(other), torch.zeros(1, 2, 1, 1), "0.weight")


# ---- batches and asking


def stage(labels: list[int]) -> SimpleNamespace:
    y = torch.tensor(labels)
    split = Split(torch.arange(len(y)).float()[:, None], y)
    return SimpleNamespace(train=split, outputs=int(y.max()) + 1, regression=y.is_floating_point())


def test_a_batch_has_as_many_of_each_class_each_once() -> None:
    labels = stage([2, 0, 1, 1, 0, 2, 2, 0, 1, 0])
    torch.manual_seed(0)
    x, y = scoring.class_batch(labels, 3)
    assert y.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert len(set(x.flatten().tolist())) == 9 and torch.equal(labels.train.y[x.flatten().long()], y)
    with pytest.raises(UsageError, match="method.per_class=4: of class 1 there are 3 training images"):
        scoring.class_batch(labels, 4)
    with pytest.raises(UsageError, match="targets here are numbers"):
        scoring.class_batch(stage([0.5, 1.5]), 1)


def test_a_method_without_a_part_says_so() -> None:
    w = criteria.Weights(torch.ones(2), torch.ones(2), torch.ones(2).bool(), 1, lambda: torch.ones(2))
    for criterion, part in ((criteria.grasp, "curvature"), (criteria.synflow, "flow"), (criteria.wanda, "inputs")):
        with pytest.raises(UsageError, match=f"cannot have the {part} of weights"):
            criterion(w)
