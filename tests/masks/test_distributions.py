"""How many weights each layer keeps: the exact counts of arXiv 1911.11134 and 1707.04780 on known nets, sums, caps."""

from fractions import Fraction
from math import prod

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from maskbench.common.errors import UsageError
from maskbench.masks import kept_count
from maskbench.masks.distributions import divided, layer_counts, share_out

LENET = {"hidden.0.weight": (300, 784), "hidden.1.weight": (100, 300), "head.weight": (10, 100)}
LENET5 = {"a": (6, 1, 5, 5), "b": (16, 6, 5, 5), "c": (120, 400), "d": (84, 120), "e": (10, 84)}
CONV2 = {"a": (64, 1, 3, 3), "b": (64, 64, 3, 3), "c": (256, 12544), "d": (256, 256), "e": (10, 256)}
KEEPS = [0.2, 0.1, 0.05, 0.02, 0.01, 0.005]
KEPT = [53_240, 26_620, 13_310, 5_324, 2_662, 1_331]
UNIFORM = [[47_040, 6_000, 200], [23_520, 3_000, 100], [11_760, 1_500, 50], [4_704, 600, 20], [2_352, 300, 10], [1_176, 150, 5]]
ERK = [
    [38_159, 14_081, 1_000],
    [18_714, 6_906, 1_000],
    [9_051, 3_340, 919],
    [3_621, 1_336, 367],
    [1_810, 668, 184],
    [905, 334, 92],
]
NAMES = ["uniform", "er", "erk"]


def counted(shapes: dict, keep: float, distribution: str) -> list[int]:
    return list(layer_counts(shapes, keep, distribution).values())


@pytest.mark.parametrize(("number", "keep"), list(enumerate(KEEPS)))
def test_counts_on_lenet_300_100(number: int, keep: float) -> None:
    assert kept_count(keep, 266_200) == KEPT[number]
    assert counted(LENET, keep, "uniform") == UNIFORM[number]
    assert counted(LENET, keep, "erk") == ERK[number]
    assert counted(LENET, keep, "er") == ERK[number]  # the same for matrices; the head is capped at .2 and .1


def test_erk_on_convolutions() -> None:
    assert counted(LENET5, 0.1, "erk") == [121, 227, 3_687, 1_446, 666]
    assert counted(CONV2, 0.1, "erk") == [576, 3_274, 312_760, 12_510, 2_560]  # first and last are whole


@given(
    st.lists(st.lists(st.integers(1, 12), min_size=2, max_size=4).map(tuple), min_size=1, max_size=6),
    st.floats(1e-4, 1),
    st.sampled_from(NAMES),
)
def test_counts_add_up_and_no_layer_is_overfull(shapes: list, keep: float, distribution: str) -> None:
    named = {str(number): shape for number, shape in enumerate(shapes)}
    counts = layer_counts(named, keep, distribution)
    assert sum(counts.values()) == kept_count(keep, sum(map(prod, shapes)))
    assert all(0 <= counts[name] <= prod(named[name]) for name in named)


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=6),
    st.data(),
)
def test_free_layers_share_in_proportion_and_the_capped_would_get_more(layers: list, data: st.DataObject) -> None:
    sizes = {str(number): size for number, (size, _) in enumerate(layers)}
    raw = {str(number): Fraction(part) for number, (_, part) in enumerate(layers)}
    total = data.draw(st.integers(1, sum(sizes.values())))
    counts = divided(total, sizes, raw)
    free = [name for name in sizes if counts[name] < sizes[name]]
    assume(free)
    eps = Fraction(sum(counts[name] for name in free)) / sum(raw[name] for name in free)
    assert all(abs(counts[name] - eps * raw[name]) <= len(free) for name in free)
    assert all(eps * raw[name] > sizes[name] - len(sizes) for name in sizes if name not in free)


def test_a_net_that_keeps_all_is_whole_under_any_distribution() -> None:
    for distribution in (*NAMES, "smart", "smart_vgg"):
        assert layer_counts(LENET, 1.0, distribution) == {name: prod(shape) for name, shape in LENET.items()}
    with pytest.raises(ValueError, match="cannot keep 266201 of 266200"):
        share_out(LENET, 266_201, "erk")


def test_the_smart_ratio_thins_out_convolutions_with_depth() -> None:
    shapes = {"a": (10, 10, 2, 5), "b": (10, 10, 2, 5), "c": (10, 10, 2, 5), "head": (10, 100)}
    counts = layer_counts(shapes, 0.1, "smart")
    assert counts["head"] == 300 and sum(counts.values()) == 400
    assert counted(shapes, 0.2, "smart") == [263, 158, 79, 300]  # 20 : 12 : 6 of 500, the largest fractions up
    assert counted(shapes, 0.2, "smart_vgg") == [423, 63, 14, 300]  # 20 : 3 : 2/3
    assert counted(shapes, 0.6, "smart")[:3] == [1000, 733, 367]  # the first is whole, 12 : 6 of the rest


def test_a_smart_ratio_that_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match=r"0.3 of each matrix .* in this net is 0.3 to 0.3 of all weights, not 0.1: keep a"):
        layer_counts(LENET, 0.1, "smart")
