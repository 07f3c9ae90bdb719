"""Orders of memory and precisions: convolutions channels last are equal but for rounding, bf16 trains, float32 evaluates."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from maskbench.backbones import memory_format
from maskbench.backbones.conv import ConvK, LeNet5
from maskbench.backbones.few_shot import Conv4
from maskbench.backbones.resnet import ResNet
from maskbench.common import provenance
from maskbench.common.errors import UsageError
from maskbench.training import evaluate

LOGITS, GRADIENTS = 1e-5, 1e-4  # of the largest entry: sums of gradients behind a batch norm nearly cancel
SHAPE = (3, 16, 16)
NETS = {
    "conv2": lambda: ConvK(SHAPE, 5, channels=[16, 16], widths=[12]),
    "conv4": lambda: ConvK((1, 16, 16), 5, channels=[8, 8, 16, 16], widths=[12]),
    "lenet5": lambda: LeNet5(SHAPE, 5, channels=[6, 16], widths=[12, 8]),
    "resnet": lambda: ResNet(SHAPE, 5, base=8, blocks=[1, 1]),
    "resnet, pad": lambda: ResNet(SHAPE, 5, base=8, blocks=[1, 1], shortcut="pad", norm="batch_no_stats"),
    "few shot": lambda: Conv4(SHAPE, 5, channels=[8, 8, 8, 8]),
}


def close(a: Tensor, b: Tensor, tolerance: float = LOGITS) -> bool:
    return bool((a - b).abs().max() <= tolerance * b.abs().max())


def passed(name: str, order: str) -> tuple[nn.Module, Tensor, Tensor, list[bool]]:
    """(net, its logits, its inputs, whether what each convolution gave lies channels last) after a pass there and back."""
    torch.manual_seed(0)
    net = NETS[name]()
    memory_format.arrange(net, order)
    lies: list[bool] = []
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _, x, y: lies.append(y.is_contiguous(memory_format=torch.channels_last)))
    x = torch.randn(6, *(1 if name == "conv4" else 3, 16, 16)).requires_grad_()
    logits = net(x)
    logits.logsumexp(1).sum().backward()
    return net, logits, x, lies


@pytest.mark.parametrize("name", NETS)
def test_channels_last_is_equal_but_for_rounding(name: str) -> None:
    """Within the tolerances of above, gradients of the largest of all; draws, weights and gradients lie as they always did."""
    (net, logits, x, lies), (plain, usual, given, lay) = passed(name, "channels_last"), passed(name, "contiguous")
    assert all(lies[1:]) and not all(lay)
    assert close(logits, usual) and close(x.grad, given.grad, GRADIENTS)
    steepest = max(float(w.grad.abs().max()) for w in plain.parameters())
    for (key, p), w in zip(net.named_parameters(), plain.parameters(), strict=True):
        assert torch.equal(p, w) and p.is_contiguous() and p.grad.is_contiguous(), key
        assert float((p.grad - w.grad).abs().max()) <= GRADIENTS * steepest, key
    assert net.state_dict().keys() == plain.state_dict().keys()


def test_nets_side_by_side_may_lie_channels_last() -> None:
    """Under vmap too, where tasks have weights of their own."""
    net, plain = NETS["few shot"](), NETS["few shot"]()
    memory_format.arrange(net, "channels_last")
    weights = {name: torch.stack([w.detach(), w.detach() + 0.01]) for name, w in net.named_parameters()}
    x = torch.randn(2, 5, *SHAPE)
    answers = [torch.vmap(lambda w, x, n=n: torch.func.functional_call(n, w, (x,)))(weights, x) for n in (net, plain)]
    assert close(*answers)


def test_only_convolutions_have_an_order(build: Callable) -> None:
    with pytest.raises(UsageError, match="this backbone has none"):
        build("method=dense", "data.base=synthetic", "trainer.memory_format=channels_last")


# ---- every mechanism, through the loop

CONV = ("backbone=conv2", "backbone.channels=[4,4]", "backbone.widths=[8,8]")
STEPS = ("budget.epochs=null", "budget.steps=3", "budget.batch_size=16")
SMALL = (*STEPS, "optimizer=sgd", "optimizer.lr=0.01", "schedule=constant")
IMAGES, STREAM = ("data=mnist", "data.base=synthetic"), ("data.base=synthetic", "data.stages=2", "task.trials=5", "task.probe=20")
METHODS = {
    "edge_popup": (*IMAGES, *CONV),
    "supsup": (*STREAM, *CONV),
    "packnet": (*STREAM, *CONV),
    "piggyback": (*STREAM, *CONV),
    "lottery": (*IMAGES, *CONV, "task.levels=1"),
    "masksembles": (*IMAGES, *CONV, "data.ood=null"),
    "mc_dropout": (*IMAGES, *CONV, "data.ood=null", "method.passes=2"),
    "deep_ensembles": (*IMAGES, *CONV, "data.ood=null", "method.members=2"),
    "maml": (
        "data.base=synthetic", "backbone=few_shot_conv4", "backbone.channels=[4,4,4,4]", "data.val=4", "data.test=4",
        "task.curve=0", "budget.batch_size=2",
    ),
}  # fmt: skip
STANDING = ("edge_popup", "mc_dropout")  # for the others in `make test`
CASES = [pytest.param(name, marks=() if name in STANDING else pytest.mark.full) for name in METHODS]


def words(name: str) -> tuple[str, ...]:
    return (f"method={name}", *SMALL, *METHODS[name])


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", CASES)
def test_every_mechanism_trains_in_either_arithmetic(name: str, build: Callable) -> None:
    """Channels last the state is the same but for rounding; under bf16 it is another, of float32 numbers, and evaluated."""
    plain = build(*words(name), folder="plain").go()
    last = build(*words(name), "trainer.memory_format=channels_last", folder="last").go()
    mixed = build(*words(name), "trainer.precision=bf16-mixed", folder="mixed").go()
    assert plain.state.keys() == last.state.keys() == mixed.state.keys()
    floats = [key for key, value in plain.state.items() if value.is_floating_point() and value.numel()]
    assert [key for key in floats if not close(last.state[key], plain.state[key], GRADIENTS)] == []
    assert any(not torch.equal(mixed.state[key], plain.state[key]) for key in floats)
    assert all(mixed.state[key].dtype == plain.state[key].dtype for key in floats)
    assert all(torch.equal(m, plain.method.masks()[key]) for key, m in last.method.masks().items())
    assert mixed.metrics.keys() == plain.metrics.keys()


def test_evaluation_is_in_float32(build: Callable) -> None:
    """On the way, where a net trains in bf16, it answers the validation split as it does when training is over."""
    bench = build(*words("edge_popup"), "trainer.precision=bf16-mixed", "budget.validate_every=3").go()
    (stage,) = bench.stages
    (point,) = bench.fit.curve
    told = evaluate.loss_and_accuracy(bench.method, stage, stage.val)
    assert {key: point[f"val_{key}"] for key in told} == told


# ---- what this machine has


@pytest.mark.parametrize(
    "line, found",
    [
        ("flags\t\t: fpu avx2 fma", []),
        ("flags\t\t: fpu avx2 avx512f avx512_bf16", ["avx512_bf16"]),
        ("flags\t\t: avx512_bf16 amx_bf16 amx_tile", ["amx_bf16", "avx512_bf16"]),
        ("Features\t: fp asimd bf16", ["bf16"]),
        ("Features\t: fp asimd i8mm", []),
        ("processor\t: 0", None),
    ],
)
def test_instructions_for_bf16(line: str, found: list[str] | None) -> None:
    assert provenance.bf16_among(f"processor\t: 0\n{line}\nbogomips\t: 1\n") == found
