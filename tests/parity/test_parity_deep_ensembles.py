"""Deep ensembles against the paper's section 2, written out in numpy float64: likelihood, adversary, mixture, starts."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from maskbench.backbones import initial
from maskbench.data import gaussian
from maskbench.methods.uncertainty.deep_ensembles import DeepEnsembles


def net() -> nn.Module:
    made = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
    initial.initialise(made, "torch")
    return made


def nll(outputs: np.ndarray, y: np.ndarray) -> float:
    mean, raw = outputs[:, :1], outputs[:, 1:]
    variance = np.log1p(np.exp(raw)) + 1e-6
    return float(np.mean(0.5 * np.log(variance) + (y - mean) ** 2 / (2 * variance)))


def test_likelihood_of_a_stated_variance() -> None:
    rng = np.random.default_rng(0)
    outputs, y = rng.normal(size=(9, 2)), rng.normal(size=(9, 1))
    assert gaussian.loss(torch.from_numpy(outputs), torch.from_numpy(y)).item() == pytest.approx(nll(outputs, y), rel=1e-12)


def test_adversarial_loss_is_the_sum_over_inputs_and_moved_inputs() -> None:
    torch.manual_seed(0)
    method = DeepEnsembles(net().double(), members=1, together=False, adversarial="sign", reach=0.01)
    method.step = 0.01 * torch.tensor([1.0, 2.0, 4.0, 8.0], dtype=torch.float64)
    x, y = torch.randn(7, 4, dtype=torch.float64), torch.randn(7, 1, dtype=torch.float64)
    w = [p.detach().numpy() for p in method.net.parameters()]

    def outputs(x: np.ndarray) -> np.ndarray:
        return np.tanh(x @ w[0].T + w[1]) @ w[2].T + w[3]

    points, small = x.numpy(), 1e-6
    slope = np.zeros_like(points)
    for place in np.ndindex(*points.shape):  # the adversary's gradient by central differences
        move = np.zeros_like(points)
        move[place] = small
        slope[place] = (nll(outputs(points + move), y.numpy()) - nll(outputs(points - move), y.numpy())) / (2 * small)
    moved = points + method.step.numpy() * np.sign(slope)
    expected = nll(outputs(points), y.numpy()) + nll(outputs(moved), y.numpy())
    ours = method.loss((x.clone(), y), SimpleNamespace(criterion=gaussian.loss))
    assert ours.item() == pytest.approx(expected, rel=1e-9)


def test_moments_of_the_mixture() -> None:
    rng = np.random.default_rng(1)
    mean, variance = rng.normal(size=(5, 8)), rng.uniform(0.1, 2, size=(5, 8))
    centre, spread = gaussian.mixture_moments(torch.from_numpy(mean), torch.from_numpy(variance))
    np.testing.assert_allclose(centre.numpy(), mean.mean(0), rtol=1e-12)
    np.testing.assert_allclose(spread.numpy(), (variance + mean**2).mean(0) - mean.mean(0) ** 2, rtol=1e-10)


def test_members_start_apart_and_one_adam_step_of_all_is_that_of_each() -> None:
    torch.manual_seed(0)
    method = DeepEnsembles(net(), members=3, together=True)
    members = [{name: value.detach().clone() for name, value in method.member(m).items()} for m in range(3)]
    assert not torch.equal(members[0]["0.weight"], members[1]["0.weight"])
    for member in members:
        assert member["0.weight"].abs().max().item() <= 4**-0.5, "torch's own bound, 1 / sqrt(fan_in)"
    x, y = torch.randn(6, 3, 4), torch.randn(6, 3, 1)
    optimizer = torch.optim.Adam(method.trainable_parameters(), lr=0.01)
    method.loss((x, y), SimpleNamespace(criterion=gaussian.loss)).backward()
    optimizer.step()
    for m, start in enumerate(members):
        alone = net()
        alone.load_state_dict(start)
        own = torch.optim.Adam(alone.parameters(), lr=0.01)
        gaussian.loss(alone(x[:, m]), y[:, m]).backward()
        own.step()
        torch.testing.assert_close(method.member(m)["0.weight"], alone[0].weight, rtol=1e-4, atol=1e-6)
