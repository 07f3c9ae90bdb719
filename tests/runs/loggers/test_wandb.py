"""W&B as a logger: it writes what it says where it says, asks nothing, litters nothing, and cannot hurt the run."""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from maskbench.common.errors import UsageError
from maskbench.report import wandb_file
from maskbench.runs import loggers

pytestmark = pytest.mark.skipif(find_spec("wandb") is None, reason="wandb is not installed")
START = """
import logging, os, sys, time
logging.basicConfig(format="%(message)s")
from maskbench.loggers import wandb_logger
from maskbench import loggers
def logger(mode="offline", id="key-s0", folder="run"):
    os.makedirs(folder, exist_ok=True)
    return wandb_logger(run_dir=folder, run_id=id, project="maskbench", mode=mode, tags=["continual"], group="g")
"""


@pytest.fixture
def scene(tmp_path: Path) -> dict:
    """Arguments to run a script in a folder of its own with a home of its own; warnings are errors in it."""
    (tmp_path / "home").mkdir()
    # a W&B temporary folder is cleaned up by the garbage collector: no business of ours
    flags = ["-W", "error", "-W", "ignore::ResourceWarning"]
    return {
        "args": [sys.executable, *flags, "-c"],
        "cwd": tmp_path,
        "env": os.environ | {"HOME": str(tmp_path / "home"), "PYTHONPATH": str(Path(__file__).parents[3])},
    }


