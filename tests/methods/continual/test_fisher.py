"""The Fisher information is what autograd gives image by image, in closed form and one by one, and of no batch."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from maskbench.backbones.mlp import MLP
from maskbench.common.errors import UsageError
from maskbench.methods.continual import fisher
from maskbench.methods.continual.ewc import EWC

SEEN = (0, 1, 3, 4)


class Odd(nn.Module):
    """A layer that is passed twice, one that has no closed form, and a parameter of no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.norm, self.head = nn.Linear(5, 5), nn.LayerNorm(5), nn.Linear(5, 6)
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.inner(self.inner(x).tanh())) * self.scale)


class Twice(nn.Module):
    """Layers with closed forms, of which one is passed twice."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(5, 5), nn.Linear(5, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.inner(self.inner(x).tanh()))


class Words(nn.Module):
    """A layer whose inputs have places: [rows, places, values]."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(5, 4), nn.Linear(4, 6, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.inner(x).relu().mean(1))


def convolutional() -> nn.Module:
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(3), nn.ReLU(),
        nn.Conv2d(3, 4, (3, 2), dilation=(1, 2)), nn.Flatten(),
        nn.Linear(4 * 2 * 2, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 6),
    )  # fmt: skip
    for _ in range(3):
        net(torch.randn(8, 2, 8, 8))  # statistics
    return net


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: MLP((5,), 6, widths=[7, 4]), (5,)),
    "convolutional": (convolutional, (2, 8, 8)),
    "places": (Words, (3, 5)),
    "passed twice": (Twice, (5,)),
    "no closed form": (Odd, (5,)),
}


def by_hand(net: nn.Module, x: Tensor, y: Tensor, kind: str) -> dict[str, Tensor]:
    """One backward pass for each image and label, in float64."""
    total = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    for image, label in zip(x, y.tolist(), strict=True):
        log_p = net(image[None])[0, list(SEEN)].log_softmax(0)
        for place in range(len(SEEN)) if kind == "exact" else [SEEN.index(label)]:
            found = torch.autograd.grad(log_p[place], list(net.parameters()), retain_graph=True)
            counts = log_p[place].exp().item() if kind == "exact" else 1.0
            for name, g in zip(total, found, strict=True):
                total[name] += counts * g.square()
    return {name: value / len(x) for name, value in total.items()}


@pytest.mark.parametrize("kind", ["exact", "empirical"])
@pytest.mark.parametrize("name", NETS)
def test_it_is_the_mean_of_squared_gradients_of_single_images(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    make, shape = NETS[name]
    net, x, y = make().double().eval(), torch.randn(7, *shape, dtype=torch.float64), torch.tensor(SEEN)[torch.randint(4, (7,))]
    monkeypatch.setattr(fisher, "ROWS", 3)
    monkeypatch.setattr(fisher, "SINGLE", 4)
    if name in ("mlp", "convolutional", "places"):
        monkeypatch.setattr(fisher, "add_one_by_one", None)  # not needed
    found = fisher.diagonal(net, x, y, SEEN, kind)
    wanted = by_hand(net, x, y, kind)
    assert found.keys() == wanted.keys()
    for parameter, value in wanted.items():
        torch.testing.assert_close(found[parameter], value, rtol=1e-9, atol=1e-14)
    assert all(p.grad is None for p in net.parameters())


def test_outputs_that_the_loss_does_not_see_have_none() -> None:
    found = fisher.diagonal(MLP((5,), 6, widths=[4]), torch.randn(9, 5), torch.zeros(9, dtype=torch.long), SEEN, "exact")
    assert not found["head.bias"][[2, 5]].any() and found["head.bias"][list(SEEN)].all()


def test_labels_drawn_by_their_probability_give_the_exact_one_in_the_mean() -> None:
    torch.manual_seed(0)
    net, x = MLP((5,), 6, widths=[4]), torch.randn(1, 5).expand(4000, 5)
    y = torch.zeros(len(x), dtype=torch.long)
    exact, sample = (fisher.diagonal(net, x, y, SEEN, kind)["head.bias"] for kind in ("exact", "sample"))
    assert not torch.equal(exact, sample)
    seen = list(SEEN)
    p = net(x[:1])[0, seen].softmax(0).detach()  # a draw's squared gradient is (1 - p)^2 with probability p, else p^2
    error = (1 - 2 * p).abs() * (p * (1 - p) / len(x)).sqrt()
    assert ((sample - exact)[seen].abs() <= 4 * error + 1e-6).all(), "four standard errors of 4,000 draws"
    torch.testing.assert_close(exact[seen], p * (1 - p))


def test_the_square_of_a_batchs_gradient_is_another_and_smaller_thing() -> None:
    torch.manual_seed(0)
    net, x, y = MLP((5,), 6, widths=[4]), torch.randn(300, 5), torch.tensor(SEEN)[torch.randint(4, (300,))]

    def loss(out: Tensor, rows: Tensor) -> Tensor:
        return nn.functional.cross_entropy(out, y[rows])

    found = fisher.of_batches(net, x, loss)
    wanted = []
    for rows in (slice(0, 128), slice(128, 256), slice(256, 300)):
        gradients = torch.autograd.grad(nn.functional.cross_entropy(net(x[rows]), y[rows]), list(net.parameters()))
        wanted.append(sum(g.square().sum() for g in gradients))
    torch.testing.assert_close(found, torch.stack(wanted).mean())
    assert 10 * found < sum(value.sum() for value in fisher.diagonal(net, x, y, tuple(range(6)), "empirical").values())


def test_a_net_that_looks_at_the_whole_batch_is_refused(build: Callable) -> None:
    words = ("method=ewc", "data.base=synthetic", "backbone=resnet20", "backbone.norm=batch_no_stats")
    with pytest.raises(UsageError, match=r"single images.*backbone\.norm"):
        build(*words)


def test_the_method_takes_its_images_of_the_stage(stream: Callable, hand_fit: Callable) -> None:
    torch.manual_seed(0)
    method, (stage, _) = EWC(MLP((5,), 6, widths=[4]), images=1000), stream((0, 1), (2, 3))
    method.learn(stage, hand_fit())
    x, y = stage.train.tensors()
    whole = fisher.diagonal(method.net, x, y, stage.own, "exact")  # all 48 rows, in any order
    for name, value in whole.items():
        torch.testing.assert_close(method.anchors.importance[name], value)
    assert method.extra_metrics()["fisher_sum"] == pytest.approx(sum(float(v.sum()) for v in whole.values()), rel=1e-5)
