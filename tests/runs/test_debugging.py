"""debug=fast, overfit and profile: another identity and place than real runs, fewer rows, a loss that falls, a table."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hydra.types import RunMode

from maskbench.cli import launch
from maskbench.common import identity
from maskbench.common.errors import Unmet
from maskbench.data.stage import Origin, Split, Stage
from maskbench.report import runs
from maskbench.runs import debugging

KINDS = ("fast", "overfit", "profile")
HISTORY = "stage,phase,step,metric,value\n0/1,train,1,loss,2.0\n0/1,train,2,accuracy,0.1\n0/1,train,3,loss,{}\n"


@pytest.fixture
def stage() -> Stage:
    def split(rows: int) -> Split:
        return Split(torch.arange(100.0)[:, None], torch.arange(rows), torch.arange(rows) + 1)

    names = {"index": 0, "total": 1, "name": "toy", "classes": (0, 1), "outputs": 2, "shape": (1,)}
    train = split(90)
    shifted = {"noise/1": lambda: split(30), "blur/1": lambda: split(40)}
    return Stage(
        **names, train=train, val=train, test=split(50), origin=Origin("toy", "generated"), ood={"x": split(4)}, shifted=shifted
    )


def debug_run(place: str, debug: str | None) -> None:
    folder = Path(place)
    folder.mkdir(parents=True)
    config = {
        "seed": 0,
        "method": {"name": "supsup"},
        "data": {"name": "toy"},
        "debug": {"name": debug, "rows": 3} if debug else None,
    }
    (folder / "run.json").write_text(json.dumps({"status": "finished", "seed": 0, "key": folder.name[3:], "config": config}))
    (folder / "result.json").write_text(json.dumps({"status": "finished", "objective": 0.5, "metrics": {"accuracy": 0.5}}))


# ---- never taken for a real one


@pytest.mark.parametrize("kind", KINDS)
def test_a_debug_run_has_a_key_and_a_folder_of_its_own_and_no_logger(kind: str, hydra_loader) -> None:
    real, debug = (
        hydra_loader.load_configuration("config", words, run_mode=RunMode.RUN)
        for words in ([], ["experiment=lottery/mnist_quick", f"debug={kind}"])
    )
    assert "debug" in debug and real.debug is None and debug.debug.name == kind
    assert identity.run_dir(debug).parts[:2] == ("outputs", "debug") and debug.logger._target_.endswith("no_logger")
    same = hydra_loader.load_configuration("config", ["experiment=lottery/mnist_quick"], run_mode=RunMode.RUN)
    same.budget = debug.budget
    assert identity.key(same) != identity.key(debug), "also of equal budgets"
    assert debugging.tags(debug) == ["debug"] and debugging.tags(real) == []


def test_debug_runs_are_left_out_among_real_ones_and_marked_where_they_are_shown(tmp_path: Path) -> None:
    debug_run(str(tmp_path / "supsup-toy" / "s0-real"), None)
    debug_run(str(tmp_path / "supsup-toy" / "s0-trial"), "fast")
    assert [run.key for run in runs.read(tmp_path)] == ["real"]
    asked = runs.read(tmp_path, [runs.Filter("debug", frozenset(['"fast"']))])
    assert [(run.key, run.debug) for run in asked] == [("trial", "fast")]
    debug_run(str(tmp_path / "debug" / "supsup-toy" / "s0-other"), "overfit")
    assert [run.debug for run in runs.read(tmp_path / "debug")] == ["overfit"], "a folder of nothing else shows them"


# ---- what they do


def test_fewer_rows_are_taken_evenly_and_validation_on_training_rows_stays_so(stage: Stage) -> None:
    small = debugging.few(stage, 10)
    x, y = small.train.tensors()
    assert y.tolist() == torch.linspace(0, 89, 10).round().long().tolist() and torch.equal(x[:, 0], y + 1.0)
    assert small.val is small.train and not small.holds_out
    assert (len(small.test), len(small.ood["x"])) == (10, 4)
    assert [len(make()) for make in small.shifted.values()] == [10, 10]
    assert small.shifted["blur/1"]().y[-1] == 39, "each is its own corruption"
    apart = debugging.few(replace(stage, val=stage.test), 10)
    assert apart.holds_out and len(apart.val) == 10 and small.criterion is F.cross_entropy


@pytest.mark.parametrize(("last", "holds"), [(0.1, True), (1.0, True), (1.1, False), (float("nan"), False)])
def test_the_loss_has_to_fall_to_its_share(last: float, holds: bool, tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text(HISTORY.format(last))
    if holds:
        assert debugging.fall(path, 0.5) == [f"0/1: training loss from 2 to {last:.4g}"]
        return
    with pytest.raises(Unmet, match=r"did not fall to 0\.5 of where it began\. 0/1: training loss from 2 to"):
        debugging.fall(path, 0.5)


def test_without_a_loss_nothing_is_claimed(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("stage,phase,step,metric,value\n0/1,train,1,loss,2.0\n")
    with pytest.raises(Unmet, match="no training loss was recorded twice"):
        debugging.fall(tmp_path / "metrics.csv", 0.5)


def test_what_was_to_be_shown_and_was_not_is_one_sentence_and_status_1() -> None:
    assert launch._judge(Unmet("the loss did not fall.")) == (1, "the loss did not fall.")


def test_the_profile_names_the_costly_operation_in_80_columns(tmp_path: Path, capsys) -> None:
    x = torch.randn(200, 200)
    with debugging.profiled(tmp_path, 3):
        for _ in range(4):
            x = x @ x.T / 200
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 5 and max(map(len, told)) <= 80 and told[1].split()[:2] == ["operation", "calls"]
    assert any(line.split()[:2] == ["aten::mm", "4"] for line in told[2:])
    assert "aten::mm" in (tmp_path / debugging.PROFILE).read_text()


@pytest.mark.full
def test_an_overfit_run_ends_well_and_is_marked_and_one_that_cannot_learn_fails(cli: Callable, tmp_path: Path) -> None:
    words = ("method=dense", "data=mnist", "data.base=synthetic", "debug=overfit", "debug.rows=16")
    told = cli(*words, "budget.steps=60")
    assert told.returncode == 0 and "training loss from" in told.stdout and "debug=overfit: a trial" in told.stdout, told.stderr
    (run,) = runs.read(tmp_path / "outputs" / "debug")
    assert run.debug == "overfit" and run.status == "finished"
    told = cli(*words, "budget.steps=60", "optimizer.lr=1e-9")
    assert told.returncode == 1 and "did not fall to 0.5" in told.stderr and "Traceback" not in told.stderr
