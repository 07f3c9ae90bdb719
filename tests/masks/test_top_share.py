"""The top share by selection: exact counts, a stable sort's ties, the straight-through gradient; Bernoulli masks."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from maskbench import masks

SEEDS = st.integers(0, 2**31)
TIED = st.lists(st.sampled_from([-2.0, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 2.0]), min_size=1, max_size=60)
PERCENT = range(1, 100)


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def by_stable_sort(rank: Tensor, count: int) -> Tensor:
    """The mask as the papers describe it: sort ascending, stably; the first n - count go."""
    mask = torch.ones(rank.numel(), dtype=torch.bool)
    mask[rank.flatten().sort(stable=True).indices[: rank.numel() - count]] = False
    return mask.reshape(rank.shape)


# ---- counts


@pytest.mark.parametrize("n", [1, 7, 1000, 235_200, 30_000])
def test_every_percentage_keeps_its_exact_count(n: int) -> None:
    for percent in PERCENT:
        expected = -(-percent * n // 100)  # the ceiling, in integers
        assert masks.kept_count(percent / 100, n) == expected == n - math.floor((1 - Fraction(percent, 100)) * n)
    assert masks.kept_count(1.0, n) == masks.kept_count(1, n) == n


def test_floating_point_would_lose_a_weight() -> None:
    naive = {percent for percent in PERCENT if 1000 - int((1 - percent / 100) * 1000) != 10 * percent}
    assert {7, 32, 93} <= naive
    assert all(masks.kept_count(percent / 100, 1000) == 10 * percent for percent in naive)


@pytest.mark.parametrize("percent", PERCENT)
def test_a_layer_keeps_that_many(percent: int) -> None:
    score = torch.empty(100, 30).uniform_(-1, 1, generator=drawn(percent))
    w = torch.ones_like(score)
    count = masks.kept_count(percent / 100, score.numel())
    kept = masks.top_share(w, score, masks.cut(score, count, magnitude=True), magnitude=True)
    assert int(kept.count_nonzero()) == count == 30 * percent


def test_a_count_that_is_not_there_is_refused() -> None:
    for count in (-1, 5):
        with pytest.raises(ValueError, match="of 4 weights"):
            masks.cut(torch.zeros(4), count)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("count", range(6))
def test_scores_that_are_nan_are_refused_whatever_is_kept(count: int, dtype: torch.dtype) -> None:
    score = torch.tensor([0.1, torch.nan, -0.2, torch.inf, 2.0], dtype=dtype)
    for magnitude in (False, True):
        with pytest.raises(FloatingPointError, match="NaN.*optimizer.lr"):
            masks.cut(score, count, magnitude)
        with pytest.raises(FloatingPointError, match="NaN.*optimizer.lr"):
            masks.cuts([torch.ones(3, dtype=dtype), score], count, least=1, magnitude=magnitude)
        assert masks.kept(score[2:], masks.cut(score[2:], min(count, 3), magnitude), magnitude).sum() == min(count, 3)


# ---- which ones: a stable sort's


@given(TIED, st.data(), st.booleans())
def test_ties_fall_as_in_a_stable_sort(values: list[float], data: st.DataObject, magnitude: bool) -> None:
    score = torch.tensor(values)
    count = data.draw(st.integers(0, len(values)))
    rank = score.abs() if magnitude else score
    cut = masks.cut(score, count, magnitude)
    expected = by_stable_sort(rank, count)
    assert torch.equal(masks.kept(score, cut, magnitude), expected)
    w = torch.arange(1.0, len(values) + 1)
    assert torch.equal(masks.top_share(w, score, cut, magnitude), w * expected)


@given(SEEDS, st.integers(1, 400), st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
def test_drawn_scores_give_the_mask_of_a_stable_sort(seed: int, count: int, dtype: torch.dtype) -> None:
    """On the grid of 2^-24 that uniform draws lie on, and on bfloat16's, where ties abound."""
    score = torch.rand(20, 20, generator=drawn(seed)).sub_(0.5).to(dtype)
    for magnitude in (True, False):
        cut = masks.cut(score, count, magnitude)
        expected = by_stable_sort(score.abs() if magnitude else score, count)
        assert torch.equal(masks.kept(score, cut, magnitude), expected)
        assert torch.equal(masks.top_share(torch.ones_like(score), score, cut, magnitude), expected.to(dtype))


def test_the_lower_index_goes_first() -> None:
    score = torch.tensor([1.0, -1.0, 1.0, 3.0, 0.0, -1.0])
    assert masks.kept(score.abs(), masks.cut(score.abs(), 3)).tolist() == [False, False, True, True, False, True]