def run(scene: dict, code: str, **env: str) -> subprocess.CompletedProcess:
    words = [*scene["args"], START + code]
    return subprocess.run(
        words, cwd=scene["cwd"], env=scene["env"] | env, capture_output=True, text=True, timeout=120,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def wandb_of(run_dir: Path, run_id: str = "key-s0", **more: object) -> loggers.FailSafeLogger:
    return loggers.wandb_logger(run_dir=run_dir, run_id=run_id, project="maskbench", **more)


# ---- W&B offline


def test_what_is_logged_offline_can_be_read_back(tmp_path: Path, ours: Callable) -> None:
    import numpy as np
    from PIL import Image

    Image.fromarray(np.zeros((4, 5, 3), dtype=np.uint8)).save(tmp_path / "figure.png")
    (tmp_path / "masks.safetensors").write_bytes(b"0101")
    config = {"method": {"name": "supsup", "_target_": "a.B"}, "optimizer.lr": 0.1, "path": Path("x"), "none": None}
    logger = wandb_of(
        tmp_path, group="sweep", job_type="supsup", tags=["continual", "splitmnist"], name="supsup-splitmnist/s0",
        config=config, notes="the seed of the talk",
    )  # fmt: skip
    for step in range(0, 100, 10):
        logger.log({"train/loss": 1 / (1 + step), "val/accuracy": 0.5}, step)
    logger.summary({"average_accuracy": 0.99, "accuracy/given/0.5": None, "name": "x"})
    logger.summary({"forgetting": np.float64(0.0)})
    logger.table("result", [{"stage": 0, "accuracy": 0.5}, {"stage": "mean", "accuracy": None, "n": 2}])
    logger.image("curve", tmp_path / "figure.png")
    logger.artifact(tmp_path / "masks.safetensors", "masks")
    logger.finish(3)
    logger.finish(0)
    logger.log({"late": 1.0}, 200)

    found = wandb_file.read(tmp_path)
    assert (found.id, found.project, found.group, found.job_type) == ("key-s0", "maskbench", "sweep", "supsup")
    assert (found.name, found.tags) == ("supsup-splitmnist/s0", ["continual", "splitmnist"])
    assert found.notes == "the seed of the talk"
    assert found.config == config | {"path": "x"}
    assert found.history == [{"train/loss": 1 / (1 + step), "val/accuracy": 0.5, "step": step} for step in range(0, 100, 10)]
    assert found.summary.items() >= {"average_accuracy": 0.99, "name": "x", "forgetting": 0.0, "step": 90}.items()
    assert found.summary["accuracy/given/0.5"] is None
    assert found.tables["result"] == [
        {"stage": 0, "accuracy": 0.5, "n": None}, {"stage": "mean", "accuracy": None, "n": 2},
    ]  # fmt: skip
    assert (tmp_path / found.images["curve"]).read_bytes() == (tmp_path / "figure.png").read_bytes()
    assert found.artifacts == {"key-s0-masks": {"type": "masks", "files": ["masks.safetensors"]}}
    assert (found.exit_code, found.attempts) == (3, 1)
    assert logger.about.items() >= {"kind": "wandb", "mode": "offline", "id": "key-s0", "url": None}.items()
    assert (tmp_path / logger.about["files"]).is_dir()
    json.dumps(logger.about)
    assert not ours()


def test_undefined_numbers_do_not_stop_it(tmp_path: Path) -> None:
    logger = wandb_of(tmp_path)
    logger.log({"nan": float("nan"), "inf": float("inf")}, 1)
    logger.finish(0)
    (row,) = wandb_file.read(tmp_path).history
    assert row["nan"] != row["nan"] and row["inf"] == float("inf")


def test_the_commit_is_that_of_our_code(tmp_path: Path, monkeypatch) -> None:
    from maskbench.common import provenance

    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    words = ["-c", "user.name=A", "-c", "user.email=a@b.c", "commit", "-q", "--allow-empty", "-m", "the user's own"]
    subprocess.run(["git", *words], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    wandb_of(tmp_path / "run").finish(0)
    assert wandb_file.read(tmp_path / "run").commit == provenance.commit()["commit"]


def test_each_run_of_a_process_is_its_own(tmp_path: Path) -> None:
    first = wandb_of(tmp_path / "a", "first")
    first.log({"x": 1.0}, 1)
    second = wandb_of(tmp_path / "b", "second")  # the first was not finished
    second.log({"x": 2.0}, 1)
    second.finish(0)
    third = wandb_of(tmp_path / "c", "third")
    third.log({"x": 3.0}, 1)
    third.finish(0)
    first.finish(0)
    for folder, id, x in (("a", "first", 1.0), ("b", "second", 2.0), ("c", "third", 3.0)):
        found = wandb_file.read(tmp_path / folder)
        assert (found.id, found.history) == (id, [{"x": x, "step": 1}])
    assert not [name for name in os.environ if name.startswith("WANDB_") and name != "WANDB_SERVICE"]


def test_attempts_at_one_run_merge(tmp_path: Path) -> None:
    first = wandb_of(tmp_path, config={"a": 1})
    for step in range(5):
        first.log({"x": 1.0}, step)
    first.summary({"early": 1})
    first.finish(1)
    second = wandb_of(tmp_path, config={"a": 2})
    for step in range(3, 8):  # resumed from a checkpoint at step 3
        second.log({"x": 2.0}, step)
    second.summary({"late": 2})
    second.finish(0)
    found = wandb_file.read(tmp_path)
    assert [(row["step"], row["x"]) for row in found.history] == [
        (0, 1.0), (1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0), (5, 2.0), (6, 2.0), (7, 2.0),
    ]  # fmt: skip
    assert found.summary.items() >= {"early": 1, "late": 2, "x": 2.0}.items()
    assert (found.attempts, found.exit_code, found.config) == (2, 0, {"a": 2})


@pytest.mark.full
def test_a_resumed_run_goes_on_behind_the_rows_of_its_earlier_file(tmp_path: Path) -> None:
    """A server that is sent both drops no row: W&B's own steps of the two do not meet."""
    for first in (0, 20):
        logger = wandb_of(tmp_path)
        for step in (first, first + 10, first + 20):
            logger.log({"loss": 1.0}, step)
        logger.finish(0)
        time.sleep(1.1)  # W&B names the folder by the second
    files = sorted(tmp_path.glob("wandb/*run-*/run-*.wandb"))
    before, after = [wandb_file.read_attempt(path, tmp_path) for path in files]
    assert before.resume and after.resume and before.id == after.id
    assert (before.rows, after.rows) == ((0, 2), (3, 5))
    assert [row["step"] for row in wandb_file.read(tmp_path).history] == [0, 10, 20, 30, 40]


def test_what_hangs_is_given_up_and_its_late_answer_is_closed() -> None:
    from maskbench.runs.loggers.wandb_run import bounded

    go, late, closed = threading.Event(), [], threading.Event()
    with pytest.raises(TimeoutError, match="no answer"):
        bounded(lambda: go.wait() and "run", 0.01, late=lambda run: (late.append(run), closed.set()))
    go.set()
    assert closed.wait(60) and late == ["run"]
    assert bounded(lambda: 3, 60) == 3
    with pytest.raises(KeyError):
        bounded(lambda: {}["a"], 60)


def test_a_service_that_never_answers_leaves_the_run_offline(scene: dict) -> None:
    code = """
import threading, wandb
from maskbench.runs.loggers import wandb_run
wandb_run.START_SECONDS = 1.0
wandb.login = lambda **_: threading.Event().wait()
wandb_run._restart_service = lambda: setattr(wandb_run, "START_SECONDS", 60.0)
"""
    done = run(scene, code + ONLINE, WANDB_API_KEY="a" * 40)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "offline", done.stderr
    assert "recording offline" in done.stderr and "no answer within 1 s" in done.stderr


@pytest.mark.full
def test_kill_9_loses_the_last_moment_only(scene: dict) -> None:
    code = START + "s = logger()\nfor i in range(20): s.log({'x': float(i)}, i)\nprint('logged', flush=True)\n"
    code += "while True: time.sleep(0.1)"
    process = subprocess.Popen([*scene["args"], code], cwd=scene["cwd"], env=scene["env"], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout.readline() == "logged\n"
        time.sleep(2)
        process.send_signal(signal.SIGKILL)
    found = wandb_file.read(scene["cwd"] / "run")
    assert [row["x"] for row in found.history] == list(range(20))
    assert found.exit_code is None


def test_nothing_is_written_outside_the_run_directory_and_nothing_is_said(scene: dict) -> None:
    code = "s = logger()\nopen('run/masks', 'w').write('0')\ns.log({'x': 1.0}, 0)\ns.table('t', [{'a': 1}])\n"
    done = run(scene, code + "s.artifact('run/masks', 'masks')\ns.finish(0)")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(path.name for path in scene["cwd"].rglob("*") if "run" not in path.parts) == ["home"]
    assert wandb_file.read(scene["cwd"] / "run").artifacts


def test_folders_the_user_chose_are_kept(scene: dict) -> None:
    code = "s = logger()\nprint(os.environ['WANDB_DATA_DIR'])\ns.finish(0)\nprint(os.environ['WANDB_DATA_DIR'])"
    done = run(scene, code, WANDB_DATA_DIR="/tmp/mine")
    assert done.stdout == "/tmp/mine\n/tmp/mine\n"


# ---- W&B modes


def test_wandb_mode_of_the_user_wins(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    logger = wandb_of(tmp_path, mode="online")
    logger.log({"x": 1.0}, 0)
    logger.finish(0)
    assert logger.about["mode"] == "disabled" and not list(tmp_path.iterdir())
    monkeypatch.setenv("WANDB_MODE", "dryrun")  # its old name
    logger = wandb_of(tmp_path, mode="online")
    logger.finish(0)
    assert logger.about["mode"] == "offline"


def test_an_unknown_mode_is_the_users_to_mend(tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(UsageError, match="logger.mode=ofline is not a mode.*Did you mean 'offline'"):
        wandb_of(tmp_path, mode="ofline")
    monkeypatch.setenv("WANDB_MODE", "nope")
    with pytest.raises(UsageError, match="WANDB_MODE=nope"):
        wandb_of(tmp_path)


ONLINE = "s = logger('online')\ns.log({'x': 1.0}, 0)\ns.finish(0)\nprint(s.about['mode'])"


@pytest.mark.parametrize("key", [pytest.param("", id="no key"), pytest.param("a" * 40, id="no server", marks=pytest.mark.full)])
def test_online_without_key_or_server_goes_offline_and_never_asks(scene: dict, key: str) -> None:
    env = scene["env"] | {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": key, "WANDB_HTTP_TIMEOUT": "2"}
    ours, theirs = pty.openpty()  # a terminal: where W&B would ask
    words = [*scene["args"], START + ONLINE]
    done = subprocess.run(
        words, cwd=scene["cwd"], env=env, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, text=True, timeout=60
    )
    os.close(theirs)
    said = os.read(ours, 100_000).decode()
    os.close(ours)
    assert (done.returncode, done.stdout) == (0, "offline\n")
    assert said.startswith("W&B is not reachable (") and said.count("\n") == 1
    assert wandb_file.read(scene["cwd"] / "run").history == [{"x": 1.0, "step": 0}]


@pytest.mark.full
def test_a_server_that_accepts_the_key_and_then_vanishes(scene: dict) -> None:
    code = "loggers.wandb_run.INIT_SECONDS = 2.0\nimport wandb\nwandb.login = lambda **_: True\n" + ONLINE
    done = run(scene, code, WANDB_BASE_URL="http://127.0.0.1:9", WANDB_API_KEY="a" * 40)
    assert done.stdout == "offline\n"
    assert done.stderr.startswith("W&B is not reachable (") and done.stderr.count("\n") == 1
    assert wandb_file.read(scene["cwd"] / "run").history == [{"x": 1.0, "step": 0}]


# ---- W&B may fail, the run may not


def test_a_missing_file_or_an_unwritable_folder_is_a_warning(tmp_path: Path, ours: Callable) -> None:
    logger = wandb_of(tmp_path / "run")
    logger.artifact(tmp_path / "nothing", "masks")
    assert "FileNotFoundError" in logger.about["failed"]
    (tmp_path / "file").write_text("")
    assert "failed" in wandb_of(tmp_path / "file" / "run").about
    assert len(ours()) == 2
    again = wandb_of(tmp_path / "again", "another")  # nothing is left behind
    again.log({"x": 1.0}, 0)
    again.finish(0)
    assert wandb_file.read(tmp_path / "again").id == "another"


@pytest.mark.full
@pytest.mark.skipif(shutil.which("pgrep") is None, reason="needs pgrep, of Debian's package procps, to find W&B's own process")
def test_the_run_survives_the_death_of_wandbs_process(scene: dict) -> None:
    code = """
import signal, subprocess
s = logger()
s.log({'x': 1.0}, 0)
found = subprocess.run(['pgrep', '-P', str(os.getpid()), 'wandb-core'], capture_output=True, text=True)
(pid,) = found.stdout.split()
os.kill(int(pid), signal.SIGKILL)
time.sleep(0.5)
for i in range(3): s.log({'x': 2.0}, i)
s.finish(0)
t = logger(id='next', folder='next')
t.log({'x': 3.0}, 0)
t.finish(0)
"""
    done = run(scene, code)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("logger=wandb stopped recording") and done.stderr.count("\n") == 1
    assert wandb_file.read(scene["cwd"] / "next").history == [{"x": 3.0, "step": 0}]
