"""Generated pairs: the functions are the specification's, streams are apart, smaller targets are parts of larger ones."""

import math

import pytest
import torch

from maskbench.data.tables import friedman, ode

FRIEDMAN = {"distance": 2.0, "n_source": 200, "n_target": 30, "val": 10, "test": 40, "noise": 1.0, "root": "nowhere", "seed": 0}
PENDULUM = {
    "source_damping": 0.0, "target_damping": 0.2, "gravity": 1.0, "n_source": 200, "n_target": 20, "val": 10, "test": 40,
    "noise": 0.02, "standardize": False, "root": "nowhere", "seed": 0,
}  # fmt: skip


def pair(**changes):
    return friedman.friedman1_transfer(**FRIEDMAN | changes)


def swing(**changes):
    return ode.pendulum(**PENDULUM | changes)


def units(stage, y: torch.Tensor) -> torch.Tensor:
    mean, deviation = stage.units
    return y * deviation + mean


def test_friedmans_function_by_hand() -> None:
    x = torch.tensor([[0.1, 0.5, 0.9, 0.2, 0.7, *[0.3] * 5]], dtype=torch.float64)
    ones = torch.ones(5, dtype=torch.float64)
    plain = 10 * math.sin(math.pi * 0.05) + 20 * 0.4**2 + 10 * 0.2 + 5 * 0.7
    assert friedman.friedman1(x, ones[:4], ones, 0 * ones).item() == pytest.approx(plain)
    a, b, c = torch.tensor([2.0, 3.0, 4.0, 5.0]), 1.1 * ones, 0.1 * ones
    z = 1.1 * x[0] + 0.1
    other = 20 * math.sin(math.pi * z[0] * z[1]) + 60 * (z[2] - 0.5) ** 2 + 40 * z[3] + 25 * z[4]
    assert friedman.friedman1(x, a.double(), b, c).item() == pytest.approx(other.item())


def test_coefficients_have_the_deviations_of_their_distance() -> None:
    drawn = [torch.cat(friedman.coefficients(2.0, seed)) for seed in range(400)]
    mean, deviation = torch.stack(drawn).mean(0), torch.stack(drawn).std(0)
    wanted = torch.tensor([0.2] * 9 + [0.1] * 5, dtype=torch.float64)
    assert torch.allclose(deviation, wanted, rtol=0.15)
    assert torch.allclose(mean, torch.tensor([1.0] * 9 + [0.0] * 5, dtype=torch.float64), atol=0.05)
    assert torch.cat(friedman.coefficients(0.0, 3)).tolist() == [1.0] * 9 + [0.0] * 5


def test_the_test_split_is_the_truth_and_training_is_noisy() -> None:
    source, target = pair(n_source=5000)
    ones = torch.ones(5, dtype=torch.float64)
    for stage, coefficients in ((source, friedman.coefficients(2.0, 0)), (target, (ones[:4], ones, 0 * ones))):
        x, y = stage.test.tensors()
        assert torch.allclose(units(stage, y).double(), friedman.friedman1(x.double(), *coefficients), atol=1e-4)
    x, y = source.train.tensors()
    noise = units(source, y).double() - friedman.friedman1(x.double(), *friedman.coefficients(2.0, 0))
    assert noise.std().item() == pytest.approx(1.0, abs=0.05) and noise.mean().item() == pytest.approx(0, abs=0.05)


def test_targets_are_standardised_by_the_source() -> None:
    source, target = pair(n_source=5000)
    assert source.train.y.mean().item() == pytest.approx(0, abs=1e-5)
    assert source.train.y.std().item() == pytest.approx(1, abs=1e-4)
    assert all(torch.equal(a, b) for a, b in zip(source.units, target.units, strict=True))
    assert abs(target.test.y.mean().item()) > 1e-3


