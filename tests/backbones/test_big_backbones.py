"""ResNets, VGG and Conv-8: the papers' weight counts, torchvision's numbers, and masks that meet every one of them."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.func import functional_call

from maskbench import masks
from maskbench.backbones.gate import Gate
from maskbench.backbones.initial import fresh
from maskbench.common.errors import UsageError
from maskbench.runs.nets import make_net

pytestmark = pytest.mark.full  # whole runs: make test-full

CIFAR, IMAGENET, MNIST = (3, 32, 32), (3, 224, 224), (1, 28, 28)
# weights without biases and norms: in convolutions, in all maskable layers
COUNTS = {
    ("conv8", CIFAR, 10): (4_683_456, 5_275_840),
    ("resnet20", CIFAR, 10): (270_256, 270_896),
    ("resnet18 base=20", CIFAR, 5): (1_090_140, 1_090_940),
    ("resnet18", CIFAR, 10): (11_159_232, 11_164_352),
    ("vgg19", CIFAR, 10): (20_018_880, 20_024_000),
    ("resnet34", IMAGENET, 1000): (21_267_648, 21_779_648),
    ("resnet50", IMAGENET, 1000): (23_454_912, 25_502_912),
    ("resnet101", IMAGENET, 1000): (42_394_816, 44_442_816),
    ("wide_resnet50", IMAGENET, 1000): (66_766_016, 68_814_016),
}
SMALL = {  # every kind of net, small enough to run
    "conv8": ["width=0.0625"],
    "resnet20": ["width=0.25"],
    "resnet18": ["base=4"],
    "vgg19": ["width=0.0625"],
    "resnet34": [],
    "resnet50": [],
}


def net_of(compose: Callable, words: str, shape: tuple[int, ...], outputs: int, *more: str) -> nn.Module:
    name, *keys = words.split()
    cfg = compose("method=dense", f"backbone={name}", *(f"backbone.{key}" for key in [*keys, *more]))
    return make_net(cfg.backbone, shape, outputs)


@pytest.fixture(params=SMALL)
def small(request: pytest.FixtureRequest, compose: Callable) -> Callable:
    """`small(shape, *keys)`: a small net of each kind, with seven outputs."""

    def build(shape: tuple[int, ...] = CIFAR, *keys: str) -> nn.Module:
        torch.manual_seed(0)
        return net_of(compose, request.param, shape, 7, *SMALL[request.param], *keys)

    return build


# ---- counts


@pytest.mark.parametrize("case", COUNTS, ids=lambda case: case[0])
def test_weights_are_as_many_as_in_the_papers(case: tuple, compose: Callable) -> None:
    with torch.device("meta"):
        net = net_of(compose, *case, "init=torch")
    weights = {site: net.get_parameter(site) for site in masks.sites(net)}
    convolutions = sum(w.numel() for w in weights.values() if w.ndim == 4)
    assert (convolutions, sum(w.numel() for w in weights.values())) == COUNTS[case]
    assert list(weights)[-1] == "head.weight"


def test_resnet20_has_the_papers_parts(compose: Callable) -> None:
    net = net_of(compose, "resnet20", CIFAR, 10)
    shortcuts = [name for name in masks.sites(net) if "shortcut" in name]
    assert shortcuts == ["stages.1.0.shortcut.conv.weight", "stages.2.0.shortcut.conv.weight"]
    assert sum(net.get_parameter(name).numel() for name in shortcuts) == 2_560
    assert sum(p.numel() for p in net.parameters()) == 272_474  # with biases and norms
    padded = net_of(compose, "resnet20 shortcut=pad", CIFAR, 10)
    assert sum(padded.get_parameter(name).numel() for name in masks.sites(padded)) == 267_696 + 640
    assert padded(torch.randn(2, *CIFAR)).shape == (2, 10)


def test_edge_popups_kept_weights(compose: Callable) -> None:
    """At k = 30 % the paper counts 7.7, 13.3 and 20.6 million."""
    for name, millions in (("resnet50", 7.7), ("resnet101", 13.3), ("wide_resnet50", 20.6)):
        kept = 0.3 * COUNTS[name, IMAGENET, 1000][1] / 1e6
        assert kept == pytest.approx(millions, abs=0.06)


# ---- torchvision


@pytest.mark.parametrize("name", ["resnet34", "resnet50", "wide_resnet50"])
def test_torchvisions_weights_give_torchvisions_answers(name: str, compose: Callable) -> None:
    from torchvision import models

    theirs = getattr(models, {"wide_resnet50": "wide_resnet50_2"}.get(name, name))(num_classes=12).eval()
    ours = net_of(compose, name, IMAGENET, 12).eval()
    ours.load_state_dict({key.replace("fc.", "head."): value for key, value in theirs.state_dict().items()})
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))


# ---- what every net promises


def test_any_image_goes_in_and_the_head_comes_last(small: Callable) -> None:
    for shape in (CIFAR, MNIST, (3, 64, 64)):
        net = small(shape).eval()
        assert net(torch.randn(2, *shape)).shape == (2, 7)
        assert isinstance(net.head, nn.Linear)
        before = net.head.weight.clone()
        net.head.reset_parameters()
        assert not torch.equal(net.head.weight, before)


def test_without_biases_and_affine_norms_only_weights_move(small: Callable) -> None:
    net = small(CIFAR, "bias=false", *(["affine=false"] if norms(small()) else []))
    assert sorted(name for name, _ in net.named_parameters()) == sorted(masks.sites(net))
    net(torch.randn(4, *CIFAR)).sum().backward()


def norms(net: nn.Module) -> list[nn.Module]:
    return [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]


def test_statistics_are_buffers_and_norms_can_be_left_out(small: Callable) -> None:
    if not norms(small()):
        assert small().state_dict().keys() == dict(small().named_parameters()).keys()
        return
    net, bare = small(), small(CIFAR, "norm=none")
    assert len([name for name, _ in net.named_buffers() if name.endswith("running_mean")]) == len(norms(net))
    assert bare.state_dict().keys() == dict(bare.named_parameters()).keys()
    assert bare(torch.randn(2, *CIFAR)).isfinite().all()


def test_signed_constants_reach_every_layer(small: Callable) -> None:
    net = small(CIFAR, "init=signed_constant", "bias=false")
    for site in masks.sites(net):
        w = net.get_parameter(site)
        torch.testing.assert_close(w.abs(), torch.full_like(w, (2 / w[0].numel()) ** 0.5))


def test_a_fresh_draw_has_the_names_of_the_old(small: Callable) -> None:
    net = small()
    drawn = fresh(net)
    assert drawn.keys() == net.state_dict().keys()
    assert not any(torch.equal(drawn[site], net.get_parameter(site)) for site in masks.sites(net))


def test_gates_of_ones_change_nothing_and_a_closed_one_does(small: Callable) -> None:
    net, x = small().eval(), torch.randn(2, *CIFAR)
    units: dict[str, int] = {}

    def note(name: str) -> Callable:  # an inlet gates every input, another gate the channels or units of its layer
        return lambda gate, inputs: units.__setitem__(name, inputs[0][0].numel() if gate.inlet else inputs[0].shape[1])

    hooks = [m.register_forward_pre_hook(note(n)) for n, m in net.named_modules() if isinstance(m, Gate)]
    with torch.no_grad():
        answer = net(x)
        for hook in hooks:
            hook.remove()
        assert len(units) >= 5 and not any("gain" in name for name in net.state_dict())
        ones = {f"{name}.gain": torch.ones(count) for name, count in units.items()}
        assert torch.equal(functional_call(net, ones, (x,)), answer)
        for name, count in units.items():
            assert not torch.allclose(functional_call(net, {f"{name}.gain": torch.zeros(2, count)}, (x,)), answer)


def test_masks_stand_in_for_the_weights(small: Callable) -> None:
    """f(x; w * m) by names is the net whose weights were multiplied, in training with gradients and in evaluation."""
    net, x = small(), torch.randn(4, *CIFAR)
    drawn = {name: (torch.rand_like(net.get_parameter(name)) < 0.5).float() for name in masks.sites(net)}
    twin = small()
    with torch.no_grad():
        for name, m in drawn.items():
            twin.get_parameter(name).mul_(m)
    score = {name: m.clone().requires_grad_() for name, m in drawn.items()}
    answer = functional_call(net, {n: masks.threshold(net.get_parameter(n), s, 0.5) for n, s in score.items()}, (x,))
    assert torch.equal(answer, twin(x))
    state, other = net.state_dict(), twin.state_dict()  # running statistics moved alike, though w and w * m differ
    assert all(torch.equal(state[name], other[name]) for name in state if "running" in name or "tracked" in name)
    answer.square().sum().backward()
    assert all(s.grad.any() for s in score.values())
    net.eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with torch.no_grad():
        masked = functional_call(net, {name: net.get_parameter(name) * m for name, m in drawn.items()}, (x,))
    assert torch.equal(masked, twin.eval()(x))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("words", "shape", "message"),
    [
        ("resnet20 norm=bacth", CIFAR, "backbone.norm=bacth .*'batch'"),
        ("resnet20 shortcut=none", CIFAR, "backbone.shortcut=none .*conv or pad"),
        ("resnet50 block=wide", CIFAR, "backbone.block=wide .*basic or bottleneck"),
        ("resnet18", (784,), "images"),
        ("vgg19", (1, 8, 8), "at least 16 x 16"),
    ],
)
def test_what_does_not_fit_is_refused(words: str, shape: tuple[int, ...], message: str, compose: Callable) -> None:
    with pytest.raises(UsageError, match=message):
        net_of(compose, words, shape, 10)


# ---- trained

TINY = ["data.base=synthetic_cifar10", "budget.epochs=null", "budget.batch_size=16", "loop.log_every=2"]


def moved(before: dict, after: dict) -> set[str]:
    return {name for name, value in after.items() if name in before and not torch.equal(value, before[name])}


def test_resnet20_trains_on_cifar(build: Callable) -> None:
    attempt = build("method=dense", "data=cifar10", "backbone=resnet20", "backbone.width=0.25", *TINY, "budget.steps=3")
    before = attempt.state
    after = attempt.go().state
    assert moved(before, after) == set(after)  # weights, biases, norms and their statistics
    assert attempt.fit.journal.tally["steps"] == 3


def test_supsup_masks_resnet18_on_split_cifar100(build: Callable) -> None:
    attempt = build(
        "method=supsup", "data=splitcifar100", "backbone=resnet18", "backbone.base=4", "backbone.norm=batch_no_stats", *TINY,
        "data.base=synthetic_cifar100", "data.stages=50", "budget.steps=2", "task.trials=2", "task.probe=8",
    )  # fmt: skip
    attempt.stages = attempt.stages[:2]
    net = {name: p.clone() for name, p in attempt.method.net.named_parameters()}
    attempt.go()
    assert not moved(net, dict(attempt.method.net.named_parameters()))  # the net never moves
    assert attempt.method.book.stages == [0, 1] and len(attempt.method.masks()) == 2 * len(net)


def test_norms_and_augmentation_are_taken_up_bit_for_bit(relay: Callable, build: Callable, same: Callable) -> None:
    words = ["method=dense", "data=cifar10", "backbone=resnet20", "backbone.width=0.25", *TINY, "budget.steps=7"]
    words += ["loop.block=2", "loop.checkpoint_seconds=0"]
    same(build(*words, folder="whole").go(), relay(*words, folder="parts", halts=[2, 1]))
