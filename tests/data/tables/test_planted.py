"""Circle, ReLU and helix: what they are, where there is noise, and that the hidden tickets solve them."""

from collections.abc import Callable

import pytest
import torch

from maskbench.backbones import tickets
from maskbench.data.stage import Stage
from maskbench.data.tables import planted

SIZES = {"train": 3000, "val": 200, "test": 500}


def stage(problem: Callable, noise: float = 0.1, seed: int = 0, **sizes: int) -> Stage:
    (only,) = problem(**SIZES | sizes, noise=noise, root=None, seed=seed)
    return only


@pytest.mark.parametrize(("problem", "inputs", "outputs"), [(planted.circle, 2, 4), (planted.relu, 1, 1), (planted.helix, 1, 3)])
def test_splits_have_their_sizes_and_inputs_are_uniform(problem: Callable, inputs: int, outputs: int) -> None:
    made = stage(problem)
    assert [len(part) for part in (made.train, made.val, made.test)] == [3000, 200, 500]
    assert made.shape == (inputs,) and made.outputs == outputs and made.units is None and made.holds_out
    x, y = made.train.tensors()
    assert -1 <= x.min() < -0.99 and 0.99 < x.max() <= 1 and abs(x.mean()) < 0.05
    assert y.shape == ((3000,) if outputs == 4 else (3000, outputs)) and made.regression == (outputs != 4)
    assert not torch.equal(x[:200], made.val.tensors()[0])


def test_the_seed_decides_and_a_longer_split_leaves_the_others_alone() -> None:
    made, again, other = stage(planted.helix), stage(planted.helix), stage(planted.helix, seed=1)
    assert made.fingerprint == again.fingerprint != other.fingerprint
    assert made.origin.checksums == again.origin.checksums
    longer = stage(planted.helix, train=4000)
    assert torch.equal(longer.test.tensors()[1], made.test.tensors()[1])


def test_rings_and_the_ring_that_comes_second() -> None:
    radius = torch.tensor([0.0, 0.19, 0.21, 0.39, 0.41, 0.49, 0.55, 0.69, 0.71, 2.0])
    assert planted.ring(radius).tolist() == [0, 0, 1, 1, 1, 1, 2, 2, 3, 3]
    assert planted.ring(torch.tensor(planted.BOUNDS)).tolist() == [0, 1, 2], "a bound belongs to what it bounds"
    assert planted.second(radius).tolist() == [1, 1, 0, 0, 2, 2, 1, 3, 2, 2]


def test_noise_moves_that_share_of_labels_to_the_second_ring_and_none_of_the_test() -> None:
    made = stage(planted.circle, noise=0.1)
    for part, share in ((made.train, 0.1), (made.test, 0.0)):
        x, y = part.tensors()
        radius = x.square().sum(1)
        moved = y != planted.ring(radius)
        assert moved.double().mean().item() == pytest.approx(share, abs=0.02 if share else 0)
        assert torch.equal(y[moved], planted.second(radius)[moved])


@pytest.mark.parametrize("problem", [planted.relu, planted.helix])
def test_noise_has_its_deviation_and_the_test_has_none(problem: Callable) -> None:
    made, clean = stage(problem, noise=0.1), stage(problem, noise=0.0)
    rest = made.train.tensors()[1] - clean.train.tensors()[1]
    assert rest.std().item() == pytest.approx(0.1, rel=0.05)
    assert torch.equal(made.test.tensors()[1], clean.test.tensors()[1])


def test_the_tickets_solve_the_problems() -> None:
    x, y = stage(planted.circle).test.tensors()
    assert (tickets.run(tickets.circle(3, 40), x).argmax(1) == y).double().mean() > 0.99
    x, y = stage(planted.relu).test.tensors()
    assert torch.equal(tickets.run(tickets.relu(3), x).float(), y)
    x, y = stage(planted.helix).test.tensors()
    torch.testing.assert_close(tickets.spiral(x[:, 0].double()).float(), y, rtol=0, atol=1e-5)
    assert (tickets.run(tickets.helix(3, 30), x) - y).square().mean().sqrt() < 0.02
    assert tickets.BOUNDS == planted.BOUNDS


def test_points_and_numbers_are_rows() -> None:
    assert stage(planted.circle).amount == stage(planted.helix).amount == "3,000 training rows"