@pytest.mark.parametrize("make", [pair, swing])
def test_smaller_targets_are_parts_of_larger_ones_and_nothing_else_changes(make) -> None:
    (a, few), (b, many) = make(n_target=5), make(n_target=20)
    assert torch.equal(few.train.x, many.train.x[:5]) and torch.equal(few.train.y, many.train.y[:5])
    assert torch.equal(few.test.y, many.test.y) and torch.equal(few.val.y, many.val.y)
    assert a.fingerprint == b.fingerprint and few.fingerprint != many.fingerprint


@pytest.mark.parametrize("make", [pair, swing])
def test_the_seed_draws_samples(make) -> None:
    assert torch.equal(make()[1].train.x, make()[1].train.x)
    for index in (0, 1):
        assert not torch.equal(make()[index].train.x, make(seed=1)[index].train.x)
    stages = make()
    assert not torch.equal(stages[0].train.x[:20], stages[1].train.x[:20])


def test_the_distance_leaves_the_samples_alone() -> None:
    near, far = pair(distance=0.5), pair(distance=4.0)
    for index in (0, 1):
        assert torch.equal(near[index].train.x, far[index].train.x)
    assert near[0].fingerprint != far[0].fingerprint
    ones = torch.ones(5, dtype=torch.float64)
    x, y = pair(distance=0)[0].test.tensors()
    assert torch.allclose(
        units(pair(distance=0)[0], y).double(), friedman.friedman1(x.double(), ones[:4], ones, 0 * ones), atol=1e-4
    )


def test_both_stages_ask_for_the_same() -> None:
    source, target = pair()
    assert source.label_space == target.label_space and source.regression and (source.outputs, source.shape) == (1, (10,))
    assert swing()[0].outputs == 2 and swing()[0].label_space != source.label_space


# ---- the pendulum


def test_the_pendulums_field() -> None:
    for stage, damping in zip(swing(), (0.0, 0.2), strict=True):
        x, y = stage.test.tensors()
        wanted = torch.stack([x[:, 1], -torch.sin(x[:, 0]) - damping * x[:, 1]], 1)
        assert torch.allclose(y, wanted, atol=1e-5)
        assert x[:, 0].abs().max() <= math.pi and x[:, 1].abs().max() <= 3


def test_runge_kutta_is_of_fourth_order() -> None:
    """A harmonic oscillator has a closed form; half the step leaves a sixteenth of the error."""

    def field(s: torch.Tensor) -> torch.Tensor:
        return torch.stack([s[:, 1], -s[:, 0]], 1)

    begin, errors = torch.tensor([[1.0, 0.0]], dtype=torch.float64), []
    for steps in (20, 40):
        end = ode.runge_kutta(field, begin, 2 / steps, steps)[-1, 0]
        errors.append((end - torch.tensor([math.cos(2), -math.sin(2)], dtype=torch.float64)).abs().max().item())
    assert errors[0] / errors[1] == pytest.approx(16, rel=0.15)


def test_energy_is_kept_without_damping_and_lost_with_it() -> None:
    begin = torch.tensor([[1.0, 0.5], [-2.0, 1.0]], dtype=torch.float64)
    for damping, kept in ((0.0, True), (0.2, False)):
        path = ode.runge_kutta(lambda s, d=damping: ode.pendulum_field(s, d, 1.0), begin)
        energy = ode.pendulum_energy(path, 1.0)
        assert path.shape == (201, 2, 2)
        assert ((energy[-1] - energy[0]).abs().max() < 1e-6) == kept
        assert kept or (energy[-1] < energy[0]).all()


def test_measures_are_zero_for_the_truth_and_not_for_another_field() -> None:
    source, target = swing()

    def truth(x: torch.Tensor) -> torch.Tensor:
        return ode.pendulum_field(x.double(), 0.2, 1.0)

    assert all(measure(truth) < 1e-6 for measure in target.measures.values()), "states pass through float32"
    assert all(measure(truth) > 0.01 for measure in source.measures.values())


def test_a_whole_turn_is_no_error() -> None:
    state = torch.tensor([[2 * math.pi + 0.1, 1.0], [-math.pi - 0.1, 0.0]])
    assert torch.allclose(ode.turn(state), torch.tensor([[0.1, 1.0], [math.pi - 0.1, 0.0]]), atol=1e-5)
