"""The run directory: attempts, the result written last and at once, one process at a time."""

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from maskbench.common.errors import UsageError
from maskbench.common.files import Damaged, Unreadable
from maskbench.report.runs import load, state
from maskbench.runs import record as records
from maskbench.runs.record import Record

HOLDER = """
import time
from maskbench.runs.record import Record
record = Record(folder)  # held: a lock goes with its object
record.acquire()
(folder / "held").touch()
time.sleep(60)
"""


def read(folder: Path, name: str) -> dict:
    return json.loads((folder / name).read_text())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "out" / "run"


def opened(folder: Path, fresh: bool = False) -> Record:
    record = Record(folder)
    record.acquire(wait=False)
    record.open({"key": "abc"}, fresh)
    return record


def test_an_interrupted_run_goes_on_only_with_its_own_data(folder: Path) -> None:
    """Such as a lossy copy that was replaced in between; also after an attempt that ended before it had any data."""
    data = {"source": "images, not lossless", "fingerprints": ["a"]}
    record = opened(folder)
    record.learns(data)
    (folder / "state").mkdir()
    (folder / "state" / "checkpoint.pt").touch()
    for _ in range(2):
        record.fail("interrupted")
        record.release()
        record = opened(folder)
    with pytest.raises(UsageError, match=r"other data \(source: images, not lossless; here: copy, canonical\)"):
        record.learns({"source": "copy, canonical", "fingerprints": ["b"]})
    record.learns(data)
    record.release()
    anew = opened(folder, fresh=True)
    anew.learns({"source": "copy, canonical", "fingerprints": ["b"]})
    anew.release()
    assert read(folder, "run.json")["data"]["source"] == "copy, canonical"


def test_a_finished_run_has_a_result_and_no_state(folder: Path) -> None:
    record = opened(folder)
    assert record.result is None
    assert read(folder, "run.json")["status"] == "running"
    (folder / "state").mkdir()
    (folder / "state" / "checkpoint.pt").touch()
    record.add(data={"source": "synthetic"})
    record.finish({"status": "finished", "metrics": {"a": 0.5, "b": None}})
    record.release()
    assert Record(folder).result == {"status": "finished", "metrics": {"a": 0.5, "b": None}}
    about = read(folder, "run.json")
    assert about["status"] == "finished" and about["key"] == "abc" and about["data"] == {"source": "synthetic"}
    assert [attempt["status"] for attempt in about["attempts"]] == ["finished"]
    assert about["cost"]["wall_seconds"] >= 0 and about["cost"]["peak_memory_bytes"] > 0
    assert not (folder / "state").exists()


def test_the_result_is_written_after_all_else_and_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record, written = opened(folder), []
    replace = records.replace

    def watched(path: Path, write: Callable) -> None:
        assert not (folder / "result.json").exists()
        replace(path, write)
        written.append(path.name)

    monkeypatch.setattr(records, "replace", watched)
    record.finish({"status": "finished"})
    record.release()
    assert written[-1] == "result.json"
    assert not [path for path in folder.iterdir() if path.name.startswith(".result")]


def test_a_failed_attempt_keeps_its_state_and_the_next_is_added(folder: Path) -> None:
    record = opened(folder)
    (folder / "state").mkdir()
    (folder / "state" / "checkpoint.pt").touch()
    record.fail("interrupted")
    record.release()
    assert read(folder, "run.json")["status"] == "interrupted"
    assert (folder / "state" / "checkpoint.pt").exists()
    record = opened(folder)
    record.finish({})
    record.release()
    about = read(folder, "run.json")
    assert [attempt["status"] for attempt in about["attempts"]] == ["interrupted", "finished"]
    costs = [attempt["cost"] for attempt in about["attempts"]]
    assert about["cost"]["wall_seconds"] == pytest.approx(sum(c["wall_seconds"] for c in costs))
    assert about["cost"]["peak_memory_bytes"] == max(c["peak_memory_bytes"] for c in costs)


def test_an_attempt_that_was_killed_is_told_from_one_that_runs(folder: Path) -> None:
    opened(folder).release()  # as a kill leaves it: the lock goes, the words stay
    record = opened(folder)
    assert [attempt["status"] for attempt in read(folder, "run.json")["attempts"]] == ["interrupted", "running"]
    record.finish({})
    record.release()


def test_fresh_forgets_results_and_progress(folder: Path) -> None:
    record = opened(folder)
    record.finish({"status": "finished"})
    record.release()
    (folder / "state").mkdir()
    left = [
        "result.json",
        "state.json",
        "state/checkpoint.pt",
        "metrics.csv",
        "masks.safetensors",
        "weights.safetensors",
    ]
    for name in left:
        (folder / name).touch()
    (folder / "notes.txt").write_text("mine")
    record = opened(folder, fresh=True)
    record.release()
    assert not [name for name in left if (folder / name).exists()]
    assert (folder / "notes.txt").exists(), "what is not ours stays"
    assert len(read(folder, "run.json")["attempts"]) == 1


