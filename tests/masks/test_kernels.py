"""Products by kept values: what the dense product of w * m gives, its gradients at the kept places, and who sees what."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from maskbench.masks.kernels import BlockDiagonal, Pattern, SparseWeight, linear, pays
from maskbench.training.stand_in import call


def mask(kind: str) -> Tensor:
    m = torch.rand(7, 5, generator=torch.Generator().manual_seed(0)) < 0.4
    if kind == "empty and full rows":
        m[1], m[2], m[:, 3], m[:, 4] = False, True, False, True
        m[1] = False
    return {"none": m & False, "all": m | True}.get(kind, m)


KINDS = ["some", "empty and full rows", "none", "all"]


def parts(kind: str, dtype: torch.dtype = torch.float64) -> tuple[Pattern, Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    pattern = Pattern.of(mask(kind))
    made = torch.randn(pattern.count, dtype=dtype), torch.randn(4, 5, dtype=dtype), torch.randn(7, dtype=dtype)
    return pattern, *(tensor.requires_grad_() for tensor in made)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_function(kind: str) -> None:
    pattern, values, x, bias = parts(kind)
    assert torch.autograd.gradcheck(lambda x, values, bias: linear(x, values, bias, pattern), (x, values, bias))
    assert torch.autograd.gradcheck(lambda x, values: linear(x, values, None, pattern), (x, values))


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_dense_masked_layer(kind: str) -> None:
    """To 1e-6 in float32, outputs and gradients; the weight's gradient at the kept places is the dense one's."""
    pattern, values, x, bias = parts(kind, torch.float32)
    w = pattern.scatter(values).detach().requires_grad_()
    g = torch.randn(4, 7)
    dense = functional.linear(x, w * mask(kind), bias)
    expected = torch.autograd.grad(dense, (x, w, bias), g)
    sparse = linear(x, values, bias, pattern)
    found = torch.autograd.grad(sparse, (x, values, bias), g, allow_unused=True)
    torch.testing.assert_close(sparse, dense, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found[0], expected[0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found[1], pattern.gather(expected[1]), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found[2], expected[2], rtol=1e-6, atol=1e-6)


def test_gather_and_scatter_undo_each_other_exactly() -> None:
    pattern, values, *_ = parts("some")
    dense = pattern.scatter(values)
    assert torch.equal(pattern.gather(dense), values) and not dense[~mask("some")].any()
    assert torch.equal(pattern.flat, mask("some").flatten().nonzero().squeeze(1))


def test_leading_dimensions_and_no_bias() -> None:
    pattern, values, _, _ = parts("some")
    x = torch.randn(2, 3, 5, dtype=torch.float64)
    torch.testing.assert_close(linear(x, values, None, pattern), functional.linear(x, pattern.scatter(values)))


def test_a_net_computes_with_what_stands_in() -> None:
    """Two layers in a row, a copy, and any other use, which sees the dense matrix and reaches the values."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))
    pattern = Pattern.of(mask("some"))
    values = nn.Parameter(torch.randn(pattern.count))
    weight, x = SparseWeight(values, pattern), torch.randn(6, 5)
    own = net[0].weight
    dense = call(net, {"0.weight": weight.dense()}, x)
    torch.testing.assert_close(call(net, {"0.weight": weight}, x), dense)
    assert net[0].weight is own
    assert weight.shape == (7, 5) and weight.dtype == torch.float32 and weight.requires_grad
    (weight * 2).sum().backward()
    assert torch.equal(values.grad, torch.full_like(values, 2))
    assert copy.deepcopy(pattern) is pattern


def test_other_precisions_take_the_dense_product() -> None:
    pattern, values, x, bias = parts("some", torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x, values, bias, pattern).dtype == torch.bfloat16


def test_a_second_derivative_is_refused() -> None:
    pattern, values, x, bias = parts("some")
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(linear(x, values, bias, pattern).sum(), values, create_graph=True)


def test_what_pays_follows_from_shape_and_count() -> None:
    assert pays((300, 784), 9051) and pays((300, 784), 1810) and pays((300, 784), 18714)
    assert not pays((300, 784), 117_600) and not pays((10, 100), 10)


def test_a_call_with_tensors_in_the_place_of_shared_ones() -> None:
    """A weight of two layers is one, whichever way the net computes."""
    net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    net[1].weight = net[0].weight
    x, w = torch.randn(2, 4), torch.randn(4, 4)
    torch.testing.assert_close(call(net, {"0.weight": w}, x), x @ w.T @ w.T)
    bn = nn.BatchNorm1d(4).eval()
    torch.testing.assert_close(call(bn, {"running_mean": torch.ones(4)}, x), bn(x - 1))
    assert not bn.running_mean.any()


def test_nets_side_by_side_are_the_nets_alone() -> None:
    """Outputs and gradients of three nets of two layers, with masks, values and inputs of their own."""
    torch.manual_seed(0)
    layers = []
    for outputs, inputs in ((7, 5), (3, 7)):
        patterns = [Pattern.of(torch.rand(outputs, inputs) < share) for share in (0.2, 0.5, 0.0)]
        layers.append((BlockDiagonal(patterns), patterns, [torch.randn(p.count, requires_grad=True) for p in patterns]))
    x = torch.randn(3, 6, 5)
    alone = []
    for net in range(3):
        h = x[net]
        for _, patterns, values in layers:
            h = torch.relu(linear(h, values[net], None, patterns[net]))
        alone.append(h)
    torch.stack(alone).square().sum().backward()
    joined = [block.join(values).detach().requires_grad_() for block, _, values in layers]
    h = x.transpose(0, 1).flatten(1)
    for (block, _, _), values in zip(layers, joined, strict=True):
        h = torch.relu(linear(h, values, None, block.pattern))
    h.square().sum().backward()
    torch.testing.assert_close(h.unflatten(1, (3, 3)).transpose(0, 1), torch.stack(alone), rtol=1e-6, atol=1e-6)
    for (block, _, values), together in zip(layers, joined, strict=True):
        for own, part in zip(values, block.split(together.grad), strict=True):
            torch.testing.assert_close(part, own.grad, rtol=1e-6, atol=1e-6)
