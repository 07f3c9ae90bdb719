"""Masks: where they stand, the straight-through gradient, counts of pruning, and one bit a weight in files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from torch import nn

from maskbench import masks
from maskbench.common.errors import UsageError
from maskbench.masks import criteria

SHAPES = st.lists(st.integers(0, 9), max_size=3).map(tuple)
SEEDS = st.integers(0, 2**31)
SHARES = st.floats(0, 1, exclude_max=True)


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bits(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.rand(shape, generator=drawn(seed)) < 0.5


# ---- where


def test_sites_are_linear_and_conv_weights_in_forward_order() -> None:
    hidden = [nn.Flatten(), nn.Linear(8, 4), nn.LayerNorm(4)]
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), *hidden, nn.Linear(4, 2))
    assert masks.sites(net) == ["0.weight", "3.weight", "5.weight"]
    assert masks.sites(net, skip=["3"]) == ["0.weight", "5.weight"]
    with pytest.raises(UsageError, match="no layer of Sequential is called 'haed'. Layers: 0, 3, 5"):
        masks.sites(net, skip=["haed"])


# ---- drawn


@pytest.mark.parametrize("tau", [0.0, 5e-3])
def test_threshold_computes_w_times_m_and_equality_counts_as_kept(tau: float) -> None:
    w = torch.tensor([1.5, -2.0, 3.0])
    score = torch.tensor([tau, tau - 1e-6, tau + 1e-6])
    assert torch.equal(masks.threshold(w, score, tau), torch.tensor([1.5, 0.0, 3.0]))


@given(SEEDS, st.floats(-1, 1))
def test_threshold_gradients_are_those_of_the_formula(seed: int, tau: float) -> None:
    """d/dscore = w * g and d/dw = m * g, with g the gradient to w * m; against float64 arithmetic, exactly."""
    w = torch.randn(5, 7, generator=drawn(seed), dtype=torch.float64).requires_grad_()
    score = torch.randn(5, 7, generator=drawn(seed + 1), dtype=torch.float64).requires_grad_()
    x = torch.randn(3, 7, generator=drawn(seed + 2), dtype=torch.float64)
    kept = masks.threshold(w, score, tau)
    kept.retain_grad()
    (x @ kept.T).tanh().square().sum().backward()

    m = (score >= tau).double()
    y = x @ (w * m).T
    g = (2 * y.tanh() * (1 - y.tanh() ** 2)).T @ x  # the closed form of d loss / d (w * m)
    assert torch.equal(kept, w * m)
    torch.testing.assert_close(kept.grad, g.detach(), rtol=1e-12, atol=1e-12)
    assert torch.equal(score.grad, w.detach() * kept.grad)
    assert torch.equal(w.grad, m * kept.grad)


def test_a_weight_that_does_not_move_gets_no_gradient() -> None:
    w, score = torch.randn(4), torch.randn(4, requires_grad=True)
    masks.threshold(w, score).sum().backward()
    assert w.grad is None
    assert torch.equal(score.grad, w)


# ---- pruned


@given(SEEDS, st.integers(1, 60), SHARES)
def test_prune_drops_the_rounded_share_of_what_is_alive(seed: int, n: int, share: float) -> None:
    w = torch.randn(n, generator=drawn(seed), dtype=torch.float64)  # distinct magnitudes
    alive = bits((n,), seed + 1)
    after = masks.prune(w, alive, share)
    assert not (after & ~alive).any(), "nested: what is dead stays dead"
    k = round(share * int(alive.sum()))
    assert int(alive.sum()) - int(after.sum()) == k
    gone, left = w[alive & ~after].abs(), w[after].abs()
    assert not len(gone) or not len(left) or gone.max() < left.min()


@given(SEEDS, SHARES)
def test_all_ties_at_the_cutoff_go(seed: int, share: float) -> None:
    w = torch.randint(-3, 4, (40,), generator=drawn(seed)).float()  # magnitudes 0 to 3, many of each
    alive = bits((40,), seed + 1)
    after = masks.prune(w, alive, share)
    k = round(share * int(alive.sum()))
    cutoff = w[alive].abs().sort().values[k - 1] if k else -1
    assert torch.equal(after, alive & (w.abs() > cutoff))
    assert int((alive & ~after).sum()) >= k


def test_prune_again_and_again_is_nested_and_exact() -> None:
    w, alive, left = torch.randn(30, 40, generator=drawn(0)), torch.ones(30, 40, dtype=torch.bool), 1200
    for _ in range(12):
        after = masks.prune(w, alive, 0.2)
        left -= round(0.2 * left)
        assert int(after.sum()) == left
        assert not (after & ~alive).any()
        alive = after


def test_prune_leaves_its_arguments_alone() -> None:
    w, alive = torch.randn(9), torch.ones(9, dtype=torch.bool)
    same = masks.prune(w, alive, 0.0)
    assert torch.equal(same, alive) and same is not alive
    masks.prune(w, alive, 0.5)
    assert alive.all()


@pytest.mark.parametrize("share", [1.0, -0.1, 2.0])
def test_share_is_the_part_that_goes(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        masks.prune(torch.randn(3), torch.ones(3, dtype=torch.bool), share)


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=50), st.data())
def test_smallest_is_what_a_sort_finds(values: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(values)))
    found = masks.smallest(torch.tensor(values), k)
    assert found.ndim == 0
    assert float(found) == sorted(np.float32(values).tolist())[k - 1]


def test_smallest_leaves_its_argument_alone() -> None:
    values = torch.tensor([[3.0, 1.0], [2.0, 0.0]])
    assert float(masks.smallest(values, 2)) == 1.0
    assert values.tolist() == [[3.0, 1.0], [2.0, 0.0]]


@pytest.mark.parametrize("place", [0, 1, 700, 50_000, 99_998, 99_999])
@pytest.mark.parametrize("kind", ["drawn", "equal", "ascending", "misleading", "two", "endless"])
def test_the_smallest_of_many_is_what_a_sort_finds(kind, place):
    """Many values are thinned out by a sample; `misleading` ones have another order wherever the sample looks."""
    n = 100_000
    values = torch.randn(n, generator=torch.Generator().manual_seed(0))
    match kind:
        case "equal":
            values = torch.ones(n)
        case "ascending":
            values = torch.arange(n, dtype=torch.float32)
        case "misleading":
            values[:: n // 1024] = 1e9
        case "two":
            values = (values > 0).float()
        case "endless":
            values[: n // 2] = -torch.inf
    assert float(masks.smallest(values, place + 1)) == float(values.sort().values[place])


@pytest.mark.parametrize("living", [0.02, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_the_best_of_many_are_those_of_a_sort_whatever_share_is_alive(living, share):
    draw = torch.Generator().manual_seed(1)
    score, alive = torch.randn(300, 400, generator=draw), torch.rand(300, 400, generator=draw) < living
    keep = int(share * int(alive.sum()))
    order = score.masked_fill(~alive, -torch.inf).flatten().argsort(descending=True)[:keep]
    expected = torch.zeros(score.numel(), dtype=torch.bool).index_fill_(0, order, True).view_as(score)
    assert torch.equal(masks.keep_best(score, alive, keep), expected)
    score[~alive] = torch.nan  # what is dead is not ranked
    assert torch.equal(masks.keep_best(score, alive, keep), expected)


def test_density_counts_over_all_masks_together() -> None:
    assert masks.density([torch.ones(3, dtype=torch.bool), torch.zeros(9, dtype=torch.bool)]) == 0.25


# ---- stored


@given(SHAPES, SEEDS)
def test_packing_is_one_bit_a_weight_and_loses_nothing(shape: tuple[int, ...], seed: int) -> None:
    mask = bits(shape, seed)
    packed = masks.pack(mask)
    assert packed.dtype == torch.uint8 and packed.shape == (-(-mask.numel() // 8),)
    assert torch.equal(masks.unpack(packed, shape), mask)
    padding = np.unpackbits(packed.numpy(), bitorder="little")[mask.numel() :]
    assert not padding.any()


@given(SHAPES, st.integers(0, 5), SEEDS)
def test_several_masks_unpack_at_once(shape: tuple[int, ...], count: int, seed: int) -> None:
    drawn = bits((count, *shape), seed)
    size = -(-int(np.prod(shape)) // 8)
    rows = torch.stack([masks.pack(m) for m in drawn]) if count else torch.zeros(0, size, dtype=torch.uint8)
    assert torch.equal(masks.unpack(rows, shape), drawn)


def test_the_first_weight_is_the_lowest_bit() -> None:
    assert masks.pack(torch.tensor([1, 0, 0, 0, 0, 0, 0, 0, 0, 1]).bool()).tolist() == [1, 2]


@given(st.lists(SHAPES, max_size=4), SEEDS)
def test_files_read_back_with_their_shapes(tmp_path_factory, shapes: list[tuple[int, ...]], seed: int) -> None:
    path = tmp_path_factory.getbasetemp() / "masks.safetensors"
    before = {f"{i}/hidden.{i}.weight": bits(shape, seed + i) for i, shape in enumerate(shapes)}
    masks.save(path, before)
    after = masks.load(path)
    assert after.keys() == before.keys()
    assert all(after[name].dtype == torch.bool and torch.equal(after[name], m) for name, m in before.items())


def test_equal_masks_make_equal_files(tmp_path: Path) -> None:
    drawn = {f"{i}/w": bits((3, i), i) for i in range(5)}
    for i in range(20):
        masks.save(tmp_path / str(i), drawn)
    assert len({(tmp_path / str(i)).read_bytes() for i in range(20)}) == 1


def test_a_mask_file_is_plain_safetensors(tmp_path: Path) -> None:
    masks.save(tmp_path / "m", {"0/w": bits((300, 784), 0)})
    with safe_open(tmp_path / "m", "pt") as file:
        assert file.get_tensor("0/w").shape == (29_400,)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_pruning_ranks_every_type_of_float(dtype: torch.dtype) -> None:
    w, alive = torch.tensor([0.1, -3.0, 0.2, 2.0], dtype=dtype), torch.ones(4).bool()
    assert masks.prune(w, alive, 0.5).tolist() == masks.keep_best(w.abs(), alive, 2).tolist() == [False, True, False, True]


def test_scores_that_are_nan_are_refused_unless_they_are_dead() -> None:
    w, alive = torch.tensor([0.1, torch.nan, 0.2, 2.0]), torch.tensor([True, True, True, True])
    for prune in (lambda m: masks.prune(w, m, 0.5), lambda m: masks.keep_best(w, m, 1)):
        with pytest.raises(FloatingPointError, match="NaN.*optimizer.lr"):
            prune(alive)
        assert prune(alive & ~w.isnan()).any()


TRAINED = [f for name, f in vars(criteria).items() if getattr(f, "__module__", "") == criteria.__name__ and "final" in name]
TRAINED += [criteria.movement, criteria.magnitude_increase]
TRAINED += [criteria.magnitude_increase_same_sign, criteria.magnitude_increase_diff_sign]


@pytest.mark.parametrize("criterion", TRAINED, ids=lambda f: f.__name__)
def test_every_criterion_of_trained_weights_passes_nan_on(criterion: Callable) -> None:
    init, alive = torch.tensor([0.3, -0.2, 0.1, 0.5]), torch.ones(4).bool()
    final = torch.tensor([0.1, torch.nan, 0.2, -2.0])
    with pytest.raises(FloatingPointError, match="NaN.*optimizer.lr"):
        masks.keep_best(criterion(criteria.Weights(init, final, alive, 2, lambda: init)), alive, 2)
    sound = criterion(criteria.Weights(init, final.nan_to_num(0.7), alive, 2, lambda: init))
    assert masks.keep_best(sound, alive, 2).sum() == 2
