"""What uncertainty runs leave for figures: risk at every coverage, and the images that members differ about."""

from collections.abc import Callable

import pytest
import torch

from maskbench.tasks import pictures
from maskbench.tasks.metrics import uncertainty
from maskbench.training import evaluate

SMALL = ("data.base=synthetic", "data.ood=null", "backbone=lenet_300_100", "budget.steps=3", "budget.epochs=null", "task.draws=0")


def test_risk_ends_at_the_error_and_has_the_aurc_as_its_mean() -> None:
    torch.manual_seed(0)
    sure, right = torch.rand(1000, dtype=torch.float64), torch.rand(1000) < 0.7
    rows = pictures.risk(sure, right)
    assert rows[-1] == {"coverage": 1.0, "risk": pytest.approx((~right).double().mean().item())}
    k = rows[19]["coverage"] * 1000
    surest = sure.argsort(descending=True)[: int(k)]
    assert rows[19]["risk"] == pytest.approx((~right[surest]).double().mean().item())
    assert pictures.risk(sure[:0], right[:0]) == []


def test_of_equally_sure_inputs_the_risk_does_not_depend_on_their_order() -> None:
    right = torch.tensor([True, False, True, False])
    even = torch.full((4,), 0.5, dtype=torch.float64)
    assert pictures.risk(even, right) == pictures.risk(even, right.flip(0))
    assert {row["risk"] for row in pictures.risk(even, right)} == {0.5}


def test_images_that_members_differ_about_most(build: Callable) -> None:
    bench = build("method=deep_ensembles", "method.members=3", *SMALL).go()
    rows = [row for row in bench.outcome.curves if row["kind"] == "disputed"]
    stage = bench.stages[0]
    members, y = evaluate.log_members(bench.method, stage, stage.test)
    mi = uncertainty.scores(members)["mi"]
    assert len(rows) == pictures.IMAGES
    assert [row["information"] for row in rows] == mi.sort(descending=True).values[: pictures.IMAGES].tolist()
    for row in rows:
        assert row["label"] == y[row["index"]]
        assert len(row["members"]) == 3 and sum(row["members"][0]) == pytest.approx(1, abs=1e-3)
        assert (len(row["pixels"]), len(row["pixels"][0])) == stage.shape[1:]
        assert min(map(min, row["pixels"])) == 0 and max(map(max, row["pixels"])) == 255


def test_one_member_differs_from_nobody(build: Callable) -> None:
    curves = build("method=dense", *SMALL).go().outcome.curves
    assert not [row for row in curves if row["kind"] == "disputed"]
    assert len([row for row in curves if row["kind"] == "risk"]) == pictures.PLACES
