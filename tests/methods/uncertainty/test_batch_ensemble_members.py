"""BatchEnsemble's members: the paper's formula layer by layer, which example trains whom, what is shared."""

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import conv2d, cross_entropy, linear, max_pool2d, relu

from maskbench.backbones.conv import LeNet5
from maskbench.backbones.fold import FoldMLP
from maskbench.backbones.mlp import MLP
from maskbench.backbones.resnet import ResNet
from maskbench.common.errors import UsageError
from maskbench.methods.uncertainty.batch_ensemble_members import BatchEnsembleMembers


class Stage:
    """All that a prediction asks of one."""

    link = staticmethod(lambda outputs: outputs.softmax(-1))
    criterion = staticmethod(cross_entropy)


def mlp(members: int = 4, **knobs) -> BatchEnsembleMembers:
    torch.manual_seed(0)
    return BatchEnsembleMembers(MLP((30,), 10, widths=[12, 8]), members=members, **knobs).double()


def drawn(method: BatchEnsembleMembers) -> BatchEnsembleMembers:
    """With factors and biases that are no longer where they started."""
    with torch.no_grad():
        for p in method.own.parameters():
            p.add_(torch.randn_like(p))
    return method


def test_a_layer_scales_its_inputs_and_its_outputs() -> None:
    """Equation 5 of the paper: ((x * t) W^T) * s + b."""
    method, x = drawn(mlp()), torch.randn(5, 30).double()
    predictions = method.predict(x, Stage)
    for m in range(4):
        h = x
        for name, layer in method.layers.items():
            s, t, bias = (method.own[f"{kind}/{name}"][m] for kind in ("s", "t", "bias"))
            h = linear(h * t[0], layer.weight) * s[:, 0] + bias
            h = h if name == "head" else relu(h)
        torch.testing.assert_close(predictions[m], h.softmax(-1))


def test_a_convolution_scales_its_maps() -> None:
    torch.manual_seed(0)
    net = LeNet5((2, 12, 12), 10, channels=[4, 6], widths=[8], keep_size=True).double()
    method, x = drawn(BatchEnsembleMembers(net, members=3).double()), torch.randn(2, 2, 12, 12).double()
    s, t, bias = (method.own[f"{kind}/convs.0"][1] for kind in ("s", "t", "bias"))
    maps = conv2d(x * t, net.convs[0].weight, padding=2) * s.squeeze(-1) + bias[:, None, None]
    rest = method.member(1)
    h = max_pool2d(relu(maps), 2)
    h = max_pool2d(relu(conv2d(h, rest["convs.1.weight"], rest["convs.1.bias"], padding=2)), 2).flatten(1)
    h = linear(relu(linear(h, rest["hidden.0.weight"], rest["hidden.0.bias"])), rest["head.weight"], rest["head.bias"])
    torch.testing.assert_close(method.predict(x, Stage)[1], h.softmax(-1))


@pytest.mark.parametrize("shape", [(3, 6), (6,)])
def test_nets_side_by_side_have_factors_of_their_own(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    method = drawn(BatchEnsembleMembers(FoldMLP(shape, 1, widths=[5]), members=2))
    folds = shape[0] if len(shape) == 2 else 1
    assert method.own["s/head"].shape == (2, folds, 1, 1) and method.own["t/head"].shape == (2, folds, 1, 5)
    x = torch.randn(4, *shape)
    before = functional_call(method.net, method.member(0), (x,))
    assert before.shape == (4, *shape[:-1], 1)
    with torch.no_grad():
        method.own["s/head"][0, -1] *= 2  # of the last fold, member 0
    after = functional_call(method.net, method.member(0), (x,))
    assert not torch.equal(before.reshape(4, folds)[:, -1], after.reshape(4, folds)[:, -1])
    assert torch.equal(before.reshape(4, folds)[:, :-1], after.reshape(4, folds)[:, :-1])


def test_factors_start_as_signs_and_members_differ() -> None:
    method = mlp()
    factors = torch.cat([method.own[f"{kind}/{name}"].flatten() for kind in "st" for name in method.layers])
    assert set(factors.tolist()) == {-1.0, 1.0}
    predictions = method.predict(torch.randn(3, 30).double(), Stage)
    assert all(not torch.equal(predictions[0], predictions[m]) for m in range(1, 4))


@pytest.mark.parametrize("batch", [1, 3, 10])
@pytest.mark.parametrize("assign", ["chunk", "all"])
def test_the_loss_is_the_mean_over_examples_by_the_members_they_train(assign: str, batch: int) -> None:
    method = drawn(mlp(assign=assign))
    x, y = torch.randn(batch, 30).double(), torch.randint(10, (batch,))
    logits = torch.stack([functional_call(method.net, method.member(m), (x,)) for m in range(4)])
    each = torch.stack([cross_entropy(one, y, reduction="none") for one in logits])  # [members, batch]
    torch.manual_seed(1)
    members = torch.randperm(4).tolist() if batch < 4 else range(4)  # too few for all: lot decides
    owner = torch.cat([torch.full((len(part),), m) for m, part in zip(members, x.tensor_split(4), strict=True)])
    wanted = each.mean() if assign == "all" else each[owner, torch.arange(batch)].mean()
    torch.manual_seed(1)
    torch.testing.assert_close(method.loss((x, y), Stage), wanted)


def test_what_moves_gets_a_gradient_and_the_rest_is_not_asked() -> None:
    method = mlp()
    x, y = torch.randn(8, 30).double(), torch.randint(10, (8,))
    method.loss((x, y), Stage).backward()
    moving = list(method.trainable_parameters())
    assert all(p.grad is not None for p in moving)
    still = [p for p in method.parameters() if all(p is not q for q in moving)]
    assert len(still) == 3 and all(p.grad is None for p in still)  # the backbone's own biases


def test_it_costs_a_few_vectors() -> None:
    method = mlp()
    facts = method.extra_metrics()
    own = 4 * ((30 + 12 + 12) + (12 + 8 + 8) + (8 + 10 + 10))
    weights = 30 * 12 + 12 * 8 + 8 * 10
    assert facts["weights_over_plain"] == pytest.approx((weights + own) / (weights + 30))
    assert method.memory()["shared"] == 8 * (weights + own)


def test_norms_are_shared() -> None:
    torch.manual_seed(0)
    method = BatchEnsembleMembers(ResNet((3, 8, 8), 10, blocks=[1, 1], base=16), members=2).train()
    x, y = torch.randn(8, 3, 8, 8), torch.randint(10, (8,))
    before = {name: b.clone() for name, b in method.net.named_buffers() if name.endswith("running_mean")}
    method.loss((x, y), Stage).backward()
    after = dict(method.net.named_buffers())
    assert before and all(not torch.equal(b, after[name]) for name, b in before.items())
    norms = {id(p) for m in method.net.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    assert norms <= {id(p) for p in method.trainable_parameters()}


@pytest.mark.parametrize("knobs, words", [({"members": 0}, "members"), ({"assign": "random"}, "assign")])
def test_wrong_knobs_are_refused_in_words(knobs: dict, words: str) -> None:
    with pytest.raises(UsageError, match=f"method.{words}="):
        BatchEnsembleMembers(MLP((30,), 10, widths=[12]), **knobs)
