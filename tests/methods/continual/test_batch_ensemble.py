"""BatchEnsemble: rank-one factors on frozen weights, and three ways of finding the stage."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.func import functional_call

from maskbench.backbones.mlp import MLP
from maskbench.common.errors import UsageError
from maskbench.methods.continual.batch_ensemble import BatchEnsemble

TINY = (
    "method=batch_ensemble",
    "data.base=synthetic",
    "budget.steps=15",
    "budget.batch_size=32",
    "task.probe=50",
    "task.trials=5",
)
MLP_NET = ("backbone.widths=[24,12]",)


def test_factors_start_as_signs_and_the_weights_train_at_their_own_rate(build: Callable) -> None:
    bench, calls = build(*TINY, *MLP_NET, "method.inference=[]"), []

    def fit(method: BatchEnsemble, stage, **phase) -> None:
        signs = [method.factor(kind, stage.index, name).detach() for name in method.w for kind in "st"]
        assert all(bool((f.abs() == 1).all()) for f in signs) and torch.cat(signs).unique().tolist() == [-1, 1]
        calls.append((phase["lr"], sum(p.numel() for p in method.trainable_parameters())))

    for stage in bench.stages:
        bench.method.learn(stage, fit)
    factors = (784 + 24) + (24 + 12) + (12 + 2)
    net = sum(p.numel() for p in bench.method.net.parameters())
    assert calls == [(0.01, factors + net)] + [(1.0, factors)] * 4


def test_a_stage_computes_with_its_inputs_and_outputs_scaled() -> None:
    """f(x; W * outer(s, t)) is s * f(t * x; W), layer by layer; convolutions over channels."""
    net = nn.Sequential(nn.Conv2d(3, 4, 2, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5, bias=False)).double()
    method = ready(net, stages=1)
    x = torch.randn(6, 3, 3, 3, dtype=torch.double)
    s, t = ({name: method.factor(kind, 0, name) for name in method.w} for kind in "st")
    hidden = net[0](x * t["0.weight"][:, None, None]) * s["0.weight"][:, None, None]
    expected = net[3](hidden.relu().flatten(1) * t["3.weight"]) * s["3.weight"]
    torch.testing.assert_close(functional_call(net, method.answering(0), (x,)), expected)


def ready(net: nn.Module, stages: int, **knobs) -> BatchEnsemble:
    """A method that has finished some stages, with factors drawn at large."""
    method = BatchEnsemble(net, **knobs)
    for stage in range(stages):
        for name, w in method.w.items():
            for kind, size in zip("st", w.shape, strict=False):
                method.factors.put(f"{stage}/{kind}/{name}", torch.randn(size, dtype=w.dtype))
    method.learnt.fill_(stages)
    return method


@pytest.mark.parametrize("conv", [False, True], ids=["mlp", "conv"])
def test_one_shot_is_the_gradient_to_the_coefficients(conv: bool) -> None:
    """Against autograd through sum_i alpha_i W * outer(s_i, t_i) itself."""
    layers = (
        [nn.Conv2d(2, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5)] if conv else [nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 5)]
    )
    method = ready(nn.Sequential(*layers).double(), stages=4)
    groups = torch.randn(3, 8, *((2, 3, 3) if conv else (7,)), dtype=torch.double)
    expected = []
    for images in groups:
        alpha = torch.full((4,), 0.25, dtype=torch.double, requires_grad=True)
        answers = [method.answering(stage) for stage in range(4)]
        superposed = {name: sum(a * w[name] for a, w in zip(alpha, answers, strict=True)) for name in method.w}
        p = functional_call(method.net, superposed, (images,)).softmax(-1)
        (slope,) = torch.autograd.grad(-(p * p.log()).sum(-1).mean(), alpha)
        expected.append(slope)
    torch.testing.assert_close(method.one_shot(groups), torch.stack(expected), rtol=1e-6, atol=1e-9)


def test_the_surest_stage_is_the_answer() -> None:
    torch.manual_seed(0)
    method = ready(MLP((7,), 3, widths=[6]), stages=4, inference=["lowest_entropy", "highest_probability"])
    groups = torch.randn(40, 8, 7)
    p = torch.stack([functional_call(method.net, method.answering(s), (groups.flatten(0, 1),)).softmax(-1) for s in range(4)])
    p = p.reshape(4, 40, 8, 3).detach()
    entropy = -(p * p.log()).sum(-1).mean(-1)
    assert len(entropy.argmin(0).unique()) > 1, "there is something to find"
    assert method.infer(groups, "lowest_entropy").tolist() == entropy.argmin(0).tolist()
    assert method.infer(groups, "highest_probability").tolist() == p.amax(-1).mean(-1).argmax(0).tolist()


def test_a_net_that_diverged_names_some_stage_and_ends_no_run() -> None:
    method = ready(MLP((7,), 3, widths=[6]), stages=2, inference=["lowest_entropy"])
    with torch.no_grad():
        method.net.head.bias.fill_(float("nan"))
    assert set(method.infer(torch.randn(2, 4, 7), "lowest_entropy").tolist()) <= {0, 1}


def test_all_rules_are_measured(build: Callable) -> None:
    bench = build(*TINY, *MLP_NET, "method.trunk=random").go()
    rules = bench.cfg.method.inference
    assert list(rules) == ["lowest_entropy", "highest_probability", "one_shot_H"]
    assert all(f"task_inference_accuracy/{rule}_1" in bench.metrics for rule in rules)
    assert bench.metrics["task_inference_accuracy"] == bench.metrics["task_inference_accuracy/lowest_entropy_1"]


@pytest.mark.parametrize(("trunk", "shared"), [("first", 4 * (16 * 6 + 6 + 6 * 3 + 3)), ("random", 8)])
def test_bytes_are_one_net_and_two_vectors_a_layer(trunk: str, shared: int) -> None:
    method = BatchEnsemble(MLP((1, 4, 4), 3, widths=[6]), trunk=trunk)
    assert method.memory() == {"shared": shared, "stage": 4 * (16 + 6 + 6 + 3)}


def test_words_that_are_none_are_refused() -> None:
    net = MLP((1, 4, 4), 2, widths=[4])
    with pytest.raises(UsageError, match="method.trunk=frist .* Did you mean 'first'"):
        BatchEnsemble(net, trunk="frist")
    with pytest.raises(UsageError, match=r"method.inference=\[lowest\] must be"):
        BatchEnsemble(net, inference=["lowest"])