def test_two_records_of_one_folder_do_not_work_at_once(folder: Path) -> None:
    record = opened(folder)
    before = (folder / "run.json").read_bytes()
    with pytest.raises(UsageError) as error:
        opened(folder, fresh=True)
    assert str(folder) in str(error.value) and "\n" not in str(error.value)
    assert (folder / "run.json").read_bytes() == before, "the second touched nothing"
    record.release()
    opened(folder).release()


def test_another_process_is_refused_and_a_killed_one_leaves_no_lock(folder: Path, script: Callable, tmp_path: Path) -> None:
    path = tmp_path / "holder.py"
    path.write_text(HOLDER)
    process = script(path, folder=folder)
    while not (folder / "held").exists():
        assert process.is_alive()
        process.join(0.01)
    with pytest.raises(UsageError, match="another process"):
        opened(folder)
    process.kill()
    process.join()
    opened(folder).release()


def test_a_number_that_is_not_finite_is_null(folder: Path) -> None:
    record = opened(folder)
    record.finish(
        {"objective": float("nan"), "metrics": {"nll": float("inf"), "n": 3}, "table": [{"a": float("-inf"), "b": "x"}]}
    )
    record.release()
    told = json.loads((folder / "result.json").read_text(), parse_constant=pytest.fail)
    assert told == {"objective": None, "metrics": {"nll": None, "n": 3}, "table": [{"a": None, "b": "x"}]}


def test_peaks_are_not_added_up() -> None:
    costs = [{"cpu_seconds": 1.5, "peak_memory_bytes": 10}, {"cpu_seconds": 2.0, "peak_memory_bytes": 7}]
    assert records.total(costs) == {"cpu_seconds": 3.5, "peak_memory_bytes": 10}


@pytest.mark.parametrize("name", ["result.json", "run.json"])
@pytest.mark.parametrize("text", ["", '{"status": "fin', "[1, 2]", '{"status": "finishes"}'])
def test_a_damaged_file_of_a_finished_run_is_told_and_stays(text: str, name: str, folder: Path) -> None:
    """The last is sound JSON, and not what was written."""
    record = opened(folder)
    record.finish({"status": "finished"})
    record.release()
    (folder / name).write_text(text)
    with pytest.raises(Damaged, match=name):
        _ = Record(folder).result
    assert state(folder) == "damaged" and load(folder).fault
    assert (folder / name).read_text() == text
    record = opened(folder, fresh=True)  # a redo that was asked for
    record.release()
    assert (folder / "result.json.aside").exists() and not (folder / "result.json").exists()


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE])
@pytest.mark.parametrize("name", ["result.json", "run.json"])
def test_one_failed_read_is_no_absence(name: str, number: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = opened(folder)
    record.finish({"status": "finished"})
    record.release()
    before, read_bytes = (folder / name).read_bytes(), Path.read_bytes

    def failing(path: Path) -> bytes:
        if path.name == name:
            raise OSError(number, os.strerror(number), str(path))
        return read_bytes(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", failing)
        with pytest.raises(Unreadable, match="nothing was changed"):
            _ = Record(folder).result
        assert state(folder) == "unreadable"
    assert (folder / name).read_bytes() == before and Record(folder).result == {"status": "finished"}


def test_a_result_of_which_nobody_can_tell_what_it_answers_is_done_anew(folder: Path) -> None:
    record = opened(folder)
    record.finish({"status": "finished"})
    record.release()
    assert state(folder) == "finished"
    (folder / "run.json").unlink()
    assert Record(folder).result is None and state(folder) == "new"
    record = opened(folder)
    assert Record(folder).result is None and state(folder) == "running", "the old result does not stand for the new attempt"
    record.finish({"status": "finished", "metrics": {"a": 1}})
    record.release()
    assert Record(folder).result == {"status": "finished", "metrics": {"a": 1}} and state(folder) == "finished"


def test_a_lock_that_cannot_be_opened_for_writing_does_not_make_a_run_be_at_work(folder: Path) -> None:
    """As in a copy on a file system for reading alone, whose interrupted runs nobody may wait for."""
    opened(folder).release()
    assert state(folder) == "interrupted"
    (folder / ".lock").unlink()
    shutil.copy(shutil.which("sleep"), folder / ".lock")  # a program that runs is such a file, for root too
    with subprocess.Popen([folder / ".lock", "60"]) as running:
        with pytest.raises(OSError, match="busy"):
            open(folder / ".lock", "r+b")  # noqa: SIM115
        assert state(folder) == "interrupted"
        running.kill()


@pytest.mark.parametrize("name", ["result.json", "run.json"])
def test_a_record_that_cannot_be_read_is_unreadable_and_not_damaged(name: str, folder: Path) -> None:
    record = opened(folder)
    record.finish({"status": "finished"})
    record.release()
    (folder / name).unlink()
    (folder / name).mkdir()
    assert load(folder).status == "unreadable" and f"{name} cannot be read" in load(folder).fault
    (folder / name).rmdir()
    (folder / name).write_text("{")
    assert load(folder).status == "damaged"
