"""Results of code that has changed: said, done anew beside the earlier one, kept on request, and never called fresh."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.types import RunMode

from maskbench.report.freshness import Freshness
from maskbench.report.runs import load
from maskbench.runs import finished
from maskbench.runs import record as records
from maskbench.runs.record import REDO, Record

LAB = """from helper import SCALE
from maskbench.methods.transfer.fine_tuning import FineTuning

class Mine(FineTuning):
    def loss(self, batch, stage):
        return SCALE * super().loss(batch, stage)
"""
TINY = (
    "method=transfer_finetune", "method._target_=lab.Mine", "data.n_source=300", "data.n_target=12", "data.val=20",
    "data.test=60", "backbone.widths=[24,16]", "budget.steps=20", "budget.batch_size=50", "logger=none", "paths.shared=null",
)  # fmt: skip
LONG = (*TINY, "budget.steps=600", "loop.block=5", "loop.checkpoint_seconds=0")
HOUSE = Path(__file__).resolve().parents[2]


@pytest.fixture
def lab(tmp_path: Path) -> Callable[[float], None]:
    """`lab(scale)`: edit the user's module that the method imports."""

    def edit(scale: float) -> None:
        (tmp_path / "helper.py").write_text(f"SCALE = {scale}\n")

    (tmp_path / "lab.py").write_text(LAB)
    edit(1.0)
    return edit


@pytest.fixture
def run(program: Callable, tmp_path: Path) -> Callable:
    """`run(*words)`: (exit status, what was said) of the command line."""

    def go(*words: str) -> tuple[int, str]:
        process = program(*words)
        process.join()
        return process.exitcode, (tmp_path / "stderr").read_text()

    return go


def folder(tmp_path: Path) -> Path:
    (place,) = (tmp_path / "outputs").glob("*/s0-*")
    return place


def numbers(place: Path) -> dict[str, float]:
    metrics = json.loads((place / "result.json").read_text())["metrics"]
    return {name: value for name, value in metrics.items() if "seconds" not in name}


def kill_at_checkpoint(process, place: Callable[[], list[Path]]) -> None:
    while not place():
        assert process.is_alive()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def test_an_edited_module_is_named_and_the_run_done_anew(run: Callable, lab: Callable, tmp_path: Path) -> None:
    assert run(*TINY)[0] == 0
    place = folder(tmp_path)
    first, code = numbers(place), json.loads((place / "run.json").read_text())["code"]
    assert {"lab", "helper"} <= set(code["modules"])
    assert load(place).freshness == "", "from here the user's modules are out of sight"
    (tmp_path / "helper.py").write_text("# a remark\nSCALE = 1.0  # and another\n")
    written = (place / "result.json").stat().st_mtime_ns
    status, text = run(*TINY)
    assert status == 0 and "stale" not in text and (place / "result.json").stat().st_mtime_ns == written

    lab(1000.0)
    status, text = run(*TINY, "stale=keep")
    assert status == 0 and "is stale: helper changed since 2" in text and numbers(place) == first
    status, text = run(*TINY)
    assert status == 0 and "is stale: helper changed since 2" in text and "it is done anew" in text
    assert numbers(place) != first and not (place / REDO).exists()
    again = json.loads((place / "run.json").read_text())
    assert again["code"]["closure"] != code["closure"] and again["status"] == "finished"
    status, text = run(*TINY)
    assert status == 0 and "stale" not in text


@pytest.mark.full
def test_a_killed_redo_leaves_the_earlier_result_and_goes_on(
    run: Callable, program: Callable, lab: Callable, tmp_path: Path
) -> None:
    assert run(*LONG)[0] == 0
    place = folder(tmp_path)
    first = numbers(place)
    lab(3.0)
    assert run(*LONG, "paths.output=calm")[0] == 0
    (calm,) = (tmp_path / "calm").glob("*/s0-*")
    kill_at_checkpoint(program(*LONG), lambda: list(place.glob(f"{REDO}/state/checkpoint.pt")))
    assert numbers(place) == first and load(place).status == "finished"
    status, text = run(*LONG)
    assert status == 0 and "taking up an interrupted run" in text
    assert numbers(place) == numbers(calm) != first and not (place / REDO).exists()
    assert (place / "metrics.csv").read_bytes() == (calm / "metrics.csv").read_bytes()
    attempts = json.loads((place / "run.json").read_text())["attempts"]
    assert [attempt["status"] for attempt in attempts] == ["interrupted", "finished"]


@pytest.mark.full
def test_force_keeps_the_earlier_result_until_the_new_one_is_whole(
    run: Callable, program: Callable, lab: Callable, tmp_path: Path
) -> None:
    assert run(*LONG)[0] == 0
    place = folder(tmp_path)
    first, rows = numbers(place), (place / "metrics.csv").read_bytes()
    kill_at_checkpoint(program(*LONG, "force=true"), lambda: list(place.glob(f"{REDO}/state/checkpoint.pt")))
    assert numbers(place) == first and (place / "metrics.csv").read_bytes() == rows
    status, text = run(*LONG, "force=true")
    assert status == 0 and "taking up an interrupted run" in text and numbers(place) == first and not (place / REDO).exists()


