"""How far the similarities of inputs moved: by hand, at both ends, and over a net that is given."""

from collections.abc import Callable
from functools import partial

import pytest
import torch

from maskbench.tasks import similarity

ANGLES = torch.tensor([0.0, 10.0, 40.0, 90.0, 170.0]).deg2rad()
VECTORS = torch.stack([ANGLES.cos(), ANGLES.sin()], 1)  # by angle: the nearer two are, the more alike
Y = torch.tensor([0, 0, 1, 1, 2])


def test_vectors_of_another_length_are_as_alike_as_before() -> None:
    told = similarity.moved(VECTORS, VECTORS * torch.tensor([1.0, 3, 0.5, 7, 2])[:, None], Y)
    assert told["spearman"] == pytest.approx(1) and told["cosine"] == pytest.approx(1) and told["nearest"] == 1
    assert told["cosine_change"] == pytest.approx(0, abs=1e-7)
    assert told["nearest_of_class"] == told["nearest_of_class_came"] == 3 / 5  # of 0, 10 and 90 degrees


def test_the_order_of_pairs_counts() -> None:
    """Cosines of three vectors, in the order of pairs: before .98 .77 .87, after .77 .98 .87, whose ranks are 3 1 2 and 1 3 2."""
    came, now = VECTORS[[0, 1, 2]], VECTORS[[0, 2, 1]]
    told = similarity.moved(came, now, torch.tensor([0, 1, 0]))
    cos = [torch.cos(torch.tensor(angle).deg2rad()).item() for angle in (10.0, 40.0, 30.0)]
    assert told["spearman"] == pytest.approx(1 - 6 * (4 + 4 + 0) / (3 * 8))
    assert told["cosine_change"] == pytest.approx((2 * abs(cos[0] - cos[1])) / 3)
    assert told["cosine"] == pytest.approx((1 + 2 * cos[2]) / 3)
    assert told["nearest"] == pytest.approx(0) and told["nearest_of_class_came"] == 0 and told["nearest_of_class"] == 2 / 3


def test_vectors_that_are_all_alike_have_no_order() -> None:
    told = similarity.moved(VECTORS, torch.ones(5, 2), Y)
    assert told["spearman"] is None and told["nearest_of_class_came"] == 3 / 5


@pytest.fixture
def cut(cut_given: Callable) -> Callable:
    return partial(cut_given, "task=similarity", "method.dense=[head]", head=False, vectors=True)


def test_the_less_is_kept_the_further_similarities_move(cut: Callable) -> None:
    told = [cut(f"method.keep={keep}", folder=str(keep)).metrics for keep in (1, 0.8, 0.1)]
    assert told[0]["spearman"] == pytest.approx(1) and told[0]["cosine_change"] == 0 and told[0]["nearest"] == 1
    assert told[0]["spearman"] > told[1]["spearman"] > told[2]["spearman"]
    assert told[0]["cosine_change"] < told[1]["cosine_change"] < told[2]["cosine_change"]
    assert not any("accuracy" in name for name in told[0])


def test_a_run_trains_nothing_and_is_ranked_by_spearman(cut: Callable) -> None:
    bench = cut("method.keep=0.5", "method.criterion=wanda")
    assert bench.fit.steps == 0 and bench.outcome.objective == "spearman" and bench.metrics["samples"] == 12
    same = round(bench.metrics["nearest"] * 12)
    assert bench.outcome.notes == [f"Of 12 inputs {same} have the nearest other one that they had for the net as it came."]
