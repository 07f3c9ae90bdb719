"""How far runs are and what is left: lines of a sweep, `where --live`, `show RUN --curves`."""

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from filelock import FileLock
from rich.console import Console

from maskbench.cli import command_line, sweep_clock
from maskbench.cli import main as cli
from maskbench.cli.commands import where
from maskbench.cli.estimates import Estimates, question
from maskbench.common import checksums

SWEEP = ["-m", "method=supsup", "seed=0,1,2"]


def finished(folder: Path, seconds: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps({"status": "finished", "cost": {"wall_seconds": seconds}}))
    result = '{"status": "finished", "objective": 0.5}'
    checksums.write(folder, result.encode())
    (folder / "result.json").write_text(result)


def test_a_sweep_says_which_run_of_how_many_begins_and_what_is_left() -> None:
    clock = sweep_clock.of(command_line.parse(SWEEP))
    first, second, third = clock.folders
    assert clock.begins(first) == "run 1 of 3: how long they take is seen after the first"
    finished(first, 600.0)
    clock.ended(first)
    assert clock.begins(second) == "run 2 of 3: about 20 min left"
    finished(third, 600.0)  # by another process
    assert clock.begins(second) == "run 3 of 3: about 10 min left"
    assert clock.begins(Path("another")) == ""


@pytest.mark.parametrize(
    "words", [["seed=0"], ["-m", "seed=0"], [*SWEEP, "hydra/launcher=joblib"], ["-m", f"seed={','.join(map(str, range(99)))}"]]
)
def test_other_commands_have_no_clock(words: list[str]) -> None:
    assert sweep_clock.of(command_line.parse(words)) is None


def test_the_lines_of_a_sweep_come_as_its_runs_begin(runs, capsys) -> None:
    runs(lambda cfg: 0.0)
    assert cli.main(SWEEP) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("run ")]
    assert [line.partition(":")[0] for line in told] == ["run 1 of 3", "run 2 of 3", "run 3 of 3"]


def test_the_live_table_shows_how_far_a_run_is_its_loss_and_what_is_left(tmp_path: Path) -> None:
    folders = [tmp_path / "supsup-toy" / f"s{seed}-0123456789" for seed in range(3)]
    finished(folders[0], 600.0)
    folders[1].mkdir(parents=True)
    started = (datetime.now(UTC) - timedelta(seconds=240)).isoformat()
    (folders[1] / "run.json").write_text(json.dumps({"status": "running", "attempts": [{"started": started}]}))
    (folders[1] / "state.json").write_text(json.dumps({"parts_done": 3, "part": "6/7", "at": 1200}))
    (folders[1] / "metrics.csv").write_text("stage,phase,step,metric,value\n6/7,train,1,loss,2.0\n6/7,train,2,loss,0.5\n")
    times = Estimates({question(folder): None for folder in folders})
    with FileLock(folders[1] / ".lock"):
        states = [where.state(folder) for folder in folders]
        assert states == ["finished", "running", "new"]
        rest = where.ahead(folders, states, times)
        assert rest.told(" left") == "about 16 min left", "6 of the one under way, then 10 of the next"
        page = Console(record=True, width=120, file=io.StringIO())
        page.print(where.grid(folders, states, "counts"))
    rows = page.export_text().splitlines()
    assert rows[2].startswith("supsup-toy/s1-0123456789") and "3 parts done, step 1,200, loss 0.5 █▁" in rows[2]
    assert rows[3].split()[-2:] == ["finished", "0.5000"] and rows[4].split()[-1] == "new"


def test_curves_of_a_run_are_lines_finished_or_not(tmp_path: Path, capsys) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text('{"status": "running"}')
    assert cli.main(["show", str(run), "--curves"]) == 2 and "has no history yet" in capsys.readouterr().err
    (run / "metrics.csv").write_text("stage,phase,step,metric,value\n0/1,train,50,loss,2.0\n0/1,train,100,loss,0.5\n")
    assert cli.main(["show", str(run), "--curves"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["part", "phase", "metric", "steps", "first", "last", "curve"]
    assert row.split() == ["0/1", "train", "loss", "100", "2.0000", "0.5000", "█▁"]
