"""kill -9 at any moment, then the same command: every file of the result has the bytes of an undisturbed run."""

import json
import os
import random
import signal
import time
from collections.abc import Callable
from multiprocessing import Process
from pathlib import Path

import pytest

COMMON = ("data=splitmnist", "data.base=synthetic", "logger=none", "task.trials=10", "task.probe=50")
PACKNET = ("method=packnet", *COMMON, "budget.steps=50", "loop.block=5", "loop.log_every=7", "backbone.widths=[64,32]")
MOVING = ("data.base=synthetic", "logger=none", "budget.steps=90", "budget.epochs=null", "loop.block=5", "loop.log_every=7",
          "backbone.widths=[64,32]", "method.every=7")  # fmt: skip
SUPSUP = ("method=supsup", *COMMON, "budget.steps=300", "backbone.widths=[64,32]")
FILES = ("metrics.csv", "weights.safetensors", "masks.safetensors")


_calm: list[Path] = []


@pytest.fixture
def calm(interpreter: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output root of PackNet's undisturbed run, by `python -m maskbench` itself, done once."""
    if not _calm:
        output = tmp_path_factory.mktemp("calm")
        done = interpreter(*PACKNET, f"paths.output={output}")
        assert done.returncode == 0, done.stderr
        _calm.append(output)
    return _calm[0]


def run_dir(output: Path) -> Path:
    """The one run directory below an output root."""
    (folder,) = output.glob("*/s*")
    return folder


def wait_for(happened: Callable[[], bool], process: Process, seconds: float = 60) -> bool:
    """Whether it happened while the process was at work."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if happened():
            return True
        if not process.is_alive():
            return False
        time.sleep(0.001)
    raise TimeoutError


def saves(output: Path) -> Callable[[], int]:
    """How many times the checkpoint was replaced since the first call."""
    seen = set()

    def count() -> int:
        try:
            seen.add((run_dir(output) / "state" / "checkpoint.pt").stat().st_mtime_ns)
        except (OSError, ValueError):
            pass
        return len(seen) - 1

    return count


def result(output: Path) -> dict:
    """result.json without what a clock measured."""
    whole = json.loads((run_dir(output) / "result.json").read_text())
    whole["metrics"] = {name: value for name, value in whole["metrics"].items() if "seconds" not in name}
    return whole


def assert_same(output: Path, calm: Path) -> None:
    assert result(output) == result(calm)
    for name in FILES:
        assert (run_dir(output) / name).read_bytes() == (run_dir(calm) / name).read_bytes(), name


def statuses(output: Path) -> list[str]:
    return [attempt["status"] for attempt in json.loads((run_dir(output) / "run.json").read_text())["attempts"]]


@pytest.mark.full
def test_killed_at_five_moments_packnet_ends_with_the_bytes_of_an_undisturbed_run(
    calm: Path, program: Callable, tmp_path: Path
) -> None:
    """Saving after every block, so that kills fall into blocks, saves and the work between stages alike."""
    words, draw = (*PACKNET, "loop.checkpoint_seconds=0", "paths.output=killed"), random.Random(0)
    output = tmp_path / "killed"
    for _ in range(5):
        process, count = program(*words), saves(output)
        blocks, moment = draw.randint(3, 12), draw.uniform(0, 0.03)
        assert wait_for(lambda c=count, n=blocks: c() >= n, process), "the run ended before it was killed"
        time.sleep(moment)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert not (run_dir(output) / "result.json").exists()
    assert ended(program(*words, log="last")) == 0
    assert "taking up an interrupted run" in (tmp_path / "last").read_text()
    assert statuses(output) == ["interrupted"] * 5 + ["finished"]
    assert_same(output, calm)


@pytest.mark.full
def test_killed_between_saves_supsup_ends_with_the_bytes_of_an_undisturbed_run(program: Callable, tmp_path: Path) -> None:
    """Saving every tenth of a second: a kill loses work, and nothing else."""
    words, draw = (*SUPSUP, "loop.checkpoint_seconds=0.1"), random.Random(1)
    assert ended(program(*words, "paths.output=calm")) == 0
    kills = 0
    for _ in range(5):
        process, count = program(*words, "paths.output=killed"), saves(tmp_path / "killed")
        number, moment = draw.randint(1, 3), draw.uniform(0, 0.15)
        if not wait_for(lambda c=count, n=number: c() >= n, process):
            break  # it ended before: a fast machine
        time.sleep(moment)
        process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
    assert kills >= 2
    assert ended(program(*words, "paths.output=killed")) == 0
    assert_same(tmp_path / "killed", tmp_path / "calm")


@pytest.mark.full
@pytest.mark.parametrize("method", ["rigl", "set", "gradual"])
def test_killed_while_its_mask_moves_it_ends_with_the_bytes_of_an_undisturbed_run(
    method: str, program: Callable, tmp_path: Path
) -> None:
    """Masks, moments and what was there first are in the checkpoint; kills fall before, between and in moves."""
    words, draw = (f"method={method}", *MOVING, "loop.checkpoint_seconds=0"), random.Random(2)
    assert ended(program(*words, "paths.output=calm")) == 0
    for _ in range(4):
        process, count = program(*words, "paths.output=killed"), saves(tmp_path / "killed")
        blocks, moment = draw.randint(2, 4), draw.uniform(0, 0.01)
        assert wait_for(lambda c=count, n=blocks: c() >= n, process), "the run ended before it was killed"
        time.sleep(moment)
        process.kill()
        process.join()
        assert not (run_dir(tmp_path / "killed") / "result.json").exists()
    assert ended(program(*words, "paths.output=killed", log="last")) == 0
    assert "training at step" in (tmp_path / "last").read_text()
    assert statuses(tmp_path / "killed") == ["interrupted"] * 4 + ["finished"]
    assert_same(tmp_path / "killed", tmp_path / "calm")


def ended(process: Process) -> int:
    process.join()
    return process.exitcode


@pytest.mark.full
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_an_interruption_is_status_130_and_loses_nothing(number: int, calm: Path, program: Callable, tmp_path: Path) -> None:
    words = (*PACKNET, "loop.checkpoint_seconds=0.05")
    process, count = program(*words, "paths.output=stopped", log="first"), saves(tmp_path / "stopped")
    assert wait_for(lambda: count() >= 2, process)
    os.kill(process.pid, number)
    assert ended(process) == 130
    assert (tmp_path / "first").read_text().splitlines()[-1].startswith("maskbench: interrupted")
    assert "Traceback" not in (tmp_path / "first").read_text()
    assert statuses(tmp_path / "stopped") == ["interrupted"]
    assert ended(program(*words, "paths.output=stopped")) == 0
    assert_same(tmp_path / "stopped", calm)


@pytest.mark.full
def test_the_same_command_while_it_runs_waits_and_once_it_is_done_is_not_repeated(program: Callable, tmp_path: Path) -> None:
    words = (*PACKNET, "budget.steps=300", "loop.checkpoint_seconds=0", "paths.output=out")
    first, count = program(*words, log="first"), saves(tmp_path / "out")
    assert wait_for(lambda: count() >= 1, first)
    os.kill(first.pid, signal.SIGSTOP)  # or it may end before the second has looked
    (tmp_path / "second").touch()
    second, said = program(*words, log="second"), f"another process (process {first.pid} on"
    try:
        assert wait_for(lambda: said in (tmp_path / "second").read_text(), second)
    finally:
        os.kill(first.pid, signal.SIGCONT)
    assert ended(second) == 0 and "waiting for it" in (tmp_path / "second").read_text()
    assert ended(first) == 0, "the first goes on undisturbed"
    assert statuses(tmp_path / "out") == ["finished"]

    before = {path: path.stat().st_mtime_ns for path in run_dir(tmp_path / "out").glob("*") if path.suffix != ".log"}
    assert ended(program(*words, log="third")) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before, "a finished run is not redone"


@pytest.mark.full
def test_a_damaged_checkpoint_is_one_sentence_and_force_starts_anew(program: Callable, tmp_path: Path) -> None:
    words = (*PACKNET, "loop.checkpoint_seconds=0", "paths.output=out")
    process, count = program(*words), saves(tmp_path / "out")
    assert wait_for(lambda: count() >= 3, process)
    process.kill()
    process.join()
    checkpoint = run_dir(tmp_path / "out") / "state" / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])

    assert ended(program(*words, log="refused")) == 2
    lines = [line for line in (tmp_path / "refused").read_text().splitlines() if line.startswith("maskbench: ")]
    assert len(lines) == 1 and str(checkpoint.relative_to(tmp_path)) in lines[0] and "force=true" in lines[0]
    assert "Traceback" not in (tmp_path / "refused").read_text()
    assert ended(program(*words, "force=true")) == 0
    assert result(tmp_path / "out")["status"] == "finished"
