"""A table interrupted and then killed in the middle, with all it started, ends with the bytes of an undisturbed one."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.full
COMMON = ["data=splitmnist", "data.base=synthetic", "task.trials=5", "task.probe=20", "backbone.widths=[32,16]"]
TABLE = {
    "title": "A tiny table",
    "paper": "nobody's",
    "seeds": [0, 1],
    "runs": {
        "packnet": ["method=packnet", *COMMON, "budget.steps=120", "loop.checkpoint_seconds=0.05", "loop.block=5"],
    },
    "metric": "average_accuracy",
    "transform": "percent",
    "rows": [
        {"id": "packnet", "name": "PackNet", "rule": {"at_most": 100, "rests_on": "exact"}},
        {
            "id": "drift",
            "name": "drift",
            "metric": "logit_drift",
            "transform": "none",
            "rule": {"equals": 0, "rests_on": "exact"},
        },
    ],
}


def start(folder: Path, data_root: Path, *more: str, jobs: int = 2) -> subprocess.Popen:
    """`maskbench table tiny` in a process group of its own."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    words = [
        "table",
        "tiny",
        "--config-dir",
        "conf",
        f"jobs={jobs}",
        "mixed=allow",
        *more,
    ]  # whoever edits the checkout meanwhile
    return subprocess.Popen(
        [sys.executable, "-m", "maskbench", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path, "MASKBENCH_DATA": str(data_root), "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it, and so do its own
    )


def finished(folder: Path) -> int:
    return len(list(folder.glob("outputs/*/s*/result.json")))


def saved(folder: Path) -> int:
    return len(list(folder.glob("outputs/*/s*/state/checkpoint.pt")))


def kill_when(happened: Callable[[], bool], process: subprocess.Popen, number: signal.Signals = signal.SIGKILL) -> None:
    end = time.monotonic() + 600
    while not happened():
        assert process.poll() is None, f"the table ended before it was killed:\n{process.stdout.read()}"
        assert time.monotonic() < end
        time.sleep(0.002)
    os.killpg(process.pid, number)
    process.wait()
    process.stdout.close()


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "outputs" / "tables" / "tiny").iterdir())}


@pytest.fixture
def place(tmp_path: Path) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        (tmp_path / name / "conf" / "table").mkdir(parents=True)
        (tmp_path / name / "conf" / "table" / "tiny.yaml").write_text(yaml.safe_dump(TABLE))
        return tmp_path / name

    return make


def test_a_table_interrupted_and_killed_ends_with_the_bytes_of_an_undisturbed_one(place: Callable, data_root: Path) -> None:
    calm, killed = place("calm"), place("killed")
    kill_when(lambda: saved(killed) >= 1, process := start(killed, data_root), signal.SIGINT)
    assert process.returncode == 130 and finished(killed) == 0
    # one after the other: of two side by side both may have ended when the first is seen to
    kill_when(lambda: finished(killed) >= 1, process := start(killed, data_root, jobs=1))
    assert process.returncode == -signal.SIGKILL and not (killed / "outputs" / "tables").exists()
    partial, _ = start(killed, data_root, "--partial").communicate(timeout=900)
    assert partial.startswith("1 run to do (1 done before): about ") and "incomplete" in partial and finished(killed) == 1

    told = {}
    for folder in (killed, calm):
        process = start(folder, data_root)
        told[folder], _ = process.communicate(timeout=900)
        assert process.returncode == 0, told[folder]
    assert told[killed].splitlines()[1].startswith("1 of 2 jobs over, "), "what was finished is not done again"
    attempts = [json.loads(path.read_text())["attempts"] for path in killed.glob("outputs/*/s*/run.json")]
    assert max(map(len, attempts)) >= 2, "something was taken up"

    for name, content in written(calm).items():
        assert codeless(killed, written(killed)[name]) == codeless(calm, content), name
    assert written(calm).keys() == {"quick.md", "quick.csv", "quick.tex", "quick.png", "quick.svg", "scoreboard-quick.md"}
    assert "| PackNet | 2 |" in (calm / "outputs/tables/tiny/quick.md").read_text()


def codeless(folder: Path, content: bytes) -> bytes:
    """The bytes with the names of the code that ran taken out: a checkout may be edited between two runs of a test."""
    codes = {a["code"] for path in folder.glob("outputs/*/s*/run.json") for a in json.loads(path.read_text())["attempts"]}
    told = content.decode(errors="surrogateescape")
    for code in sorted(codes, key=len, reverse=True):  # one may be the start of another
        told = told.replace(f", {code}", "").replace(code, "CODE")
    return told.encode(errors="surrogateescape")
