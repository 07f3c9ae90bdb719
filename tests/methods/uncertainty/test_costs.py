"""What members cost: the table of docs/metrics.md, from the methods themselves."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from maskbench.backbones.conv import LeNet5
from maskbench.methods.dense import Dense
from maskbench.methods.uncertainty import overlap
from maskbench.methods.uncertainty.batch_ensemble_members import BatchEnsembleMembers
from maskbench.methods.uncertainty.deep_ensembles import DeepEnsembles
from maskbench.methods.uncertainty.laplace import Laplace
from maskbench.methods.uncertainty.masksembles import Masksembles
from maskbench.methods.uncertainty.mc_dropout import MCDropout
from maskbench.methods.uncertainty.mimo import MIMO
from maskbench.methods.uncertainty.packed_ensembles import PackedEnsembles, macs
from maskbench.methods.uncertainty.swag import SWAG
from maskbench.training.method import Method

SHAPE = (1, 28, 28)
PAGE = (Path(__file__).resolve().parents[3] / "docs" / "metrics.md").read_text()
ROWS = dict(
    re.findall(r"^\| `method=([a-z_]+(?: method\.\w+=\w+)?)` \| (\d+\.\d\d \| \d+\.\d\d \| \d+\.\d\d) \|$", PAGE, re.MULTILINE)
)
METHODS = {  # in the table: how it is made, passes of its net in training and for an answer
    "dense": (Dense, {}, 1, 1),
    "deep_ensembles": (DeepEnsembles, {"members": 4}, 4, 4),
    "packed_ensembles": (PackedEnsembles, {}, 1, 1),
    "packed_ensembles method.alpha=4": (PackedEnsembles, {"alpha": 4}, 1, 1),
    "packed_ensembles method.gamma=2": (PackedEnsembles, {"gamma": 2}, 1, 1),
    "masksembles": (Masksembles, {}, 1, 4),
    "masksembles method.width=capacity_matched": (Masksembles, {"width": "capacity_matched"}, 1, 4),
    "mc_dropout": (MCDropout, {"drop": 0.2, "passes": 4}, 1, 4),
    "batch_ensemble_members": (BatchEnsembleMembers, {}, 1, 4),
    "mimo method.members=4": (MIMO, {"members": 4}, 1, 1),
    "swag": (SWAG, {"members": 4}, 1, 4),
    "laplace": (Laplace, {"members": 4}, 1, 1 + 3 * 840 / 416_520),  # the head alone four times
}


def lenet(width: float = 1.0) -> nn.Module:
    torch.manual_seed(0)
    return LeNet5(SHAPE, 10, channels=[6, 16], widths=[120, 84], width=width)


def test_the_table_has_all_of_them() -> None:
    assert list(ROWS) == list(METHODS)


@pytest.mark.parametrize("row", METHODS)
def test_a_row_of_the_table(row: str) -> None:
    kind, knobs, training, answer = METHODS[row]
    net = lenet(overlap.width_factor(4, 2.0, knobs.get("width", "fixed")))
    method: Method = kind(net, **knobs)
    kept = method.memory()["shared"] / (4 * 61_706)
    one = macs(method.net, lenet(), SHAPE)["macs_over_plain"]
    assert ROWS[row] == f"{kept:.2f} | {one * training:.2f} | {one * answer:.2f}"


def test_one_net() -> None:
    net = lenet()
    assert macs(net, net, SHAPE) == {"macs": 416_520, "macs_over_plain": 1}
    assert sum(p.numel() for p in net.parameters()) == 61_706
