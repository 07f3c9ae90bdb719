"""logger=mlflow: what a run says is in its SQLite file, once for all attempts, and a missing package is one sentence."""

import json
import sqlite3
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from maskbench.cli import preflight
from maskbench.common.errors import UsageError
from maskbench.runs import loggers
from maskbench.runs.loggers.mlflow_run import named

installed = pytest.mark.skipif(find_spec("mlflow") is None, reason="pip install 'maskbench[mlflow]'")
TINY = [
    "method=packnet",
    "data=splitmnist",
    "data.base=synthetic",
    "backbone.widths=[16,8]",
    "budget.steps=6",
    "loop.log_every=1",
]
ATTEMPTS = """
import logging, sys
from pathlib import Path
logging.basicConfig(format="%(message)s")
from maskbench.runs import loggers
folder = Path("outputs/m-d/s0-k")
folder.mkdir(parents=True)
for attempt, (steps, end) in enumerate((((1, 2, 3), 130), ((3, 4), 0))):
    logger = loggers.mlflow_logger(
        run_dir=folder, run_id="k-s0", project="maskbench", name="m-d/s0-k", config={"optimizer": {"lr": 0.5}}, tags=["prune"],
        notes="a remark",
    )
    for step in steps:
        logger.log({"train/loss": 1 / step, "part": float("nan")}, step)
    logger.summary({"accuracy/ticket/0.5000": 0.25 + attempt, "word": "x", "undefined": None})
    logger.finish(end)
    assert "failed" not in logger.about, logger.about
"""


def rows(file: Path, query: str) -> list[tuple]:
    with sqlite3.connect(file) as base:
        return base.execute(query).fetchall()


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'maskbench\[mlflow\]'"):
        loggers.mlflow_logger(run_dir=tmp_path, run_id="k-s0", project="p")


def test_it_is_a_choice_alone_and_beside_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (["logger=mlflow"], ["logger=[wandb,csv,mlflow]", "logger.tracking_uri=http://host:5000"]):
        preflight.check(words, starts=False)
    with pytest.raises(UsageError, match="tracking_uri"):
        preflight.check(["logger=mlflow", "logger.tracking_url=x"], starts=False)


def test_names_are_such_as_mlflow_takes() -> None:
    assert named("accuracy/ticket/0.5000 [%]") == "accuracy/ticket/0.5000 ---"


@installed
@pytest.mark.full
def test_attempts_at_a_run_are_one_run_there(script: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "attempts.py").write_text(f"import os\nos.chdir({str(tmp_path)!r})\n{ATTEMPTS}")
    process = script(tmp_path / "attempts.py")
    process.join()
    assert process.exitcode == 0
    file = tmp_path / "outputs" / "mlflow.db"
    assert rows(file, "select name, status from runs") == [("m-d/s0-k", "FINISHED")]
    assert rows(file, "select key, value from params") == [("optimizer.lr", "0.5")]
    losses = rows(file, "select distinct step, value from metrics where key = 'train/loss' order by step")
    assert losses == [(step, 1 / step) for step in (1, 2, 3, 4)]
    assert rows(file, "select value from metrics where key = 'accuracy/ticket/0.5000' order by value") == [(0.25,), (1.25,)]
    assert rows(file, "select count(*) from metrics where key in ('part', 'undefined')") == [(0,)]
    tags = dict(rows(file, "select key, value from tags"))
    assert tags.items() >= {"maskbench.run": "k-s0", "tags": "prune", "mlflow.note.content": "a remark", "word": "x"}.items()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["attempts.py", "outputs"], "nothing is left elsewhere"


@installed
@pytest.mark.full
def test_a_run_and_its_other_logger_both_record(interpreter: Callable, tmp_path: Path) -> None:
    done = interpreter(*TINY, "logger=[csv,mlflow]", "notes=hello")
    assert done.returncode == 0, done.stderr
    assert "alembic" not in done.stderr and "mlflow" not in done.stderr
    (folder,) = tmp_path.glob("outputs/packnet-splitmnist/s0-*")
    about = json.loads((folder / "run.json").read_text())["logger"]
    assert about["kind"] == "csv, mlflow" and "failed" not in about["mlflow"]
    metrics = json.loads((folder / "result.json").read_text())["metrics"]
    file = tmp_path / "outputs" / "mlflow.db"
    found = dict(rows(file, "select key, value from latest_metrics"))
    told = {named(name): value for name, value in metrics.items() if value is not None}
    assert {name: found.get(name) for name in told} == pytest.approx(told)
    steps = [step for (step,) in rows(file, "select distinct step from metrics where key = 'train/loss' order by step")]
    assert steps[:3] == [1, 2, 3] and len(steps) >= 30
    assert (folder / about["csv"]["files"] / "metrics.csv").exists()
    (run,) = rows(file, "select run_uuid, status from runs")
    assert run == (about["mlflow"]["run"], "FINISHED")
    kept = {path.name for path in (tmp_path / "outputs" / "mlflow").rglob("*") if path.is_file()}
    assert {"result.json", "matrix.png"} <= kept
    assert not (tmp_path / "mlruns").exists()
