"""The certificate lies above whatever is attained, ascent above its starts, and everything inside the ball."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskbench.methods.theory import certify
from maskbench.methods.theory.certify import Map

SHAPES = st.lists(st.integers(1, 6), min_size=2, max_size=4)


def nets(seed: int, shape: list[int], error: float, first: bool) -> tuple[list[torch.Tensor], list[Map]]:
    """A target and a stand-in whose sides are off by up to `error`; the first layer has one side or two."""
    source = torch.Generator().manual_seed(seed)

    def rand(*size: int) -> torch.Tensor:
        return torch.randn(*size, dtype=torch.float64, generator=source)

    target, maps = [], []
    for layer, (d_in, d_out) in enumerate(zip(shape, shape[1:], strict=False)):
        w = rand(d_out, d_in)
        two = first and layer == 0
        target.append(w)
        maps.append(Map(w + error * rand(d_out, d_in), -w + error * rand(d_out, d_in) if two else None))
    return target, maps


@given(st.integers(0, 10**6), SHAPES, st.floats(0, 2), st.booleans())
def test_t4_attained_is_below_the_certificate(seed: int, shape: list[int], error: float, both: bool) -> None:
    target, maps = nets(seed, shape, error, both)
    straight = [certify.linear(w) for w in target]
    points = certify.sphere(50, shape[0], not both, torch.Generator().manual_seed(seed))

    def difference(x: torch.Tensor) -> torch.Tensor:
        return certify.run(maps, x) - certify.run(straight, x)

    start = difference(points).norm(dim=1)
    met = difference(certify.ascend(difference, points, 20, not both)).norm(dim=1)
    assert (met >= start - 1e-12).all()
    assert met.max() <= certify.certificate(target, maps) + 1e-12


def test_the_certificate_of_one_layer_is_the_norm_of_both_sides() -> None:
    """Section 2: exact, since (relu x, relu -x) is as long as x; attained where the worst direction has those signs."""
    w = torch.tensor([[1.0, 0.5]], dtype=torch.float64)
    stand_in = Map(w + torch.tensor([[0.3, 0.0]]), -w + torch.tensor([[0.0, 0.4]]))
    assert certify.layer_error(w, stand_in) == pytest.approx(0.5)
    assert certify.certificate([w], [stand_in]) == pytest.approx(0.5)
    x = torch.tensor([[0.6, -0.8]], dtype=torch.float64)
    assert (certify.run([stand_in], x) - x @ w.T).norm().item() == pytest.approx(0.5)


def test_the_recursion_by_hand() -> None:
    """Norms 2 and 3, errors .1 and .2: delta = .1 (3 + .2) + .2 * 2."""
    one = torch.ones(1, 1, dtype=torch.float64)
    maps = [Map(2.1 * one, None), Map(3.2 * one, None)]
    assert certify.certificate([2 * one, 3 * one], maps) == pytest.approx(0.1 * 3.2 + 0.2 * 2)
    x = torch.ones(1, 1, dtype=torch.float64)
    assert certify.run(maps, x).item() - 6 == pytest.approx(0.72), "and here it is attained"


@given(st.floats(1e-3, 3), st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=4))
def test_tolerances_suffice(eps: float, shapes: list[tuple[int, int]]) -> None:
    """With every weight off by just its tolerance the certificate's recursion stays within eps."""
    both = [True] + [False] * (len(shapes) - 1)
    delta = 0.0
    for e, (d_out, d_in), two in zip(certify.tolerances(eps, shapes, both), shapes, both, strict=True):
        error = certify.norm(torch.full((d_out, d_in * (1 + two)), e, dtype=torch.float64))
        delta = delta * (1 + error) + error
    assert delta <= eps * (1 + 1e-9)


@given(st.integers(0, 10**6), st.booleans())
def test_points_stay_in_the_domain(seed: int, nonnegative: bool) -> None:
    source = torch.Generator().manual_seed(seed)
    x = certify.project(3 * torch.randn(20, 4, dtype=torch.float64, generator=source), nonnegative)
    points = certify.sphere(20, 4, nonnegative, source)
    for some in (x, points):
        assert (some.norm(dim=1) <= 1 + 1e-12).all() and (not nonnegative or (some >= 0).all())
    assert torch.allclose(points.norm(dim=1), torch.ones(20, dtype=torch.float64))


def test_highest_finds_the_largest() -> None:
    x = torch.arange(3000, dtype=torch.float64)[:, None]
    assert sorted(certify.highest(lambda part: part, x, 2).flatten().tolist()) == [2998, 2999]
