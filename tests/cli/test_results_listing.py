"""`maskbench results` on a terminal: the keys in which runs differ, 80 columns, --where, --sort, --best."""

import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from fcntl import ioctl
from pathlib import Path

import pytest

from maskbench.cli import main as cli
from maskbench.report import runs as records
from maskbench.report.differing import differing
from maskbench.report.fitted import Column, fitted

LONG = "average_accuracy_inferred_of_all_stages"


def record(method: str, seed: int, lr: float = 0.1, overrides: tuple[str, ...] = (), **numbers: float) -> Path:
    """A finished run with one knob of its own and one that all runs share; its key names its settings."""
    key = f"{method[:2]}{lr}".replace(".", "").ljust(10, "0")
    run = Path("outputs") / f"{method}-toy" / f"s{seed}-{key}"
    run.mkdir(parents=True)
    own = {"supsup": {"top": 0.5}, "packnet": {"share": 0.75}}[method]
    config = {"seed": seed, "method": {"name": method, **own}, "data": {"name": "toy"}, "task": {"name": "continual"}}
    config |= {"optimizer": {"lr": lr, "momentum": 0.9}, "budget": {"steps": 9, "batch_size": 128}}
    about = {"status": "finished", "seed": seed, "key": key, "config": config, "commit": "c0ffee" * 7, "dirty": False}
    metrics = {"average_accuracy": 0.5, LONG: 0.123456, "forgetting": 0.0, "task_inference_accuracy": 1 / 3} | numbers
    result = {"status": "finished", "objective": metrics["average_accuracy"], "objective_name": "average_accuracy"}
    result |= {"metrics": metrics, "source": "npm", "method": method, "data": "toy", "task": "continual"}
    (run / "run.json").write_text(json.dumps(about | {"overrides": list(overrides)}))
    (run / "result.json").write_text(json.dumps(result))
    return run


@pytest.fixture
def six() -> None:
    for seed, accuracy in enumerate((0.9, 0.8)):
        record("supsup", seed, 0.1, average_accuracy=accuracy, forgetting=0.2 + seed)
        record("supsup", seed, 0.01, average_accuracy=accuracy + 0.05, forgetting=0.1)
        record("packnet", seed, 0.1, average_accuracy=accuracy - 0.4, forgetting=float("nan") if seed else 0.3)


def told(words: list[str], capsys: pytest.CaptureFixture) -> list[str]:
    assert cli.main(["results", *words]) == 0
    return capsys.readouterr().out.splitlines()


def refused(words: list[str], capsys: pytest.CaptureFixture) -> str:
    assert cli.main(["results", *words]) == 2
    out, err = capsys.readouterr()
    assert not out and len(err.splitlines()) == 1
    return err


