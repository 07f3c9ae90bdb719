"""MC-dropout on UCI tables, 20 published divisions in one run: mc_dropout.md section 9."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from maskbench.backbones.fold import FoldMLP
from maskbench.common import identity
from maskbench.data import gaussian
from maskbench.data.sources.known_tables import TABLES, hashed
from maskbench.methods.uncertainty.mc_dropout import MCDropout

pytestmark = pytest.mark.slow

AUTHORS = yaml.safe_load((identity.conf_dir() / "published" / "mc_dropout.yaml").read_text())  # by division
ROWS = {  # preset and table: RMSE and its tolerance, log-likelihood and its tolerance
    ("uci_4000", "boston"): (2.80, 0.15, -2.40, 0.06),
    ("uci_grid", "boston"): (2.90, 0.25, -2.40, 0.08),
    ("uci_4000", "concrete"): (4.84, 0.20, -2.96, 0.05),
}


@pytest.mark.parametrize("table", ["boston", "concrete"])
def test_divisions_are_the_published_ones(table, runs):
    result = runs("experiment=mc_dropout/uci_400", f"data={table}")[0]
    known = TABLES[table]
    np.random.seed(1)  # the authors' own lines
    dealt = [np.random.choice(range(known.rows), known.rows, replace=False) for _ in range(20)]
    train = round(0.9 * known.rows)
    assert hashed([(order[:train], order[train:]) for order in dealt]) == known.dealt
    assert len(result["table"]) == 20


@pytest.mark.parametrize(("preset", "table"), ROWS)
def test_table(preset, table, runs):
    done = runs(f"experiment=mc_dropout/{preset}", f"data={table}")
    rmse, near, likelihood, close = ROWS[preset, table]
    assert all(len(result["table"]) == 20 for result in done)
    assert done.mean("rmse") == pytest.approx(rmse, abs=near)
    assert done.mean("log_likelihood") == pytest.approx(likelihood, abs=close)


@pytest.mark.parametrize("table", ["boston", "concrete"])
def test_400_epochs_are_the_authors_numbers_division_by_division(table, runs):
    done = runs("experiment=mc_dropout/uci_400", f"data={table}")
    for metric, record, near in (("rmse", "rmse", 0.08), ("log_likelihood", "ll", 0.03)):
        theirs = AUTHORS[f"{table}_400_{record}"]["values"]
        ours = [[row[metric] for row in sorted(result["table"], key=lambda row: row["fold"])] for result in done]
        assert len(theirs) == 20 == len(ours[0])
        assert abs(np.mean(np.mean(ours, 0) - theirs)) <= near


def test_boston_at_4000_epochs_takes_three_minutes_at_most(runs):
    for result in runs("experiment=mc_dropout/uci_4000", "data=boston"):
        assert result["metrics"]["train_cpu_seconds_per_stage"] < 150  # the rest is start-up and 1,000 passes


def test_likelihood_of_one_pass_at_precision_one_is_the_gaussian_log_density():
    torch.manual_seed(0)
    mean, y = torch.randn(1, 50, 3, dtype=torch.float64), torch.randn(50, 3, dtype=torch.float64)
    found = gaussian.scores(torch.cat([mean, torch.ones_like(mean)], -1), y)["log_likelihood"]
    wanted = torch.distributions.Normal(mean[0], 1.0).log_prob(y).sum(-1).mean()
    assert abs(found.item() - wanted.item()) < 1e-6


def test_likelihood_of_many_passes_is_the_papers_formula():
    torch.manual_seed(0)
    passes, tau, y = torch.randn(30, 50, 2, dtype=torch.float64), 0.7, torch.randn(50, 2, dtype=torch.float64)
    found = gaussian.scores(torch.cat([passes, torch.full_like(passes, 1 / tau)], -1), y)["log_likelihood"]
    per_pass = -tau / 2 * (y - passes).square().sum(-1)
    paper = per_pass.logsumexp(0) - math.log(30) - 2 / 2 * math.log(2 * math.pi) + 2 / 2 * math.log(tau)
    assert abs(found.item() - paper.mean().item()) < 1e-6


def test_without_dropout_passes_agree_and_the_variance_is_the_noise():
    torch.manual_seed(0)
    stage = SimpleNamespace(link=lambda outputs: outputs, regression=True, outputs=1, units=None)
    method = MCDropout(FoldMLP((4, 6), 1, widths=[10]), drop=0.0, passes=8, tau=4.0)
    found = method.predict(torch.randn(5, 4, 6), stage)
    assert (found == found[:1]).all() and (found[..., 1] == 0.25).all()
    _, variance = gaussian.mixture_moments(*found.split(1, -1))
    assert (variance == 0.25).all()
