"""The index of runs never changes an answer: whatever is edited, copied, removed or killed, and whoever else is at work."""

import json
import os
import shutil
import signal
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskbench.common import checksums
from maskbench.report import index, runs


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run is worth an index, and none is too young for one: the tests see to it themselves that clocks go on."""
    monkeypatch.setattr(index, "FEWEST", 1)
    monkeypatch.setattr(index, "clock", lambda: 1e12)


def told(found: list[runs.Run]) -> list[tuple]:
    """All that a run says of itself."""
    return [
        (str(run.folder), dict(run.about), dict(run.result), run.fault, run.status, run.freshness, run.notes, list(run.names))
        for run in found
    ]


def plainly(output: Path) -> list[tuple]:
    return told([runs.load(folder) for folder in runs.folders(output)])


def indexed(output: Path) -> list[tuple]:
    return told(runs.loaded(list(runs.folders(output))))


def tick(folder: Path) -> None:
    """Until the clock of the file system has gone on, so that a change from now on shows."""
    probe = folder / ".probe"
    probe.touch()
    first = probe.stat().st_ctime_ns
    while probe.stat().st_ctime_ns == first:
        os.utime(probe)


def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the runs that are read from their folders from now on."""
    seen: list[str] = []
    load = runs.load
    monkeypatch.setattr(runs, "load", lambda folder: seen.append(folder.name) or load(folder))
    return seen


@pytest.fixture
def three(record: Callable[..., Path], tmp_path: Path) -> Path:
    """Two seeds of one setting and one run of another, all finished, the first with its files listed."""
    first = record(0, {"accuracy": 0.5, "nll": float("nan"), "rows": [[1]]})
    record(1, {"accuracy": 0.25, "forgetting": None}, dirty=True, config={"optimizer": {"lr": 0.1, "betas": [0.9, 0.999]}})
    record(0, {"accuracy": 0.75}, method="packnet", config={"tags": ["a"], "code": {}})
    checksums.write(first, (first / "result.json").read_bytes())
    return tmp_path / "outputs"


