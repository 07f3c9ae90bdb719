"""A machine without the wandb package: runs are done and recorded, and what W&B would have had is said in one sentence."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from maskbench.cli.main import main
from maskbench.runs import loggers
from maskbench.runs.build import each_logger, make

ROOT = Path(__file__).resolve().parents[3]
START = "import sys; sys.modules['wandb'] = None; from maskbench.cli.main import main; sys.exit(main(sys.argv[1:]))"
TINY = ["method=dense", "data=mnist", "data.base=synthetic", "budget.steps=2", "budget.epochs=null", "backbone.widths=[8,8]"]


@pytest.fixture
def hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the package were not installed: importing it fails, and looking for it finds nothing."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "wandb"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.delenv("WANDB_MODE", raising=False)


@pytest.mark.usefixtures("hidden")
@pytest.mark.parametrize("mode", ["offline", "online"])
def test_the_default_logger_says_so_and_records_nothing(mode: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logger = loggers.wandb_logger(run_dir=tmp_path, run_id="key-s0", project="maskbench", mode=mode)
    logger.log({"loss": 1.0}, 0)
    logger.finish(0)
    said = [record.getMessage() for record in caplog.records]
    assert said == ["logger=wandb records nothing: the wandb package is not installed; choose logger=csv or logger=none"]
    assert logger.about["failed"] and list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("hidden")
@pytest.mark.parametrize("choice", ["none", "csv"])
def test_other_loggers_do_not_ask_for_it(
    choice: str, compose: Callable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (node,) = each_logger(compose(f"logger={choice}").logger)
    logger = make(OmegaConf.create({"logger": node}).logger, run_dir=tmp_path, run_id="key-s0", config={})
    logger.log({"loss": 1.0}, 0)
    logger.finish(0)
    assert caplog.records == [] and "failed" not in logger.about
    assert [path.name for path in tmp_path.iterdir()] == ([] if choice == "none" else ["csv"])


@pytest.mark.usefixtures("hidden")
def test_a_run_that_was_logged_elsewhere_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Its offline file stays unread, and the rest of the record is told."""
    run = tmp_path / "outputs" / "dense-mnist" / "s0-0123456789"
    (run / "wandb" / "offline-run-1").mkdir(parents=True)
    (run / "wandb" / "offline-run-1" / "run-1.wandb").write_bytes(b":W&B")
    (run / "run.json").write_text("{}")
    (run / "result.json").write_text('{"status": "finished", "objective": 0.5, "metrics": {"accuracy": 0.5}}')
    assert main(["show", str(run)]) == 0
    out = capsys.readouterr().out
    assert "the wandb package, whose format it has, is not installed" in out and "0.5" in out


@pytest.mark.usefixtures("hidden")
def test_the_doctor_lists_it_without_alarm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    from maskbench.cli.commands import doctor

    there = doctor.installed
    monkeypatch.setattr(doctor, "installed", lambda package: "missing" if package == "wandb" else there(package))
    assert main(["doctor"]) == 0
    assert "wandb" in capsys.readouterr().out
    monkeypatch.setattr(doctor, "installed", lambda package: "missing" if package == "torch" else there(package))
    assert main(["doctor"]) == 1


@pytest.mark.full
@pytest.mark.parametrize("words", [["logger=csv"], ["logger=none"], []])
def test_a_run_of_the_program_needs_none(words: list[str], tmp_path: Path, data_root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", START, *TINY, *words],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "MASKBENCH_DATA": str(data_root)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("outputs/*/*/result.json"))) == 1
    assert ("the wandb package is not installed" in done.stderr + done.stdout) == (words == [])
