"""Full disks, limits, missing locks and signals: what only a checkpoint needs costs a warning, all else is one sentence."""

import errno
import json
import os
import pwd
import signal
from pathlib import Path

import filelock
import pytest
from torch import nn

from maskbench.cli import main as program_main
from maskbench.cli.launch import DISK, judge_outside
from maskbench.common import files, identity
from maskbench.common.errors import UsageError
from maskbench.methods.dense import Dense
from maskbench.runs import record as records
from maskbench.runs.record import History, Record
from maskbench.training import journal as journals
from maskbench.training.journal import Journal


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_a_full_disk_skips_checkpoints_and_loses_no_row(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    history = History(tmp_path / "metrics.csv")
    journal = Journal(tmp_path, nn.Linear(2, 2), seed=0, every=0.0, history=history)
    journal.part("a", lambda: {"value": 1})
    before = (tmp_path / "state" / "checkpoint.pt").read_bytes()

    def full(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(journals, "replace", full)
        patch.setattr(records.os, "write", full)
        for name in "bc":
            history.add(name, "train", 1, {"loss": 0.5})
            journal.part(name, lambda name=name: {"value": name})
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1 and os.strerror(number).lower() in said[0] and "training goes on" in said[0]
    assert (tmp_path / "state" / "checkpoint.pt").read_bytes() == before
    journal.part("d", lambda: {"value": "d"})
    history.close()
    assert (tmp_path / "metrics.csv").read_text().splitlines()[1:] == ["b,train,1,loss,0.5", "c,train,1,loss,0.5"]
    again = Journal(tmp_path, nn.Linear(2, 2), seed=0, every=0.0, history=History(tmp_path / "metrics.csv"))
    assert [again.part(name, dict) for name in "abcd"] == [{"value": 1}, {"value": "b"}, {"value": "c"}, {"value": "d"}]


def test_rows_that_changed_since_the_checkpoint_are_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path, nn.Linear(2, 2), seed=0, every=1e9, history=(history := History(tmp_path / "metrics.csv")))
    history.add("a", "train", 1, {"loss": 0.5})
    journal.save()
    history.close()
    text = (tmp_path / "metrics.csv").read_text()
    (tmp_path / "metrics.csv").write_text(text.replace("0.5", "0.7"))
    with pytest.raises(UsageError, match=r"metrics\.csv is damaged"):
        Journal(tmp_path, nn.Linear(2, 2), seed=0, every=0.0, history=History(tmp_path / "metrics.csv"))


def test_rows_are_on_the_disk_before_the_checkpoint_that_counts_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history, steps = History(tmp_path / "metrics.csv"), []
    journal = Journal(tmp_path, nn.Linear(2, 2), seed=0, every=1e9, history=history)
    names = lambda number: next(p.name for p in [tmp_path, *tmp_path.rglob("*")] if p.stat().st_ino == os.fstat(number).st_ino)  # noqa: E731
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (fsync(number), steps.append(names(number)))[0])
    monkeypatch.setattr(os, "replace", lambda a, b: (replace(a, b), steps.append(f"to {Path(b).name}"))[0])
    journal.save()
    place = steps.index("to checkpoint.pt")
    assert "metrics.csv" in steps[:place] and steps[place - 1].startswith(".checkpoint.pt") and steps[place + 1] == "state"


def test_a_file_system_without_locks_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object, **__: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(filelock.FileLock, "acquire", none)
    with pytest.raises(UsageError, match="gives no locks"):
        Record(tmp_path / "run").acquire()


@pytest.mark.parametrize("number", [errno.EFBIG, errno.ENOLCK, errno.ENOSPC])
def test_what_the_disk_refuses_is_one_sentence(number: int) -> None:
    status, reason = judge_outside(OSError(number, os.strerror(number), "/x/y"))
    assert status == 2 and DISK[number] in reason and "/x/y" in reason and "\n" not in reason


def test_a_damaged_ticket_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "ticket.safetensors").write_bytes(b"not a ticket")
    with pytest.raises(UsageError, match="ticket.safetensors is damaged"):
        Dense(nn.Linear(2, 2), init=f"ticket:{tmp_path / 'ticket.safetensors'}")


def test_sigterm_outside_training_is_ctrl_c(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def work(argv: list[str]) -> int:
        signal.raise_signal(signal.SIGTERM)
        return 0

    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # so that a program that does not listen outlives the test
    try:
        monkeypatch.setattr(program_main, "_dispatch", work)
        assert program_main.main(["show"]) == 130
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.parametrize("last", ["run.json", "state.json", "files.json", "result.json"])
def test_the_resume_state_outlives_a_kill_late_in_finishing(last: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    record = Record(run)
    record.acquire()
    record.open({"key": "a"}, fresh=False)
    journals.write(run / "state" / "checkpoint.pt", {"step": 1})
    replace = os.replace

    def kill(a: str, b: Path) -> None:
        if Path(b).name == last:
            raise KeyboardInterrupt
        replace(a, b)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", kill)
        with pytest.raises(KeyboardInterrupt):
            record.finish({"status": "finished"})
    record.fail("interrupted")
    record.release()
    assert Record(run).result is None and journals.read(run / "state" / "checkpoint.pt") == {"step": 1}
    assert json.loads((run / "run.json").read_text())["status"] == "interrupted"


def test_an_interruption_after_the_result_leaves_the_record_as_it_was_listed(tmp_path: Path) -> None:
    record = Record(tmp_path / "run")
    record.acquire()
    record.open({"key": "a"}, fresh=False)
    record.finish({"status": "finished"})
    record.fail("interrupted")
    record.release()
    assert Record(tmp_path / "run").result == {"status": "finished"}


def test_without_a_home_the_data_folder_is_the_one_that_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: object) -> None:
        raise KeyError("uid")

    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    monkeypatch.setenv("MASKBENCH_DATA", "/data")
    assert identity.data_dir() == "/data"
    monkeypatch.delenv("MASKBENCH_DATA")
    with pytest.raises(UsageError, match="MASKBENCH_DATA"):
        identity.data_dir()


def test_a_folder_that_was_made_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(files, "sync", synced.append)
    files.make_folder(tmp_path / "a" / "b")
    assert synced == [tmp_path, tmp_path / "a"] and (tmp_path / "a" / "b").is_dir()


def test_a_run_in_other_hands_is_waited_for_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, said = Record(tmp_path / "run"), Record(tmp_path / "run"), []
    first.acquire()
    first.open({"key": "a"}, fresh=False)
    with pytest.raises(records.Busy):
        second.acquire(wait=False)
    monkeypatch.setattr(records, "PATIENCE", 0.0)
    monkeypatch.setattr(records.log, "warning", lambda text, *words: (said.append(text % words), first.release()))
    second.acquire()
    second.release()
    assert len(said) == 1 and f"process {os.getpid()} on" in said[0] and "waiting for it" in said[0]
