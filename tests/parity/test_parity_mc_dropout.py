"""MC-dropout against its authors' formulas in numpy float64 (decay, loss, noise, likelihood, RMSE), and their results."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn

from maskbench.backbones.gate import Gate
from maskbench.common import identity
from maskbench.data import gaussian
from maskbench.methods.uncertainty.mc_dropout import MCDropout

AUTHORS = yaml.safe_load((identity.conf_dir() / "published" / "mc_dropout.yaml").read_text())  # by division


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inlet, self.hidden, self.gate, self.head = Gate(4, inlet=True), nn.Linear(4, 6), Gate(6), nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gate(self.hidden(self.inlet(x)).relu()))


@pytest.fixture
def method() -> MCDropout:
    torch.manual_seed(0)
    return MCDropout(Net(), drop=0.05, tau=0.159708, length_scale=1e-2, passes=50)


def test_decay_is_the_authors_and_spares_the_biases(method) -> None:
    rows = 455
    decay = 1e-2**2 * (1 - 0.05) / (2.0 * rows * 0.159708)
    assert method.decay(rows).item() == pytest.approx(decay, rel=1e-6)
    stage = SimpleNamespace(criterion=gaussian.loss, train=range(rows))
    x, y = torch.randn(8, 4), torch.randn(8, 1)
    method.eval()  # nothing is dropped, so that both sides see one net
    w = {name: p.detach().numpy().astype(float) for name, p in method.net.named_parameters()}
    hidden = np.maximum(x.numpy() @ w["hidden.weight"].T + w["hidden.bias"], 0)
    error = np.mean((hidden @ w["head.weight"].T + w["head.bias"] - y.numpy()) ** 2)
    method.length_scale = 1e3  # so large that a lost term would show
    decay *= (1e3 / 1e-2) ** 2
    expected = error + decay * sum((w[name] ** 2).sum() for name in ("hidden.weight", "head.weight"))
    assert method.loss((x, y), stage).item() == pytest.approx(expected, rel=1e-5)


def test_a_unit_stays_with_its_share_and_is_scaled_by_its_inverse(method) -> None:
    noise = torch.tensor([[0.0, 0.0499, 0.05, 0.051, 0.5, 0.999]])
    expected = torch.tensor([[0, 0, 1, 1, 1, 1]]) / (1 - 0.05)
    torch.testing.assert_close(method.gain(1, noise), expected)
    gains = method.train().effective_weights(torch.zeros(20_000, 4), None)
    assert set(gains) == {"inlet.gain", "gate.gain"}, "before every weight layer, the first one included"
    for gain in gains.values():
        assert (gain > 0).double().mean().item() == pytest.approx(0.95, abs=0.005)
        assert gain.mean().item() == pytest.approx(1, abs=0.005)


def test_likelihood_and_error_of_the_passes(method) -> None:
    shift, scale, tau = 22.5, 9.2, 0.159708
    rng = np.random.default_rng(0)
    passes, y = rng.normal(size=(50, 12, 1)), rng.normal(size=(12, 1))
    stage = SimpleNamespace(
        regression=True, outputs=1, link=lambda y: y, units=(torch.tensor([[shift]]), torch.tensor([[scale]])),
    )  # fmt: skip
    members = method.stated(torch.from_numpy(passes), stage)
    scores = gaussian.scores(members, torch.from_numpy(y), stage.units)
    answers, goals = shift + scale * passes, shift + scale * y
    exponents = -0.5 * tau * (goals[None] - answers) ** 2
    ceiling = exponents.max(0)
    likelihood = (
        np.log(np.exp(exponents - ceiling).sum(0)) + ceiling - math.log(50) - 0.5 * math.log(2 * math.pi) + 0.5 * math.log(tau)
    )
    assert scores["log_likelihood"].item() == pytest.approx(likelihood.mean(), rel=1e-5)
    assert scores["rmse"].item() == pytest.approx(np.sqrt(np.mean((goals - answers.mean(0)) ** 2)), rel=1e-6)


@pytest.mark.parametrize(("record", "mean"), [
    ("boston_400_rmse", 2.97), ("boston_400_ll", -2.46), ("boston_4000_rmse", 2.80), ("boston_4000_ll", -2.39),
    ("boston_grid_rmse", 2.90), ("boston_grid_ll", -2.40), ("concrete_400_rmse", 5.23), ("concrete_400_ll", -3.04),
    ("concrete_4000_rmse", 4.81), ("concrete_4000_ll", -2.94),
])  # fmt: skip
def test_the_authors_numbers_have_the_means_they_print(record, mean):
    assert len(AUTHORS) == 10 and len(AUTHORS[record]["values"]) == 20
    assert round(np.mean(AUTHORS[record]["values"]), 2) == mean