@pytest.mark.full
def test_an_interrupted_run_goes_on_only_with_its_own_code(
    run: Callable, program: Callable, lab: Callable, tmp_path: Path
) -> None:
    kill_at_checkpoint(program(*LONG), lambda: list((tmp_path / "outputs").glob("*/s0-*/state/checkpoint.pt")))
    place = folder(tmp_path)
    shutil.copytree(place, tmp_path / "copy")
    before = json.loads((place / "run.json").read_text())
    lab(3.0)
    status, text = run(*LONG)
    assert status == 2 and "interrupted, and helper changed since" in text and "stale=redo starts it anew" in text
    assert len(text.splitlines()) == 1 and json.loads((place / "run.json").read_text()) == before

    status, text = run(*LONG, "stale=keep")
    about = json.loads((place / "run.json").read_text())
    assert status == 0 and "taking up an interrupted run" in text and load(place).freshness == "mixed"
    assert about["earlier_codes"] == {before["code"]["closure"]: before["code"]["modules"]}
    assert [attempt["code"] for attempt in about["attempts"]] == [before["code"]["closure"], about["code"]["closure"]]

    shutil.rmtree(place)
    shutil.copytree(tmp_path / "copy", place)
    status, text = run(*LONG, "stale=redo")
    about = json.loads((place / "run.json").read_text())
    assert status == 0 and "taking up" not in text and len(load(place).codes) == 1
    assert list(about["earlier_codes"]) == [before["code"]["closure"]]


@pytest.mark.full
def test_what_of_the_package_makes_a_result_stale(run: Callable, interpreter: Callable, lab: Callable, tmp_path: Path) -> None:
    """In a copy of the package: its own method's file and no other, no remark, nothing of the console."""
    words = [word for word in TINY if not word.startswith("method._target_")]
    assert run(*words)[0] == 0
    house = tmp_path / "house"
    for name in ("maskbench", "conf"):
        shutil.copytree(HOUSE / name, house / name, ignore=shutil.ignore_patterns("__pycache__"))

    def add(file: str, text: str) -> str:
        path = house / "maskbench" / file
        path.write_text(path.read_text() + text)
        return interpreter("where", *words, PYTHONPATH=str(house)).stdout.split()[-1]

    assert add("runs/console.py", "\nx = 1\n") == "fresh"
    assert add("methods/continual/packnet.py", "\nx = 1\n") == "fresh"
    assert add("methods/transfer/fine_tuning.py", "\n# a remark\n") == "fresh"
    assert add("methods/transfer/fine_tuning.py", "\nx = 1\n") == "stale"
    stale = interpreter("results", "--stale", PYTHONPATH=str(house)).stdout
    assert "stale, as maskbench.methods.transfer.fine_tuning changed since: transfer_finetune-" in stale
    assert interpreter("results", "--stale").stdout == "no stale runs in outputs\n"


@pytest.mark.parametrize(("terminal", "line", "choice"), [(True, "n\n", "keep"), (True, "\n", "redo"), (False, "n\n", "redo")])
def test_asking_needs_somebody_who_can_answer(
    terminal: bool, line: str, choice: str, compose: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = SimpleNamespace(isatty=lambda: terminal, readline=lambda: line, write=lambda _: None, flush=lambda: None)
    monkeypatch.setattr(finished, "HydraConfig", SimpleNamespace(get=lambda: SimpleNamespace(mode=RunMode.RUN)))
    monkeypatch.setattr(finished, "sys", SimpleNamespace(stdin=stream, stderr=stream))
    there = finished.Standing({}, Freshness("stale", ["lab"], "then"), Path(), False, Freshness("fresh"))
    assert finished.choice(compose("stale=ask"), there) == choice


@pytest.mark.parametrize("cut", range(6))
def test_a_swap_that_is_cut_anywhere_is_ended_by_the_next(cut: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "run"
    for number, where in enumerate((place, place / REDO)):
        where.mkdir()
        for name in ("run.json", "metrics.csv", "weights.safetensors", "state.json", "result.json"):
            (where / name).write_text(json.dumps({"status": "finished", "of": number}))
        (where / f"{number}.png").touch()
    (place / "notes.txt").write_text("mine")
    replace, calls = os.replace, iter(range(99))

    def killed(*paths: object) -> None:
        if next(calls) == cut:
            raise KeyboardInterrupt
        replace(*paths)

    monkeypatch.setattr(records.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        Record(place).settle()
    seen = Record(place).result
    assert seen is None, "neither the earlier result, whose files are gone, nor the new one, whose are not all there"
    monkeypatch.setattr(records.os, "replace", replace)
    Record(place).settle()
    assert Record(place).result == {"status": "finished", "of": 1}
    assert json.loads((place / "metrics.csv").read_text())["of"] == 1
    assert sorted(p.name for p in place.glob("*.png")) == ["1.png"] and (place / "notes.txt").exists()
    assert not (place / REDO).exists()