def test_nothing_and_everything() -> None:
    score = torch.tensor([[0.0, -0.0], [1.0, -math.inf]])
    for magnitude in (True, False):
        for count in (0, 4):
            cut = masks.cut(score, count, magnitude)
            assert int(masks.kept(score, cut, magnitude).sum()) == count
            assert int(masks.top_share(torch.ones(2, 2), score, cut, magnitude).sum()) == count


def test_ranking_leaves_its_arguments_alone() -> None:
    w, score = torch.randn(9), torch.tensor([1.0, -1.0, 1.0, 0.0, 2.0, -2.0, 1.0, 0.5, 1.0])
    before = w.clone(), score.clone()
    for magnitude in (True, False):
        masks.top_share(w, score, masks.cut(score, 4, magnitude), magnitude)
    assert torch.equal(w, before[0]) and torch.equal(score, before[1])


# ---- one ranking over several tensors


@given(SEEDS, st.lists(st.integers(1, 20), min_size=1, max_size=4), st.data())
def test_a_joint_ranking_is_that_of_all_values_in_a_row(seed: int, sizes: list[int], data: st.DataObject) -> None:
    ranks = [torch.randint(0, 4, (n,), generator=drawn(seed + i)).float() for i, n in enumerate(sizes)]
    count = data.draw(st.integers(0, sum(sizes)))
    found = torch.cat([masks.kept(r, c) for r, c in zip(ranks, masks.cuts(ranks, count), strict=True)])
    assert torch.equal(found, by_stable_sort(torch.cat(ranks), count))


@given(SEEDS, st.lists(st.integers(1, 20), min_size=1, max_size=4), st.integers(0, 9), st.data())
def test_every_tensor_keeps_its_least(seed: int, sizes: list[int], least: int, data: st.DataObject) -> None:
    ranks = [torch.randint(0, 4, (n,), generator=drawn(seed + i)).float() for i, n in enumerate(sizes)]
    count = data.draw(st.integers(0, sum(sizes)))
    found = [masks.kept(r, c) for r, c in zip(ranks, masks.cuts(ranks, count, least), strict=True)]
    floors = [min(least, n) for n in sizes]
    assert sum(int(m.sum()) for m in found) == max(count, sum(floors))
    for rank, mask, floor in zip(ranks, found, floors, strict=True):
        assert int(mask.sum()) >= floor
        assert torch.equal(mask, by_stable_sort(rank, int(mask.sum()))), "within a tensor the best stay"


# ---- the gradient


@pytest.mark.parametrize("magnitude", [True, False])
@given(SEEDS, st.integers(0, 35))
def test_gradients_are_those_of_the_formula(magnitude: bool, seed: int, count: int) -> None:
    """d/dscore = sign(score) * w * g (no sign for the raw score) and d/dw = m * g, in float64, exactly."""
    w = torch.randn(5, 7, generator=drawn(seed), dtype=torch.float64).requires_grad_()
    score = torch.randn(5, 7, generator=drawn(seed + 1), dtype=torch.float64)
    score[0, 0] = 0.0
    score.requires_grad_()
    x = torch.randn(3, 7, generator=drawn(seed + 2), dtype=torch.float64)
    rank = score.abs() if magnitude else score
    kept = masks.top_share(w, score, masks.cut(score, count, magnitude), magnitude)
    kept.retain_grad()
    (x @ kept.T).tanh().square().sum().backward()

    m = by_stable_sort(rank.detach(), count).double()
    y = x @ (w.detach() * m).T
    g = (2 * y.tanh() * (1 - y.tanh() ** 2)).T @ x  # the closed form of d loss / d (w * m)
    torch.testing.assert_close(kept.grad, g, rtol=1e-12, atol=1e-12)
    sign = score.detach().sign() if magnitude else 1.0
    assert torch.equal(score.grad, kept.grad * w.detach() * sign)
    assert torch.equal(w.grad, m * kept.grad)


def test_what_is_masked_out_learns_too_and_frozen_weights_do_not() -> None:
    w, score = torch.tensor([2.0, 3.0, 5.0, 7.0]), torch.tensor([0.1, -0.2, -0.9, 0.8], requires_grad=True)
    masks.top_share(w, score, masks.cut(score, 2, magnitude=True), magnitude=True).sum().backward()
    assert w.grad is None
    assert torch.equal(score.grad, torch.tensor([2.0, -3.0, -5.0, 7.0]))


