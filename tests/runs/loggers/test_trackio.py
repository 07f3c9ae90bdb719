"""logger=trackio: what a run says is in its SQLite file, once for all attempts, and a missing package is one sentence."""

import json
import sqlite3
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from maskbench.cli import preflight
from maskbench.common.errors import UsageError
from maskbench.runs import loggers
from maskbench.runs.loggers import trackio_run

installed = pytest.mark.skipif(find_spec("trackio") is None, reason="pip install 'maskbench[trackio]'")
TINY = [
    "method=packnet",
    "data=splitmnist",
    "data.base=synthetic",
    "backbone.widths=[16,8]",
    "budget.steps=6",
    "loop.log_every=1",
]
ATTEMPT = """
import logging
from pathlib import Path
logging.basicConfig(format="%(message)s")
from maskbench.runs import loggers
folder = Path("outputs/m-d/s0-k")
folder.mkdir(parents=True, exist_ok=True)
logger = loggers.trackio_logger(
    run_dir=folder, run_id="k-s0", project="maskbench", name="m-d/s0-k", config={"optimizer": {"lr": 0.5}}, tags=["prune"],
    notes="a remark",
)
for step in steps:
    logger.log({"train/loss": 1 / step, "part": float("nan")}, step)
logger.summary({"accuracy/ticket/0.5000": 0.25, "word": "x", "undefined": None})
logger.table("stages", [{"stage": "a", "accuracy": 0.5}])
logger.artifact(folder, "masks")
logger.finish(0)
assert "failed" not in logger.about, logger.about
"""


def rows(outputs: Path) -> list[tuple[str, int, dict[str, Any]]]:
    """(run, step, values) of all that is in the file of the project, in order."""
    with sqlite3.connect(outputs / "trackio" / "maskbench.db") as base:
        found = base.execute("select run_name, step, metrics from metrics order by id").fetchall()
    return [(run, step, json.loads(values)) for run, step, values in found]


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'maskbench\[trackio\]'"):
        loggers.trackio_logger(run_dir=tmp_path, run_id="k-s0", project="p")


def test_it_is_a_choice_alone_and_beside_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (["logger=trackio"], ["logger=[wandb,csv,trackio]", "logger.project=mine"]):
        preflight.check(words, starts=False)
    with pytest.raises(UsageError, match="projekt"):
        preflight.check(["logger=trackio", "logger.projekt=x"], starts=False)


def test_what_it_only_warns_of_ends_the_logger_and_its_prints_are_not_seen(capsys: pytest.CaptureFixture) -> None:
    import warnings

    with trackio_run.quiet():
        print("* Trackio project initialized: p")
        warnings.warn("something of another package", stacklevel=1)
    assert capsys.readouterr().out == ""
    with pytest.raises(RuntimeError, match="could not write"), trackio_run.quiet():
        warnings.warn("trackio.log() could not write logs", stacklevel=1)


@installed
@pytest.mark.full
def test_attempts_at_a_run_are_one_run_there(script: Callable, tmp_path: Path) -> None:
    (tmp_path / "attempt.py").write_text(f"import os\nos.chdir({str(tmp_path)!r})\n{ATTEMPT}")
    for steps in ((1, 2, 3), (3, 4)):
        process = script(tmp_path / "attempt.py", steps=steps)
        process.join()
        assert process.exitcode == 0
    found = rows(tmp_path / "outputs")
    assert {run for run, _, _ in found} == {"k-s0"}
    losses = [(step, told["train/loss"]) for _, step, told in found if "train/loss" in told]
    assert losses == [(step, 1 / step) for step in (1, 2, 3, 3, 4)]
    assert all("part" not in told and "undefined" not in told for _, _, told in found)
    ends = [(step, told) for step, told in ((step, told) for _, step, told in found) if "word" in told]
    assert ends == [(step, {"accuracy/ticket/0.5000": 0.25, "word": "x"}) for step in (3, 4)]
    (table, _) = [told["stages"] for _, _, told in found if "stages" in told]
    assert table["_value"] == [{"stage": "a", "accuracy": 0.5}]
    with sqlite3.connect(tmp_path / "outputs" / "trackio" / "maskbench.db") as base:
        settings = [json.loads(config) for (config,) in base.execute("select config from configs")]
    assert [one["optimizer"] for one in settings] == [{"lr": 0.5}] and settings[0]["maskbench.notes"] == "a remark"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["attempt.py", "outputs"], "nothing is left elsewhere"


@installed
@pytest.mark.full
def test_a_run_and_its_other_logger_both_record(interpreter: Callable, tmp_path: Path) -> None:
    done = interpreter(*TINY, "logger=[csv,trackio]", "notes=hello")
    assert done.returncode == 0, done.stderr
    assert "rackio" not in done.stderr and "* " not in done.stdout
    (folder,) = tmp_path.glob("outputs/packnet-splitmnist/s0-*")
    about = json.loads((folder / "run.json").read_text())["logger"]
    assert about["kind"] == "csv, trackio" and "failed" not in about["trackio"]
    found = rows(tmp_path / "outputs")
    steps = [step for _, step, told in found if "train/loss" in told]
    assert steps[:3] == [1, 2, 3] and len(steps) >= 30
    metrics = json.loads((folder / "result.json").read_text())["metrics"]
    told = {name: value for _, _, row in found for name, value in row.items()}
    assert {name: told.get(name) for name, value in metrics.items() if value is not None} == pytest.approx(
        {name: value for name, value in metrics.items() if value is not None}
    )
    assert told["maskbench.exit_code"] == 0
    assert list((tmp_path / "outputs" / "trackio" / "media").rglob("*.png")), "figures are there"
