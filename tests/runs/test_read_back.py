"""A finished run comes back in a process that never trained: the same method, data and answers; what does not is said."""

import json
import os
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import maskbench
from maskbench.common.errors import UsageError
from maskbench.tasks.metrics import uncertainty
from maskbench.training import evaluate

TINY = ("budget.steps=6", "budget.epochs=null", "data.base=synthetic", "logger=none", "loop.threads=1")
RUNS = {
    "masksembles": (*TINY, "data.ood=[]", "backbone.channels=[10,12]", "backbone.widths=[14]"),
    "mc_dropout": (*TINY, "data.ood=[]", "backbone.channels=[4,6]", "backbone.widths=[8]", "method.passes=3"),
    "packnet": (*TINY, "data=splitmnist", "backbone.widths=[24,12]"),
}
ASKS = Path(__file__).with_name("saved_answers.py")
PROGRAM = Path(__file__).parents[1] / "program.py"


EACH = [name if name == "packnet" else pytest.param(name, marks=pytest.mark.full) for name in RUNS]


@pytest.fixture(scope="module", params=EACH)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, data_root: Path, processes) -> Path:
    """The directory of a run that the program did in a process of its own."""
    folder = tmp_path_factory.mktemp("saved")
    words = [f"method={request.param}", *RUNS[request.param]]
    log, env = folder / "log", {"MASKBENCH_DATA": str(data_root)}
    names = {"words": words, "folder": folder, "log": log, "out": os.devnull, "env": env}
    process = processes.Process(target=runpy.run_path, args=(str(PROGRAM), names, "script"))
    process.start()
    process.join()
    assert process.exitcode == 0, (folder / "log").read_text()
    (result,) = folder.glob("outputs/*/*/result.json")
    return result.parent


def test_a_new_process_gives_the_bits_of_this_one_and_the_numbers_of_the_run(run: Path, script: Callable, tmp_path: Path) -> None:
    process = script(ASKS, run=run, out=tmp_path / "answers.pt")
    saved = maskbench.load(run)
    ours = {str(stage.index): evaluate.members(saved.method, stage, stage.test) for stage in saved.stages}
    process.join()
    assert process.exitcode == 0
    theirs = torch.load(tmp_path / "answers.pt", weights_only=True)
    assert theirs.keys() == ours.keys() and all(torch.equal(theirs[name], members) for name, (members, _) in ours.items())
    metrics = json.loads((run / "result.json").read_text())["metrics"]
    if "brier" in metrics:
        stage = saved.stages[0]
        scores = uncertainty.calibration(*evaluate.log_members(saved.method, stage, stage.test), saved.config.task.bins)
        assert {name: metrics[name] for name in scores} == scores
    else:
        accuracies = [(members.mean(0).argmax(-1) == y).double().mean().item() for members, y in ours.values()]
        assert metrics["average_accuracy"] == pytest.approx(sum(accuracies) / len(accuracies), abs=1e-12)


def test_a_loaded_method_is_in_evaluation_mode_with_the_runs_config(run: Path) -> None:
    saved = maskbench.load(str(run))
    assert not any(module.training for module in saved.method.modules())
    assert saved.config.method.name == json.loads((run / "result.json").read_text())["method"]
    assert all(len(stage.test) for stage in saved.stages)


def test_what_cannot_be_loaded_is_said_in_words(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no directory of a finished run"):
        maskbench.load(tmp_path / "nowhere")
    copy = tmp_path / run.name
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("files.json"))  # so that its record may be edited
    record = json.loads((copy / "run.json").read_text())
    record["config"]["backbone"]["widths"] = [18] * len(record["config"]["backbone"]["widths"])
    (copy / "run.json").write_text(json.dumps(record))
    with pytest.raises(UsageError, match="does not fit what its config makes now"):
        maskbench.load(copy)
    (copy / "result.json").unlink()
    with pytest.raises(UsageError, match="no directory of a finished run"):
        maskbench.load(copy)


def test_a_run_of_other_code_is_said_to_be_old(run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    maskbench.load(run)
    assert "stale" not in caplog.text
    copy = tmp_path / run.name
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("files.json"))  # so that its record may be edited
    record = json.loads((copy / "run.json").read_text())
    record["code"]["modules"]["maskbench.training.fit"] = "old"
    (copy / "run.json").write_text(json.dumps(record))
    maskbench.load(copy)
    assert "is stale: maskbench.training.fit changed since" in caplog.text