@given(SEEDS, st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
def test_the_sign_in_the_gradient_is_exact(seed: int, dtype: torch.dtype) -> None:
    """Bit for bit grad * w * sign(score), zeros and infinities among the scores and the smallest and largest of numbers."""
    info, g = torch.finfo(dtype), drawn(seed)
    edges = torch.tensor(
        [0.0, -0.0, math.inf, -math.inf, info.tiny, -info.tiny, info.max, info.min, 1.0, -1.0], dtype=torch.float64
    )
    score = edges[torch.randint(len(edges), (7, 9), generator=g)].to(dtype).requires_grad_()
    w, slope = (torch.randn(7, 9, generator=g).to(dtype) for _ in range(2))
    masks.top_share(w, score, masks.cut(score, 30, magnitude=True), magnitude=True).backward(slope)
    expected = slope * w * score.detach().sign()
    assert torch.equal(score.grad, expected) and torch.equal(score.grad.signbit(), expected.signbit())


def test_several_layers_in_one_step_have_the_bits_of_each_alone() -> None:
    """A layer that the loss does not depend on gets no gradient at all, as it would alone."""
    ws = {name: torch.randn(4, n, generator=drawn(n)).requires_grad_() for name, n in (("a", 5), ("b", 7), ("unused", 3))}
    scores = {name: torch.randn(w.shape, generator=drawn(9)).requires_grad_() for name, w in ws.items()}
    cuts = {name: masks.cut(score, 6, magnitude=True) for name, score in scores.items()}
    together = masks.top_shares(ws, scores, cuts, magnitude=True)
    alone = {name: masks.top_share(ws[name], scores[name], cuts[name], magnitude=True) for name in ws}
    assert all(torch.equal(together[name], alone[name]) for name in ws)
    gradients = []
    for tensors in (together, alone):
        (tensors["a"].square().sum() + tensors["b"].exp().sum()).backward()
        gradients.append([t.grad for layer in (ws, scores) for t in layer.values()])
        for t in [*ws.values(), *scores.values()]:
            t.grad = None
    for one, other in zip(*gradients, strict=True):
        assert one is other is None or torch.equal(one, other)
    assert gradients[0][2] is None


@pytest.mark.parametrize("magnitude", [True, False])
def test_weights_of_which_some_are_owned_have_the_bits_of_adding_up_first(magnitude: bool) -> None:
    """Values and both gradients are those of top_shares of kept + alive * w, and a second derivative is refused, not wrong."""
    g = drawn(11)
    ws = {name: torch.randn(6, n, generator=g).requires_grad_() for name, n in (("a", 5), ("b", 7))}
    scores = {name: torch.randn(w.shape, generator=g).requires_grad_() for name, w in ws.items()}
    alive = {name: (torch.rand(w.shape, generator=g) < 0.5).float() for name, w in ws.items()}
    owned = {name: (torch.randn(m.shape, generator=g) * (1 - m), m) for name, m in alive.items()}
    cuts = {name: masks.cut(score, 13, magnitude) for name, score in scores.items()}
    present = {name: torch.addcmul(kept, m, ws[name]) for name, (kept, m) in owned.items()}
    results = []
    for effective in (masks.top_shares(present, scores, cuts, magnitude), masks.top_shares(ws, scores, cuts, magnitude, owned)):
        inputs = [*ws.values(), *scores.values()]
        grads = torch.autograd.grad(sum(w.exp().sum() for w in effective.values()), inputs)
        results.append([*effective.values(), *grads])
    assert all(torch.equal(one, other) and bool(one.any()) for one, other in zip(*results, strict=True))
    effective = masks.top_shares(ws, scores, cuts, magnitude, owned)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(effective["a"].square().sum(), ws["a"], create_graph=True)


# ---- Bernoulli masks


def test_bernoulli_is_one_where_the_noise_is_below_the_probability() -> None:
    logit, noise = torch.tensor([0.0, 0.0, 30.0, -30.0]), torch.tensor([0.49, 0.5, 0.999, 0.001])
    assert masks.bernoulli(logit, noise).tolist() == [1, 0, 1, 0]


@given(SEEDS)
def test_bernoulli_gradient_is_that_of_the_probability(seed: int) -> None:
    """Of b + p - stopgrad(p): the draw is the value, sigmoid's derivative the gradient. d/ds = g * w * p * (1 - p)."""
    w, g = torch.randn(2, 6, 5, generator=drawn(seed), dtype=torch.float64)
    logit = torch.randn(6, 5, generator=drawn(seed + 1), dtype=torch.float64).requires_grad_()
    noise = torch.rand(6, 5, generator=drawn(seed + 2), dtype=torch.float64)
    m = masks.bernoulli(logit, noise)
    (w * m).backward(g)
    p = logit.detach().sigmoid()
    assert torch.equal(m, (noise < p).double())
    torch.testing.assert_close(logit.grad, g * w * p * (1 - p), rtol=1e-12, atol=1e-12)


def test_bernoulli_draws_from_the_global_generator_at_the_right_rate() -> None:
    torch.manual_seed(3)
    logit = torch.full((100_000,), -1.0)
    first = masks.bernoulli(logit)
    assert not torch.equal(first, masks.bernoulli(logit))
    assert first.mean().item() == pytest.approx(torch.tensor(-1.0).sigmoid().item(), abs=0.005)
    torch.manual_seed(3)
    assert torch.equal(first, masks.bernoulli(logit))