def test_a_run_is_read_once_and_says_the_same_afterwards(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = plainly(three)
    assert str(indexed(three)) == str(before) and index.path(three).is_file()
    seen = reads(monkeypatch)
    assert str(indexed(three)) == str(before) and seen == [], "NaN is not equal to itself, and its text is"
    one, other = (run.config["budget"] for run in runs.read(three)[1:])
    assert one is other, "what runs have in common is held once"


def test_seeds_of_one_setting_share_what_follows_from_it(tmp_path: Path) -> None:
    output = tmp_path / "outputs"
    for seed in (0, 1):
        simple(output, "supsup", seed)
    assert [run.config["seed"] for run in runs.read(output)] == [0, 1]
    one, other = runs.read(output)
    assert one.blocks is other.blocks and one.config["budget"] is other.config["budget"]
    assert [json.dumps(run.config) for run in (one, other)] == [json.dumps(runs.load(run.folder).config) for run in (one, other)]
    alone = simple(output, "supsup", 2)
    alone.joinpath("run.json").write_text(json.dumps({"status": "running", "config": {"seed": 3, "tags": ["a"], "x": {}}}))
    assert told(runs.loaded([alone])) == told(runs.loaded([alone])) == told([runs.load(alone)]), "no choices, no code, no key"


CHANGES = ("metric", "same length", "same times", "config", "no result", "damaged", "failed", "locked", "note", "copy", "swap")
CHANGES += ("remove", "rename", "unlisted", "index gone", "index bytes", "index cut", "index of other code", "index a folder")


def change(kind: str, output: Path, number: int) -> None:
    """One thing that happens to a folder of runs; nothing where it does not apply."""
    found = list(runs.folders(output))
    if not found:
        return
    run, other = found[number % len(found)], found[(number + 1) % len(found)]
    result, about, file = run / "result.json", run / "run.json", index.path(output)
    if kind in ("metric", "same length", "same times") and result.exists():
        status = result.stat()
        text = result.read_text()
        made = text.replace("0.", f"0.{number % 10}" if kind == "metric" else "1.", 1)
        result.write_text(made)
        if kind == "same times":
            os.utime(result, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif kind == "config":
        about.write_text(about.read_text().replace('"batch_size": 128', f'"batch_size": {number}'))
    elif kind == "no result":
        result.unlink(missing_ok=True)
    elif kind == "damaged":
        about.write_bytes(about.read_bytes()[: number * 7])
    elif kind == "failed":
        about.write_text(about.read_text().replace('"status": "finished"', '"status": "running"'))
        result.unlink(missing_ok=True)
    elif kind == "locked":
        (run / ".lock").touch()
    elif kind == "note":
        (run / "notes").mkdir(exist_ok=True)
        (run / "notes" / f"{number + 1:04d}.json").write_text(json.dumps({"at": "now", "text": f"note {number}", "tags": ["t"]}))
    elif kind == "copy" and run.name != f"s9-{number}":
        shutil.copytree(run, run.with_name(f"s9-{number}"), dirs_exist_ok=True)  # with the times of the original
    elif kind == "swap" and run != other:
        run.rename(output / "aside")
        other.rename(run)
        (output / "aside").rename(other)
    elif kind == "remove":
        shutil.rmtree(run)
    elif kind == "rename":
        if not (aside := run.with_name(f"s8-{number}")).exists():
            run.rename(aside)
    elif kind == "unlisted":
        (run / checksums.NAME).unlink(missing_ok=True)
    elif kind.startswith("index") and file.is_file():
        if kind == "index gone":
            file.unlink()
        elif kind == "index bytes":
            content = bytearray(file.read_bytes())
            for place in range(number * 97 % 4096, len(content), 4096):
                content[place] ^= 0xFF
            file.write_bytes(content)
        elif kind == "index cut":
            file.write_bytes(file.read_bytes()[: number * 1000])
        elif kind == "index a folder":
            file.unlink()
            file.mkdir()
        else:
            with suppress(sqlite3.Error), sqlite3.connect(file) as connection:
                connection.execute("UPDATE made SET by = 'other'")
    elif kind == "index gone" and file.is_dir():
        file.rmdir()


@given(many=st.booleans(), steps=st.lists(st.tuples(st.sampled_from(CHANGES), st.integers(0, 40)), max_size=5))
def test_no_change_of_runs_or_of_the_index_changes_an_answer(
    many: bool, steps: list, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Asked for each run, or read at once as where there are many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "FEWEST", 1 if many else 1000)
        happens(steps, tmp_path_factory)


def happens(steps: list, tmp_path_factory: pytest.TempPathFactory) -> None:
    output = tmp_path_factory.mktemp("made") / "outputs"
    for method, seed in (("supsup", 0), ("supsup", 1), ("packnet", 0)):
        simple(output, method, seed)
    for kind, number in steps:
        indexed(output)
        tick(output.parent)
        change(kind, output, number)
        assert str(indexed(output)) == str(plainly(output)), kind


def simple(output: Path, method: str, seed: int) -> Path:
    run = output / f"{method}-toy" / f"s{seed}-k1"
    run.mkdir(parents=True)
    config = {"seed": seed, "method": {"name": method}, "data": {"name": "toy"}, "budget": {"epochs": 3, "batch_size": 128}}
    about = {"status": "finished", "key": "k1", "seed": seed, "config": config, "choices": {"method": method}}
    (run / "run.json").write_text(json.dumps(about))
    result = {"status": "finished", "objective": 0.5, "objective_name": "accuracy", "metrics": {"accuracy": 0.5 + seed / 8}}
    checksums.write(run, json.dumps(result).encode())
    (run / "result.json").write_text(json.dumps(result))
    return run


# ---- processes


def child(work: Callable[[], bool]) -> int:
    """Fork; the child ends with 0 where `work` says True. Its process id."""
    if (number := os.fork()) == 0:
        status = 1
        with suppress(BaseException):
            status = 0 if work() else 1
        os._exit(status)
    return number


def ended(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def fresh(output: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the index knows all that the runs say."""
    with monkeypatch.context() as patch:
        seen, found = reads(patch), indexed(output)
    return seen == [] and str(found) == str(plainly(output))


@pytest.mark.parametrize("moment", [*range(1, 9), 20])
def test_a_kill_at_any_statement_leaves_what_was_there_or_what_was_to_be(
    three: Path, moment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    indexed(three)
    tick(three)
    change("metric", three, 0)

    class Dying(sqlite3.Connection):
        count = 0

        def _next(self) -> None:
            Dying.count += 1
            if Dying.count == moment:
                os.kill(os.getpid(), signal.SIGKILL)

        def execute(self, *words):
            self._next()
            return super().execute(*words)

        def executemany(self, *words):
            self._next()
            return super().executemany(*words)

    connect = sqlite3.connect

    def work() -> bool:
        sqlite3.connect = lambda *words, **more: connect(*words, factory=Dying, **more)
        indexed(three)
        return True

    assert ended(child(work)) == -signal.SIGKILL
    assert str(indexed(three)) == str(plainly(three))
    assert fresh(three, monkeypatch), "what the killed one did not write, the next did"


def test_several_processes_at_once_give_the_answer_and_leave_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(12):
        simple(tmp_path / "outputs", "supsup", seed)
    expected = str(plainly(tmp_path / "outputs"))
    processes = [child(lambda: all(str(indexed(tmp_path / "outputs")) == expected for _ in range(5))) for _ in range(4)]
    assert [ended(one) for one in processes] == [0] * 4
    assert fresh(tmp_path / "outputs", monkeypatch)


def test_an_index_that_another_process_holds_is_done_without(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    indexed(three)
    monkeypatch.setattr(index, "PATIENCE", 0.0)
    holder = sqlite3.connect(index.path(three), isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    assert str(indexed(three)) == str(plainly(three))
    holder.close()
    assert fresh(three, monkeypatch)


# ---- folders and files that are not for us


@pytest.fixture
def apart() -> Iterator[Path]:
    """A folder that every user may read and write."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o777)
        yield Path(place)


def as_user(work: Callable[[], bool]) -> bool:
    """What the work gives as a user whom rights bind: root has a child become one."""

    def bound() -> bool:
        os.setuid(65534)
        return work()

    return ended(child(bound)) == 0 if os.getuid() == 0 else work()


def test_a_folder_that_cannot_be_written_is_read(apart: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> bool:
        simple(apart / "outputs", "supsup", 0)
        expected = str(plainly(apart / "outputs"))
        (apart / "outputs").chmod(0o555)
        without = str(indexed(apart / "outputs")) == expected and not index.path(apart / "outputs").exists()
        (apart / "outputs").chmod(0o755)
        indexed(apart / "outputs")
        (apart / "outputs").chmod(0o555)
        index.path(apart / "outputs").chmod(0o444)
        known = fresh(apart / "outputs", monkeypatch)
        tick(apart)
        change("metric", apart / "outputs", 3)
        changed = str(indexed(apart / "outputs")) == str(plainly(apart / "outputs"))
        (apart / "outputs").chmod(0o755)
        return without and known and changed

    assert as_user(work)


def test_a_run_that_may_no_longer_be_read_is_not_told_from_the_index(apart: Path) -> None:
    def work() -> bool:
        run = simple(apart / "outputs", "supsup", 0)
        indexed(apart / "outputs")
        tick(apart)
        (run / "run.json").chmod(0)
        (one,) = runs.loaded([run])
        return "cannot be read" in one.fault

    assert as_user(work)


@pytest.mark.parametrize("what", ["link", "folder", "another's"])
def test_what_lies_there_and_is_no_index_of_ours_stays_as_it_is(three: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file, other = index.path(three), three.parent / "precious"
    other.write_bytes(b"precious")
    if what == "link":
        file.symlink_to(other)
    elif what == "folder":
        file.mkdir()
    else:
        file.write_bytes(b"precious")
        monkeypatch.setattr(index, "_ours", lambda file: False)
    assert str(indexed(three)) == str(plainly(three))
    assert other.read_bytes() == b"precious" and (what != "link" or file.is_symlink())
    assert what != "another's" or file.read_bytes() == b"precious"


def test_what_has_just_changed_is_not_kept_and_few_runs_have_no_index(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second change within one tick of the file system's clock would leave the file's times as they are."""
    newest = max(path.stat().st_ctime for path in three.rglob("*.json"))
    monkeypatch.setattr(index, "clock", lambda: newest + index.MARGIN / 2)
    indexed(three)
    assert not index.path(three).exists()
    monkeypatch.setattr(index, "clock", lambda: newest + 2 * index.MARGIN)
    monkeypatch.setattr(index, "FEWEST", 4)
    indexed(three)
    assert not index.path(three).exists()
    monkeypatch.setattr(index, "FEWEST", 3)
    indexed(three)
    assert fresh(three, monkeypatch)
