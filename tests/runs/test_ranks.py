"""Two processes that train one net together, started by the command line itself: what they record, and what kills leave."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.full

COMMON = ("data=splitmnist", "data.base=synthetic", "data.stages=2", "logger=none", "task.trials=10", "task.probe=50")
PACKNET = ("method=packnet", *COMMON, "budget.steps=60", "budget.batch_size=31", "loop.log_every=7", "backbone.widths=[64,32]",
           "trainer=ddp", "loop.checkpoint_seconds=0")  # fmt: skip
FILES = ("metrics.csv", "weights.safetensors", "masks.safetensors")
PATIENCE = 300.0  # seconds until something that should come is taken for lost


def run_dir(output: Path) -> Path:
    (folder,) = output.glob("*/s*")
    return folder


def until(happened: Callable[[], object], told: str) -> object:
    """What `happened` returns, once that is true."""
    end = time.monotonic() + PATIENCE
    while not (found := happened()):
        assert time.monotonic() < end, f"waited in vain until {told}"
        time.sleep(0.002)
    return found


def saved(output: Path, at_least: int) -> bool:
    """Whether the checkpoint lies at that step of the first stage's first phase, or beyond it."""
    try:
        state = json.loads((run_dir(output) / "state.json").read_text())
    except (OSError, ValueError):
        return False
    return state["parts_done"] > 0 or state["phase"] > 0 or state["at"] >= at_least


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def second(first: int) -> int | None:
    """The process that another one has started to train with it."""
    children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    return next((int(pid) for pid in children if "train_ddp_process" in Path(f"/proc/{pid}/cmdline").read_text()), None)


@pytest.fixture
def start(tmp_path: Path, data_root: Path) -> Iterator[Callable]:
    """`start(*words, log=...)`: `python -m maskbench *words`, started; its standard error goes to a file."""
    started = []

    def begin(*words: str, log: str) -> subprocess.Popen:
        path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
        env = os.environ | {"PYTHONPATH": path, "MASKBENCH_DATA": str(data_root), "COLUMNS": "200"}
        with (tmp_path / log).open("w") as err:
            started.append(subprocess.Popen([sys.executable, "-m", "maskbench", *words], cwd=tmp_path, env=env, stderr=err))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.wait()


def test_whichever_of_two_ranks_is_killed_the_other_ends_and_the_same_command_goes_on(start: Callable, tmp_path: Path) -> None:
    """Rank 1 by kill -9, then rank 0, then rank 0 by SIGTERM; the bytes are those of a run that nobody disturbed."""
    assert start(*PACKNET, "paths.output=calm", log="calm-log").wait() == 0, (tmp_path / "calm-log").read_text()
    output = tmp_path / "killed"
    for number, at in enumerate((10, 25, 40)):
        log = f"log-{number}"
        one = start(*PACKNET, "paths.output=killed", log=log)
        until(lambda at=at, one=one: saved(output, at) or one.poll() is not None, f"step {at} is saved")
        assert one.poll() is None, (tmp_path / log).read_text()
        other = until(lambda one=one: second(one.pid), "there is a second process")
        if number == 0:
            os.kill(other, signal.SIGKILL)
            assert one.wait() == 1
            said = (tmp_path / log).read_text()
            assert "maskbench: a process that trained together with this one has ended" in said and "Traceback" not in said
        else:
            one.send_signal(signal.SIGKILL if number == 1 else signal.SIGTERM)
            assert one.wait() == (-signal.SIGKILL if number == 1 else 130)
            until(lambda other=other: not alive(other), "the second process has ended")
            assert "Traceback" not in (tmp_path / log).read_text()
    last = start(*PACKNET, "paths.output=killed", log="last")
    assert last.wait() == 0
    assert "taking up an interrupted run" in (tmp_path / "last").read_text()
    attempts = json.loads((run_dir(output) / "run.json").read_text())["attempts"]
    assert [attempt["status"] for attempt in attempts] == ["failed", "interrupted", "interrupted", "finished"]
    for name in FILES:
        assert (run_dir(output) / name).read_bytes() == (run_dir(tmp_path / "calm") / name).read_bytes(), name


def test_a_run_of_two_ranks_says_by_which_rows_its_norms_standardised(start: Callable, tmp_path: Path) -> None:
    words = ("method=finetune", *COMMON, "budget.steps=2", "backbone=mlp_200x3_norm", "backbone.widths=[16,8]", "trainer=ddp")
    for name, more in (("own", []), ("all", ["trainer.sync_batchnorm=true"])):
        assert start(*words, *more, f"paths.output={name}", log=name + "-log").wait() == 0, (
            tmp_path / (name + "-log")
        ).read_text()
    notes = {name: json.loads((run_dir(tmp_path / name) / "result.json").read_text())["notes"] for name in ("own", "all")}
    told = "in training each of 2 devices standardised by its own rows"
    assert any(note.startswith(told) for note in notes["own"]) and not any("devices" in note for note in notes["all"])
    assert run_dir(tmp_path / "own").name != run_dir(tmp_path / "all").name, "they are not the same question"
