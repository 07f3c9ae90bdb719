"""Loggers to files: CSV, TensorBoard, none, several at once, and every choice of conf/logger."""

import csv
import json
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from maskbench.cli import command_line
from maskbench.common.errors import UsageError
from maskbench.runs import loggers
from maskbench.runs.build import each_logger

CONF = Path(__file__).parents[3] / "conf" / "logger"


def test_csv(tmp_path: Path, recwarn, capfd) -> None:
    logger = loggers.csv_logger(run_dir=tmp_path, config={"seed": 1, "method": {"name": "x"}}, mode="unused")
    logger.log({"loss": 1.0}, 10)
    logger.log({"loss": 0.5, "accuracy": 0.9}, 20)
    logger.summary({"average_accuracy": 0.9})
    logger.table("by/stage", [{"stage": 0, "accuracy": 0.5}, {"stage": 1}])
    logger.image("curve", tmp_path / "curve.png")
    logger.artifact(tmp_path / "masks", "masks")
    logger.finish(0)
    folder = tmp_path / logger.about["files"]
    with open(folder / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["step"], row["loss"], row["accuracy"]) for row in rows] == [("10", "1.0", ""), ("20", "0.5", "0.9")]
    assert json.loads((folder / "summary.json").read_text()) == {"average_accuracy": 0.9}
    assert (folder / "by-stage.csv").read_text().split() == ["stage,accuracy", "0,0.5", "1,"]
    assert "name: x" in (folder / "hparams.yaml").read_text()
    again = loggers.csv_logger(run_dir=tmp_path)
    again.log({"loss": 0.1}, 20)
    again.finish(0)
    assert (folder / "metrics.csv").exists() and again.about["files"] != logger.about["files"]
    assert "failed" not in logger.about and "failed" not in again.about
    assert not recwarn.list and capfd.readouterr() == ("", "")


@pytest.mark.full
def test_tensorboard(tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    Image.fromarray(np.zeros((4, 5, 3), dtype=np.uint8)).save(tmp_path / "figure.png")
    for steps, loss in (((0, 10, 20), 1.0), ((10, 20, 30), 2.0)):  # the second attempt resumes at 10
        logger = loggers.tensorboard_logger(run_dir=tmp_path, config={"seed": 1, "a": {"b": None}})
        for step in steps:
            logger.log({"loss": loss}, step)
        logger.table("result", [{"stage": 0, "accuracy": 0.5}])
        logger.image("curve", tmp_path / "figure.png")
        logger.artifact(tmp_path / "masks", "masks")
        logger.summary({"average_accuracy": 0.9, "name": "x", "none": None})
        logger.finish(0)
        assert logger.about == {"kind": "tensorboard", "files": "tensorboard"}
        time.sleep(1.1)  # event files are named by the second
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(0, 1.0), (10, 2.0), (20, 2.0), (30, 2.0)]
    assert events.Tags()["images"] == ["curve"]
    assert "average_accuracy" in events.Tags()["scalars"]
    assert "result/text_summary" in events.Tags()["tensors"]


def test_missing_tensorboard_is_one_sentence(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'maskbench\[tensorboard\]'"):
        loggers.tensorboard_logger(run_dir=tmp_path)


def test_of_several_loggers_each_gets_every_call(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "figure.png").touch()
    calls = []

    class Breaking:
        about: dict = {}

        def log(self, metrics, step) -> None:
            calls.append((metrics, step))
            raise OSError("no room")

        def finish(self, exit_code: int) -> None: ...

    broken, csv_ = loggers.FailSafeLogger(Breaking(), {"kind": "broken"}), loggers.csv_logger(run_dir=tmp_path / "b")
    several = loggers.Loggers([broken, csv_])
    several.log({"loss": 1.0}, 1)
    several.log({"loss": 0.5}, 2)
    several.summary({"accuracy": 0.9})
    several.table("result", [{"a": 1}])
    several.image("figure", tmp_path / "figure.png")
    several.artifact(tmp_path / "figure.png", "masks")
    several.finish()
    assert calls == [({"loss": 1.0}, 1)]  # and then no more of it, while the other goes on
    folder = tmp_path / "b" / several.about["csv"]["files"]
    assert [row["loss"] for row in csv.DictReader((folder / "metrics.csv").open())] == ["1.0", "0.5"]
    assert json.loads((folder / "summary.json").read_text()) == {"accuracy": 0.9} and (folder / "result.csv").is_file()
    assert several.about["kind"] == "broken, csv" and "no room" in several.about["broken"]["failed"]


def test_several_loggers_of_a_config_get_the_settings_that_are_theirs() -> None:
    words = ["logger=[csv,wandb]", "logger.mode=disabled"]
    first, second = each_logger(OmegaConf.to_container(command_line.parse(words).compose(words).logger))
    assert first == {"_target_": "maskbench.runs.loggers.csv_logger"}
    assert second["_target_"].endswith("wandb_logger") and second["mode"] == "disabled" and "targets" not in second


def test_none_writes_nothing(tmp_path: Path, calls: dict) -> None:
    logger = loggers.no_logger(run_dir=tmp_path, anything=1)
    for verb, values in calls.items():
        getattr(logger, verb)(*values)
    assert logger.about == {"kind": "none"} and not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore:.*noload.*:DeprecationWarning")  # SQLAlchemy's, of how MLflow asks it
def test_every_choice_of_conf_takes_what_a_run_gives(path: Path, tmp_path: Path, monkeypatch) -> None:
    from hydra.utils import instantiate

    if path.stem in ("mlflow", "trackio", "wandb"):
        pytest.importorskip(path.stem, reason=f"{path.stem} is not installed")
    (node,) = each_logger(OmegaConf.to_container(OmegaConf.load(path)))
    make = instantiate(node, _partial_=True)
    config = OmegaConf.create({"method": {"_target_": "a.B", "shares": [0.5, 0.1]}})
    logger = make(run_dir=str(tmp_path), run_id="key-s0", group="g", job_type="supsup", config=config, name="x", tags=["a"])
    logger.log({"x": 1.0}, 0)
    logger.finish(0)
    assert logger.about["kind"] == path.stem and "failed" not in logger.about
