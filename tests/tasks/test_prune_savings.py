"""What every run of task=prune says of its masks: what they save, what they connect, what training cost."""

import pytest
import torch

from maskbench import masks
from maskbench.backbones.mlp import MLP
from maskbench.methods.dense import Dense
from maskbench.methods.prune.edge_popup import EdgePopup
from maskbench.methods.prune.lottery import Lottery
from maskbench.tasks import savings
from maskbench.tasks.prune import TICKET, collapsed, report, table

SMALL = ("data.base=synthetic", "backbone.widths=[16,12]", "budget.epochs=null", "budget.steps=10", "budget.batch_size=32")
N = 784 * 16 + 16 * 12 + 12 * 10


def row(branch: str = TICKET, accuracy: float = 0.9, level: int = 0, **known: object) -> dict:
    return {
        "level": level,
        "branch": branch,
        "accuracy": accuracy,
        "extra_metrics": {"density": 0.05},
        "savings": {"training_cost": 0.05, "effective_density": 0.04, "collapse": "", **known},
        "cpu_seconds": 0.0,
    }


def test_a_lottery_says_it_of_every_level_and_branch(build) -> None:
    bench = build("method=lottery", "task.levels=2", "+task.branches={random:{mask:random}}", *SMALL).go()
    numbers = bench.metrics
    ones = sum(int(bench.method.alive[name].sum()) for name in bench.method.sites)
    assert numbers["macs_dense"] == N and numbers["macs_sparse"] == ones
    assert numbers["speedup_theoretical"] == numbers["compression_weights"] == N / ones
    assert numbers["compression"] == (N + 38) / (ones + 38)
    density = [name.removeprefix("accuracy/ticket/") for name in numbers if name.startswith("accuracy/ticket/")]
    for branch, shares in ((TICKET, density), ("random", density[1:])):
        assert all(f"{name}/{branch}/{share}" in numbers for share in shares for name in ("speedup_theoretical", "compression"))
    assert numbers[f"speedup_theoretical/ticket/{density[0]}"] == 1.0
    own = [row for row in bench.outcome.curves if row["branch"] == TICKET]
    assert [row["savings"]["training_cost"] for row in own] == [row["extra_metrics"]["density"] for row in own]
    assert numbers["training_cost"] == pytest.approx(sum(row["extra_metrics"]["density"] for row in own))
    for share in density[1:]:
        gap = numbers[f"accuracy/ticket/{share}"] - numbers[f"accuracy/random/{share}"]
        assert numbers[f"difference/random/{share}"] == pytest.approx(gap)
    assert f"difference/ticket/{share}" not in numbers


@pytest.mark.parametrize("method", ["edge_popup", "supermask"])
def test_methods_whose_weights_stand_still(build, method: str) -> None:
    numbers = build(f"method={method}", *SMALL).go().metrics
    share = numbers["macs_sparse"] / numbers["macs_dense"]
    assert 0.3 < share < 0.7 and numbers["training_cost"] == pytest.approx((1 + 2 * share) / 3)
    assert numbers["outputs_connected"] == 10 and numbers["collapsed"] == 0 and 0 < numbers["live_units"] <= 28


def test_a_dense_net_saves_nothing(build) -> None:
    numbers = build("method=dense", "task=prune", *SMALL).go().metrics
    assert numbers["speedup_theoretical"] == numbers["compression"] == numbers["training_cost"] == 1.0
    assert "effective_density" not in numbers


def test_the_masks_are_those_under_which_a_method_answers() -> None:
    torch.manual_seed(0)
    net = MLP((8,), 3, widths=[6])
    assert savings.masks_of(Dense(net)) == {}
    lottery = Lottery(net)
    lottery.alive.put("head.weight", torch.zeros(3, 6))
    assert not savings.masks_of(lottery)["head.weight"].any() and savings.masks_of(lottery)["hidden.0.weight"].all()
    assert savings.masks_of(EdgePopup(MLP((8,), 3, widths=[6], bias=False))) == {}, "none is finished yet"


def test_collapse_is_noted_once_and_marked() -> None:
    words = "nothing is left of head; 0 of 10 outputs are reached"
    rows = [row(), row("invert", 0.1, collapse=words)]
    (note,) = collapsed(rows)
    assert note.startswith(f"Level 0 of invert has collapsed: {words}; of the weights it keeps 0.8 lie on a path")
    assert collapsed(rows[:1]) == [] == collapsed([*rows, row("invert", 0.1, 1, collapse=words)])
    assert [line.get("collapse") for line in table(rows)] == ["", words]
    rows.append(row("shuffle", 0.8))
    assert [line["ticket - branch"] for line in table(rows)] == [None, pytest.approx(0.8), pytest.approx(0.1)]
    assert [line["branch"] for line in table(rows)] == [TICKET, "invert", "shuffle"]
    assert "collapse" not in table([row(), row("shuffle", 0.8)])[0]
    levels = [row(), row(level=1), row("invert", 0.1, 1, collapse=words)]
    assert [line["collapsed"] for line in table(levels)] == ["", "invert"]
    assert "collapsed" not in table(levels[:2])[0]


def test_rows_of_before_have_none() -> None:
    old = [{k: v for k, v in row().items() if k != "savings"}]
    assert "compression" not in report(old, []).metrics


def test_a_convolutional_net_weighs_layers_by_their_places(build) -> None:
    words = ("backbone=conv2", "backbone.channels=[4,4]", "backbone.widths=[8]", *SMALL[:1], *SMALL[2:])
    bench = build("method=edge_popup", "method.keep=0.25", *words).go()
    net = bench.method.net
    macs = 784 * (36 + 144) + 4 * 196 * 8 + 80
    assert bench.metrics["macs_dense"] == macs
    kept = savings.masks_of(bench.method)
    places = dict(zip(masks.maskable(net), (784, 784, 1, 1, 1), strict=False))
    assert bench.metrics["macs_sparse"] == sum(int(m.sum()) * places[name] for name, m in kept.items())
