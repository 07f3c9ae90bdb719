"""Processes side by side: a crash takes no other with it; what is finished is not started; others' work is waited for."""

import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from maskbench.cli import jobs
from maskbench.cli.estimates import Estimates
from maskbench.cli.jobs import Job

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import json, os, signal, sys
from pathlib import Path
how, folder = sys.argv[1], Path(sys.argv[2])
folder.mkdir(parents=True, exist_ok=True)
(folder / "calls").open("a").write(how + "\\n")
print("part 1 of 2, half way: loss 0.5", file=sys.stderr, flush=True)
if how == "crash":
    os.kill(os.getpid(), signal.SIGKILL)
if how == "refuse":
    sys.exit("maskbench: budget.steps=0 must be at least 1.")
if how == "sweep":
    sys.exit("maskbench: 2 jobs of the sweep failed:\\n  seed=1: no space left.\\n  seed=2: no space left.")
if how == "break":
    raise ValueError("out of cheese")
if how == "empty":
    sys.exit(0)
for name in ("run.json", "result.json"):
    (folder / name).write_text(json.dumps({"status": "finished"}))
"""


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Job]:
    """`job(how, name)`: a job whose process behaves as `how` says, in the folder `name`."""
    (tmp_path / "program.py").write_text(PROGRAM)
    monkeypatch.setattr(jobs, "PROGRAM", (sys.executable, str(tmp_path / "program.py")))
    return lambda how, name, **more: Job(name, [how, str(tmp_path / name)], [tmp_path / name], **more)


def calls(job: Job) -> int:
    path = job.folders[0] / "calls"
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.mark.parametrize("parallel", [1, 3])
def test_a_crashed_job_takes_no_other_with_it_and_is_reported(job: Callable, parallel: int, capfd) -> None:
    reasons = {
        "crash": "killed by signal 9; the last it said: part 1 of 2, half way: loss 0.5",
        "refuse": "budget.steps=0 must be at least 1.",
        "empty": "exit status 0; the last it said: part 1 of 2, half way: loss 0.5",
    }
    all_jobs = [job("work", "a"), *(job(how, how) for how in reasons), job("work", "e")]
    failed = jobs.run(all_jobs, parallel)
    assert {one.label: one.note for one in failed} == reasons
    assert [one.status for one in all_jobs] == ["finished", "failed", "failed", "failed", "finished"]
    told = capfd.readouterr().err.splitlines()
    assert told[-1].startswith("5 of 5 jobs over, ") and all_jobs[1].parts == "1 of 2"
    assert len(told) == 10, "a line when a job starts and one when it ends"
    assert any(line.endswith("refuse: failed: budget.steps=0 must be at least 1.") for line in told)


def test_the_reason_of_a_sweep_and_of_an_unforeseen_end_is_kept(job: Callable) -> None:
    failed = jobs.run([job("sweep", "a"), job("break", "b")], 2)
    assert [one.note for one in failed] == [
        "2 jobs of the sweep failed: seed=1: no space left.",
        "exit status 1; the last it said: ValueError: out of cheese",
    ]


def test_what_is_finished_is_not_started_and_the_rest_is(job: Callable) -> None:
    jobs.run([job("work", "a")], 1)
    again = [job("work", "a"), job("work", "b"), job("work", "a", fresh=True)]
    assert jobs.run(again[:2], 2) == []
    assert [one.status for one in again[:2]] == ["earlier", "finished"] and calls(again[0]) == 1
    jobs.run(again[2:], 1)
    assert calls(again[0]) == 2, "fresh: done anew"


def test_a_run_that_another_process_is_at_work_on_is_waited_for(job: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "PATIENCE", 0.05)
    one = job("work", "a")
    (folder,) = one.folders
    folder.mkdir()
    (folder / "run.json").write_text('{"status": "running"}')
    lock = FileLock(folder / ".lock", thread_local=False)
    lock.acquire()

    def other() -> None:
        time.sleep(0.4)
        assert one.status == "elsewhere" and calls(one) == 0
        (folder / "result.json").write_text('{"status": "finished"}')
        lock.release()

    thread = threading.Thread(target=other)
    thread.start()
    assert jobs.run([one], 1) == []
    thread.join()
    assert one.status == "earlier" and calls(one) == 0


def test_the_live_table_counts_all_and_shows_what_fails_first(job: Callable) -> None:
    all_jobs = [job("work", f"a{i}") for i in range(40)]
    all_jobs[30].status, all_jobs[30].note = "failed", "[red] no space"
    grid = jobs.Progress(all_jobs, None, 2, Estimates({})).grid()
    assert grid.title == "39 waiting, 1 failed" and grid.row_count == jobs.SHOWN
    assert next(iter(grid.columns[0].cells)) == "a30" and "\\[red]" in next(iter(grid.columns[3].cells))


@pytest.fixture
def several(tmp_path: Path) -> tuple[list[Job], Estimates]:
    """Three runs of a question that took 100 s on an earlier seed, and one that nobody timed."""
    places = [tmp_path / "supsup-mnist" / name for name in ("s1-a", "s2-a", "s3-a", "s0-b")]
    times = Estimates({})
    times.measured = {places[0].with_name("a"): {places[0].with_name("s0-a"): 100.0}}
    return [Job(place.name, [], [place]) for place in places], times


def test_what_is_left_goes_by_the_runs_that_are_done(several: tuple) -> None:
    waiting, times = several
    assert jobs.ahead(waiting, 2, times).told(" left") == "about 3 min left, without 1 that were never timed"
    waiting[0].status, waiting[0].started = "running", time.monotonic() - 60
    rest = jobs.ahead(waiting, 2, times)
    assert (rest.runs, rest.unknown) == (4, 1) and 100 <= rest.seconds <= 140, "the running one is soon done"
    waiting[1].spent = 95.0
    assert waiting[1].left(times) == 5.0, "it was interrupted late"


def test_a_line_tells_how_far_each_is_and_what_is_left(several: tuple, capfd, monkeypatch: pytest.MonkeyPatch) -> None:
    (first, *_, last), times = several
    monkeypatch.setattr(jobs, "PERIOD", 0.0)
    tell = jobs.Progress(several[0], None, 2, times)
    (place,) = first.folders
    place.mkdir(parents=True)
    (place / "state.json").write_text('{"parts_done": 3, "part": "level 3", "phase": 0, "at": 1200}')
    first.parts, first.steps = "3 of 10", 4000
    first.status = last.status = "running"
    first.started = last.started = time.monotonic()
    tell.refresh()
    first.status = "finished"
    tell.line(first)
    among, end = capfd.readouterr().err.splitlines()
    left = r"about (\d min|\d+ s) left"
    assert re.fullmatch(
        rf"0 of 4 jobs over, \d+ s so far, {left}, without 1 that were never timed: "
        rf"s1-a \(3 of 10 parts done, step 1,200 of 4,000; {left}\); s0-b \(\d+ s\)",
        among,
    )
    assert re.fullmatch(rf"1 of 4 jobs over, s1-a: finished in 0 s; \d+ s so far, {left}, without 1 that were never timed", end)


def test_being_asked_to_terminate_leaves_no_process_at_work(tmp_path: Path) -> None:
    """The processes it started are told so too, and may save; what waits is not started."""
    (tmp_path / "slow.py").write_text("import sys, time\nopen(sys.argv[1], 'w').write('here')\ntime.sleep(60)\n")
    main = f"""
import subprocess
import sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from maskbench.cli import jobs
jobs.PROGRAM = (sys.executable, {str(tmp_path / "slow.py")!r})
print("ready", flush=True)
try:
    jobs.run([jobs.Job(name, [name], [Path(name)]) for name in ("a", "b")], 1)
except KeyboardInterrupt:
    sys.exit(130)
"""
    process = subprocess.Popen([sys.executable, "-c", main], cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    while not (tmp_path / "a").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.terminate()
    process.communicate(timeout=50)  # ends only when nobody holds its streams any more
    assert process.returncode == 130 and not (tmp_path / "b").exists()