def on_terminal(words: list[str], columns: int) -> list[str]:
    """What the command says on a real terminal of that many columns."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, "-m", "maskbench", "results", *words]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    said = b""
    try:
        while chunk := os.read(ours, 65536):
            said += chunk
    except OSError:  # how Linux says that nobody holds the other side any more
        pass
    os.close(ours)
    assert process.wait() == 0, said.decode()
    return said.decode().replace("\r\n", "\n").splitlines()


# ---- which keys


def test_the_keys_in_which_runs_differ_are_shown_and_no_others(six, capsys) -> None:
    lines = told(["method=supsup"], capsys)
    assert lines[0] == "all 4 runs: method=supsup data=toy status=finished"
    assert lines[1].split()[:3] == ["seed", "key", "optimizer.lr"] and "momentum" not in lines[1] and "top" not in lines[1]
    assert {line.split()[2] for line in lines[2:6]} == {"0.1000", "0.0100"}


def test_what_follows_from_the_method_is_named_below_and_no_column(six, capsys) -> None:
    lines = told([], capsys)
    assert lines[1].split()[:4] == ["method", "seed", "key", "optimizer.lr"]
    assert lines[-1].startswith("With these also differ method.") and "method.top" in lines[-1] and "method.share" in lines[-1]


def test_a_key_that_a_command_set_is_shown_although_each_method_has_one_value() -> None:
    record("supsup", 0, 0.1)
    record("packnet", 0, 0.3, overrides=("optimizer.lr=0.3",))
    assert differing(records.read(Path("outputs")))[0] == ["optimizer.lr"]


def test_one_run_shows_all_that_identifies_it(capsys) -> None:
    record("supsup", 0)
    assert told([], capsys)[0].split()[:5] == ["method", "data", "seed", "key", "status"]


# ---- 80 columns


def test_on_a_terminal_of_80_columns_no_line_is_longer_and_no_number_broken(six) -> None:
    lines = on_terminal([], 80)
    assert max(map(len, lines)) <= 80
    rows = [line for line in lines if line.startswith(("supsup", "packnet"))]
    assert len(rows) == 6, "one line a run"
    assert all(re.fullmatch(r"[a-z]+|\d+|\d+\.\d{4}|[a-z]{2}\d{8}|-", word) for row in rows for word in row.split())
    assert sum("0.1235" in row for row in rows) == 6, "the metric with the long name is there, its heading on several lines"


def test_what_has_no_room_is_named_and_what_was_asked_for_comes_in_a_block_of_its_own() -> None:
    key = Column("key", ["0123456789", "abcdefabcd"], 0)
    wide = [Column(f"metric_{'x' * 12}{i}", [i + 0.123456, -1234.5], 4, named=i > 3) for i in range(6)]
    table, left_out = fitted([key, *wide], 40)
    assert all(len(line) <= 40 for line in table.splitlines())
    blocks = [block.splitlines() for block in table.split("\n\n")]
    assert all(block[-1].startswith("abcdefabcd") and block[-2].startswith("0123456789") for block in blocks)
    shown = [name for name in (one.name for one in wide) if name not in left_out]
    assert {wide[4].name, wide[5].name} <= set(shown) and left_out, "named ones are never left out"
    assert sum(block[-1].count("-1234.5000") for block in blocks) == len(shown)


def test_words_are_cut_before_a_column_goes_and_numbers_never() -> None:
    columns = [Column("key", ["0123456789"], 0), Column("note", ["a long remark on what was tried"]), Column("n", [123456789012])]
    table, left_out = fitted(columns, 45)
    assert "a long remark on …" in table and "123456789012" in table and not left_out
    assert fitted(columns, None)[0].splitlines()[1] == "0123456789  a long remark on what was tried  123456789012"


# ---- --where, --sort, --best


@pytest.mark.parametrize(
    ("condition", "kept"),
    [
        ("average_accuracy > 0.86", 2),
        ("average_accuracy>=0.9", 2),
        ("optimizer.lr < 1e-1", 2),
        ("method != supsup", 2),
        ("seed = 1", 3),
        ("forgetting <= 0.2", 3),
    ],
)
def test_conditions_keep_the_runs_of_which_they_hold(condition: str, kept: int, six, capsys) -> None:
    assert len(told(["--csv", "--where", condition], capsys)) - 1 == kept


def test_conditions_hold_together_and_what_is_none_is_refused(six, capsys) -> None:
    assert len(told(["--csv", "--where", "seed = 0", "--where", "optimizer.lr = 0.01"], capsys)) == 2
    assert "is no condition" in refused(["--where", "accuracy"], capsys)
    assert "high is no number" in refused(["--where", "average_accuracy > high"], capsys)
    assert "'method' is a number in no run here" in refused(["--where", "method > 3"], capsys)
    assert "Did you mean 'forgetting'?" in refused(["--where", "forgeting > 3"], capsys)


def test_rows_are_sorted_from_the_best_and_undefined_numbers_come_last(six, capsys) -> None:
    def column(*words: str) -> list[str]:
        lines = told(["--csv", "metrics=forgetting,average_accuracy", *words], capsys)
        place = lines[0].split(",").index(words[1])
        return [line.split(",")[place] for line in lines[1:]]

    accuracies = [float(value) for value in column("--sort", "average_accuracy")]
    assert accuracies == sorted(accuracies, reverse=True), "more is better"
    assert column("--sort", "forgetting") == ["0.1", "0.1", "0.2", "0.3", "1.2", "nan"], "less is better"
    assert column("--sort", "forgetting", "--reverse") == ["1.2", "0.3", "0.2", "0.1", "0.1", "nan"]
    assert column("--sort", "seed") == ["0", "0", "0", "1", "1", "1"]


def test_the_best_run_of_each_method_says_among_how_many_it_was_picked(six, capsys) -> None:
    lines = told(["--best", "average_accuracy"], capsys)
    rows = {line.split()[0]: line for line in lines if line.startswith(("supsup", "packnet"))}
    assert len(rows) == 2 and "0.9500" in rows["supsup"] and "0.5000" in rows["packnet"]
    assert "The run with the highest average_accuracy (packnet on toy of 2, supsup on toy of 4)" in " ".join(lines)
    lines = told(["--best", "forgetting", "method=supsup"], capsys)
    assert "0.1000" in " ".join(lines) and "lowest forgetting" in " ".join(lines)
    assert "--best is about single runs" in refused(["--best", "forgetting", "group=method"], capsys)
    assert "Did you mean 'forgetting'?" in refused(["--best", "forgeting"], capsys)
