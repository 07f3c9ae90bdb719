"""Tags and notes: no part of a run's identity, added to a finished run without spoiling its checksums, shown and found."""

import json
from pathlib import Path

import pytest
from filelock import FileLock

from maskbench.cli import command_line, preflight
from maskbench.cli import main as cli
from maskbench.common import checksums, identity
from maskbench.common.errors import UsageError
from maskbench.report import remarks, runs
from maskbench.runs import record


def finished(seed: int = 0, **config: object) -> Path:
    """A finished run with the list of its files."""
    run = Path("outputs/supsup-toy") / f"s{seed}-0123456789"
    run.mkdir(parents=True)
    config = {"seed": seed, "method": {"name": "supsup"}, "data": {"name": "toy"}} | config
    (run / "run.json").write_text(json.dumps({"status": "finished", "seed": seed, "key": "0123456789", "config": config}))
    result = json.dumps({"status": "finished", "objective": 0.5, "objective_name": "accuracy", "metrics": {"accuracy": 0.5}})
    checksums.write(run, result.encode())
    (run / "result.json").write_text(result)
    return run


def call(words: list[str], capsys: pytest.CaptureFixture) -> tuple[int, str, str]:
    status = cli.main(words)
    told = capsys.readouterr()
    return status, told.out, told.err


def test_a_note_stays_with_a_finished_run_whose_files_are_still_as_written(capsys) -> None:
    run = finished()
    before = {path: path.read_bytes() for path in run.iterdir() if path.name in ("run.json", "result.json")}
    assert call(["note", str(run), "the seed of the talk", "--tags", "talk,final"], capsys)[0] == 0
    assert call(["note", str(run), "and of the paper"], capsys)[0] == 0
    assert {path: path.read_bytes() for path in before} == before
    assert call(["verify", str(run)], capsys)[:2] == (0, "1 run: 1 as written, 0 with faults\n")
    out = call(["show", str(run)], capsys)[1]
    assert "talk, final" in out and "the seed of the talk" in out and "and of the paper" in out
    assert runs.load(run).notes == "the seed of the talk; and of the paper"


def test_a_note_that_somebody_changed_is_a_fault_and_no_longer_shown(capsys) -> None:
    run = finished()
    call(["note", str(run), "a good run"], capsys)
    (path,) = remarks.files(run)
    path.write_text(path.read_text().replace("good", "poor"))
    status, out, _ = call(["verify", str(run)], capsys)
    assert status == 1 and "notes/0001.json is damaged" in out
    assert runs.load(run).notes is None


def test_a_note_that_was_stopped_before_it_was_listed_spoils_nothing(capsys, monkeypatch) -> None:
    run = finished()
    with monkeypatch.context() as patch:
        patch.setattr(checksums, "renew", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert call(["note", str(run), "halted"], capsys)[0] == 130
    assert call(["verify", str(run)], capsys)[0] == 0 and runs.load(run).notes == "halted"


def test_results_show_and_find_tags_and_notes(capsys) -> None:
    finished(0, tags=["talk"], notes="first")
    finished(1)
    call(["note", "outputs/supsup-toy/s1-0123456789", "second", "--tags", "paper"], capsys)
    lines = call(["results"], capsys)[1].splitlines()
    assert [line.split()[-2:] for line in lines[1:]] == [["notes", "accuracy"], ["first", "0.5000"], ["second", "0.5000"]]
    assert (
        "s1-" in call(["results", "--csv", "tags=paper"], capsys)[1]
        and "s0-" not in call(["results", "--csv", "tags=paper"], capsys)[1]
    )
    assert len(call(["results", "--csv", "--where", "tags != talk"], capsys)[1].splitlines()) == 2
    assert len(call(["results", "--csv", "tags=talk,paper"], capsys)[1].splitlines()) == 3


def test_what_cannot_be_noted_is_refused(capsys) -> None:
    run = finished()
    assert "nothing to add" in call(["note", str(run)], capsys)[2]
    assert "is no run directory" in call(["note", "outputs", "text"], capsys)[2]
    lock = FileLock(run / ".lock")
    with lock:
        (run / "result.json").unlink()
        (run / "run.json").write_text('{"status": "running"}')
        status, _, err = call(["note", str(run), "text"], capsys)
    assert status == 2 and "is at work; add the note when it is over" in err


def test_notes_stay_when_a_run_is_done_anew(capsys) -> None:
    run = finished()
    call(["note", str(run), "of the first"], capsys)
    redo = run / record.REDO
    redo.mkdir()
    for name in ("run.json", "result.json"):
        (redo / name).write_bytes((run / name).read_bytes())
    checksums.write(redo, (redo / "result.json").read_bytes())
    record.swap(redo, run)
    assert runs.load(run).notes == "of the first" and "notes/0001.json" in checksums.recorded(run)
    assert call(["verify", str(run)], capsys)[0] == 0


def test_tags_and_notes_are_no_part_of_a_run_s_identity(compose) -> None:
    plain, marked = compose(), compose("tags=[talk,final]", "notes=first")
    assert identity.key(plain) == identity.key(marked) and identity.run_dir(plain) == identity.run_dir(marked)


def test_a_remark_is_taken_as_it_is_written_and_bad_tags_are_refused() -> None:
    text = 'lr halved, as in [2]: "better"? a=b'
    command = command_line.parse([f"notes={text}", "tags=[talk,final]"])
    cfg = command.compose([override.input_line for override in command.overrides])
    assert cfg.notes == text and list(cfg.tags) == ["talk", "final"] and not command.overrides[0].is_sweep_override()
    with pytest.raises(UsageError, match="tags=.* must be a word, or a list of them"):
        preflight.check(["tags={a: 1}"], starts=False)
