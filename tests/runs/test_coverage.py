"""What a method masks, trains and freezes, and how often each weight is multiplied."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from maskbench.cli import main as program
from maskbench.common.errors import UsageError
from maskbench.methods.continual.packnet import PackNet
from maskbench.methods.prune.lottery import Lottery
from maskbench.runs.coverage import coverage, multiplications


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.cells = nn.LSTM(4, 6, batch_first=True)
        self.up = nn.ConvTranspose1d(6, 2, 3)
        self.head = nn.Linear(2, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # [batch, 3, 4]
        x = self.cells(self.attention(x, x, x)[0])[0]
        return self.head(self.up(x.mT).mean(-1))


def test_multiplications_by_hand() -> None:
    net = Attention()
    macs = multiplications(net, torch.zeros(2, 3, 4))
    by_name = {name: macs.get(id(p)) for name, p in net.named_parameters() if p.ndim > 1}
    assert by_name == {
        "attention.in_proj_weight": 3 * 48, "attention.out_proj.weight": 3 * 16, "cells.weight_ih_l0": 3 * 24 * 4,
        "cells.weight_hh_l0": 3 * 24 * 6, "up.weight": 3 * 36, "head.weight": 10,
    }  # fmt: skip


def test_convolutions_count_each_place_of_their_output() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 9, 5))
    state = {name: value.clone() for name, value in net.state_dict().items()}
    assert list(multiplications(net, torch.randn(2, 3, 7, 7)).values()) == [8 * 27 * 9, 72 * 5]
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items()), "and leave the net as it was"


class Stage:
    shape, total = (3, 4), 3

    def __init__(self, index: int) -> None:
        self.index, self.last, self.name = index, index == 2, str(index)
        self.given, self.own_head = False, {}


def test_packnet_freezes_biases_after_the_first_stage_and_masks_all_matrices() -> None:
    rows = coverage(PackNet(Attention(), prune=[0.5], head="packed"), [Stage(n) for n in range(3)])
    *rows, total = rows
    for row in rows:
        matrix = row["shape"].count(",") > 0
        assert row["masked"] == matrix and row["trained"] == ("always" if matrix else "stages 1, then frozen"), row
    assert total["weights"] == sum(p.numel() for p in Attention().parameters())
    matrices = sum(p.numel() for p in Attention().parameters() if p.ndim > 1)
    assert total["masked"] == f"{matrices / total['weights']:.1%}"


def test_a_layer_left_dense_is_said_to_be() -> None:
    rows = {row["parameter"]: row for row in coverage(Lottery(Attention(), dense=["attention"]), [Stage(0)])}
    assert not rows["attention.in_proj_weight"]["masked"] and rows["attention.in_proj_weight"]["trained"] == "always"
    assert rows["cells.weight_hh_l0"]["masked"]


HIDDEN = {"hidden.0.weight": 784 * 24, "hidden.1.weight": 24 * 12}


@pytest.mark.parametrize(
    ("words", "gates", "trained"),
    [
        (("method=hopsupsup", "data=splitmnist", "backbone.width=1"), {"gates.0.gain": 24, "gates.1.gain": 12}, "frozen"),
        (("method=masksembles", "data=mnist", "backbone=mlp"), {"gates.0.gain": 24, "gates.1.gain": 12}, "always"),
        (("method=masksembles_ensemble", "data=mnist", "backbone=mlp"), {"gates.0.gain": 24, "gates.1.gain": 12}, "always"),
        (("method=mc_dropout_ensemble", "data=mnist", "backbone=mlp"), {"gates.0.gain": 24, "gates.1.gain": 12}, "always"),
        (("method=mc_dropout", "data=mnist", "backbone=mlp", "method.where=all"),
         {"inlet.gain": 784, "gates.0.gain": 24, "gates.1.gain": 12}, "always"),
        (("method=deep_ensembles", "data=mnist", "backbone=mlp"), {}, "always"),
    ],
)  # fmt: skip
def test_masks_over_units_are_told_beside_the_weights(
    words: tuple[str, ...], gates: dict[str, int], trained: str, build: Callable
) -> None:
    bench = build(*words, "data.base=synthetic", "backbone.widths=[24,12]")
    *rows, total = coverage(bench.method, bench.stages)
    told = {row["parameter"]: row for row in rows}
    assert {name: told[name]["weights"] for name in HIDDEN} == HIDDEN
    assert {row["trained"] for row in rows if row["parameter"].endswith("weight")} == {trained}
    masked = {name: row["shape"] for name, row in told.items() if row["masked"]}
    assert masked == {name: f"[{units}]" for name, units in gates.items()}
    assert total["masked"] == ("0.0%" if not gates else f"0.0%, {sum(gates.values())} units")
    assert total["weights"] == sum(p.numel() for p in bench.method.net.parameters())


def test_the_mask_of_a_ticket_is_told(build: Callable, tmp_path: Path) -> None:
    lottery = build("method=lottery", "data=mnist", "data.base=synthetic", "backbone.widths=[8]").method
    save_file(lottery.ticket(), tmp_path / "ticket.safetensors")
    ticket = f"init=ticket:{tmp_path / 'ticket.safetensors'}"
    bench = build("method=dense", "data=mnist", "data.base=synthetic", "backbone.widths=[8]", ticket)
    *rows, _ = coverage(bench.method, bench.stages)
    assert [row["parameter"] for row in rows if row["masked"]] == lottery.masked_weights()


def test_a_net_that_is_made_as_it_learns_is_refused_in_a_sentence(build: Callable) -> None:
    bench = build("method=malach_neuron")
    with pytest.raises(UsageError, match="--coverage: the net of MalachNeuron takes no inputs before it has learnt"):
        coverage(bench.method, bench.stages)


@pytest.mark.parametrize(
    "method, words", [("supsup", ("masked", "frozen")), ("packnet", ("masked", "always")), ("deep_ensembles", ("always",))]
)
def test_the_command_prints_one_line_a_parameter(
    method: str, words: tuple[str, ...], data_root, tmp_path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    data = "data=mnist" if method == "deep_ensembles" else "data=splitmnist"
    line = [f"method={method}", data, "data.base=synthetic", f"paths.data={data_root}", "backbone=mlp", "backbone.widths=[8]"]
    assert program.main(["show", *line, "--coverage"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (hidden,) = [line for line in lines if line.startswith("hidden.0.weight")]
    assert all(word in hidden for word in words) and lines[-1].startswith("all")
    assert not (tmp_path / "outputs").exists()


@pytest.mark.full
def test_the_command_reads_a_run_and_refuses_what_strangers_name(tmp_path: Path, cli: Callable) -> None:
    words = [
        "method=hopsupsup",
        "data=splitmnist",
        "data.base=synthetic",
        "backbone.widths=[8]",
        "budget.steps=2",
        "task.trials=1",
    ]
    assert cli(*words, "logger=none").returncode == 0
    (run,) = (tmp_path / "outputs").glob("*/*/run.json")
    told = cli("show", str(run.parent), "--coverage")
    assert told.returncode == 0 and "gates.0.gain" in told.stdout, told.stderr
    (tmp_path / "mine.py").write_text(
        "from maskbench.methods.dense import Dense\n\nclass Mine(Dense):\n    def masked_weights(self): return ['head.weight']\n"
    )
    about = json.loads(run.read_text())
    about["config"]["method"] = {"_target_": "mine.Mine", "name": "mine"}
    run.write_text(json.dumps(about))
    (run.parent / "files.json").unlink()
    told = cli("show", str(run.parent), "--coverage")
    assert (
        told.returncode == 2 and "mine.Mine, which is no part of maskbench" in told.stderr and "--coverage --trust" in told.stderr
    )
    told = cli("show", str(run.parent), "--coverage", "--trust")
    assert told.returncode == 0 and "masked" in next(line for line in told.stdout.splitlines() if line.startswith("head.weight"))
