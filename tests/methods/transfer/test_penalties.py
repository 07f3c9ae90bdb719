"""Penalties are the sums their formulas say, with the gradients that follow, in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskbench.methods.transfer import penalties


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gradient(value: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    (result,) = torch.autograd.grad(value, w)
    return result


def test_l2_is_a_plain_sum_of_squares() -> None:
    weights = [torch.tensor([3.0, 4.0]), torch.tensor([[2.0]])]
    assert penalties.l2(weights) == 29
    w = drawn(4, 3).requires_grad_()
    assert torch.equal(gradient(penalties.l2([w]), w), 2 * w)


def test_l2_sp_is_the_squared_distance_from_the_start_without_a_half() -> None:
    w, start = drawn(4, 3).requires_grad_(), drawn(4, 3, seed=1)
    value = penalties.l2_sp([w], [start])
    assert value.item() == pytest.approx(((w - start) ** 2).sum().item())
    assert torch.allclose(gradient(value, w), 2 * (w - start))
    assert penalties.l2_sp([start], [start]) == 0


@given(st.integers(1, 6), st.integers(2, 7), st.integers(1, 3), st.integers(0, 100))
def test_bss_is_the_sum_of_the_smallest_squared_singular_values(batch: int, features: int, k: int, seed: int) -> None:
    f = drawn(batch, features, seed=seed)
    values = np.sort(np.linalg.svd(f.numpy(), compute_uv=False) ** 2)
    assert penalties.bss(f, k).item() == pytest.approx(values[:k].sum(), rel=1e-9, abs=1e-12)


def test_bss_pulls_along_the_smallest_singular_direction() -> None:
    f = drawn(5, 4).requires_grad_()
    u, s, v = torch.linalg.svd(f.detach(), full_matrices=False)
    assert torch.allclose(gradient(penalties.bss(f, 1), f), 2 * s[-1] * torch.outer(u[:, -1], v[-1]))


def test_delta_weighs_squared_distances_of_channels_and_is_a_mean_over_the_batch() -> None:
    own, source = {"a": drawn(2, 3, 2, 2)}, {"a": drawn(2, 3, 2, 2, seed=1)}
    attention = {"a": torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)}
    by_hand = sum(attention["a"][j] * (own["a"][n, j] - source["a"][n, j]).square().sum() for n in range(2) for j in range(3))
    assert penalties.delta(own, source, attention).item() == pytest.approx(by_hand.item() / 2)
    twice = {"a": own["a"].repeat(2, 1, 1, 1)}, {"a": source["a"].repeat(2, 1, 1, 1)}
    assert penalties.delta(*twice, attention).item() == pytest.approx(by_hand.item() / 2)


def test_delta_adds_layers_and_takes_units_without_places() -> None:
    own, source = {"a": drawn(4, 3), "b": drawn(4, 2)}, {"a": drawn(4, 3, seed=1), "b": drawn(4, 2, seed=2)}
    attention = {name: torch.full((f.shape[1],), 1 / f.shape[1], dtype=torch.float64) for name, f in own.items()}
    alone = [penalties.delta({n: own[n]}, {n: source[n]}, attention) for n in own]
    assert penalties.delta(own, source, attention).item() == pytest.approx(sum(alone).item())


def test_attention_is_the_softmax_of_what_losing_a_channel_costs() -> None:
    costs = [0.1, 2.0, -0.3]
    result = penalties.channel_attention(lambda j: torch.tensor(1.0 if j is None else 1.0 + costs[j]), 3)
    assert torch.allclose(result, torch.tensor(costs).softmax(0))
    assert result.sum().item() == pytest.approx(1)
