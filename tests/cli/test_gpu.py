"""`make gpu` (scripts/gpu.py): one line without a GPU, a file that is whole after each part, a list of wheels that is true."""

import json
import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "gpu.md").read_text()
JUNIT = """<testsuites><testsuite>
<testcase classname="tests.contract.test_contract_on_device" name="test_a_step[rigl]"><properties>
<property name="deviations" value="{'loss': 2e-06, 'answers': 0.0}" /></properties></testcase>
<testcase classname="tests.contract.test_contract_on_device" name="test_a_step[supsup]">
<failure message="apart">x</failure></testcase>
<testcase classname="tests.masks.test_masks_on_device" name="test_b"><skipped /></testcase>
</testsuite></testsuites>"""


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return runpy.run_path(str(ROOT / "scripts" / "gpu.py"))


def change(monkeypatch: pytest.MonkeyPatch, gpu: dict[str, Any], **functions: Any) -> None:
    """Put functions in the place of the script's."""
    for name, function in functions.items():
        monkeypatch.setitem(gpu["main"].__globals__, name, function)


def test_without_a_gpu_one_line_says_so(
    gpu: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    change(monkeypatch, gpu, has_gpu=lambda: False)
    assert gpu["main"](["--output", str(tmp_path / "gpu.json")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 and not list(tmp_path.iterdir())


def test_without_torch_too(gpu: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert gpu["main"]([]) == 2
    assert capsys.readouterr().out == "make gpu needs torch, and this Python has none: install what docs/gpu.md lists.\n"


def test_what_pytest_reports_is_read(gpu: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "junit.xml").write_text(JUNIT)
    assert gpu["read_junit"](tmp_path / "junit.xml") == {
        "passed": 1,
        "skipped": 1,
        "failed": {"test_contract_on_device::test_a_step[supsup]": "apart"},
        "deviations": {"rigl": {"loss": 2e-06, "answers": 0.0}},
    }


def test_the_parts_stand_in_one_file_and_a_failed_test_is_its_exit_status(
    gpu: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path, there = tmp_path / "new" / "gpu.json", []

    def tests(device: str, limit: float, *, every: bool) -> dict[str, Any]:
        assert (device, every) == ("cpu", False) and 0 < limit <= 60
        return {"passed": 3, "failed": {"a": "why"}, "complete": False}

    def bench(device: str, limit: float) -> dict[str, Any]:
        there.append(sorted(json.loads(path.read_text())))  # the part before is kept already
        return {"rows": {"LeNet, fp32, dense": {"milliseconds_per_step": 1.0}}}

    change(monkeypatch, gpu, tests=tests, bench=bench)
    assert gpu["main"](["--device", "cpu", "--only", "tests,bench", "--minutes", "1", "--output", str(path)]) == 1
    report = json.loads(path.read_text())
    assert report["card"] is None and report["torch"] and report["device"] == "cpu"
    assert report["bench"]["rows"] and report["tests"]["passed"] == 3 and "tests" in there[0] and "bench" not in there[0]
    out = capsys.readouterr().out
    assert "3 passed, 1 failed, not all: its time was up" in out and "failed: a: why" in out


def test_a_part_that_does_not_exist_is_refused(gpu: dict[str, Any], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        gpu["main"](["--device", "cpu", "--only", "tests,speed"])
    assert ended.value.code == 2 and "not speed" in capsys.readouterr().err


class Slow:
    """A process that ends when it is told to."""

    def __init__(self, *words: Any, **more: Any) -> None:
        self.returncode, self.told = 1, []

    def communicate(self, timeout: float) -> tuple[str, None]:
        if not self.told:
            raise subprocess.TimeoutExpired("slow", timeout)
        return f"told {self.told}", None

    def send_signal(self, number: int) -> None:
        self.told.append(int(number))


def test_a_process_whose_time_is_up_may_write_what_it_has(gpu: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu["process"](["-c", "print(1)"], 600.0) == (0, "1\n")
    monkeypatch.setattr(subprocess, "Popen", Slow)
    assert gpu["process"](["-c", "print(1)"], 0.1) == (None, f"told [{int(signal.SIGINT)}]")


def test_rows_of_a_table_are_those_that_the_program_wrote(
    gpu: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    def program(words: list[str], limit: float) -> tuple[int, str]:
        name = words[3]
        assert {"budget=quick", "seeds=0", "logger=none", "trainer=cpu"} < set(words)
        if name == "supsup":
            return 2, "looking\nno MNIST here: put its files there"
        (tmp_path / "gpu" / "tables" / name).mkdir(parents=True)
        (tmp_path / "gpu" / "tables" / name / "quick.csv").write_text("id,mean,verdict\na,0.5,holds\nb,0.4,\nc,0.1,fails\n")
        return 0, ""

    change(monkeypatch, gpu, process=program)
    words = ["--device", "cpu", "--only", "tables", "--tables", "packnet,supsup", "--output", str(tmp_path / "gpu.json")]
    assert gpu["main"](words) == 0
    made = json.loads((tmp_path / "gpu.json").read_text())["tables"]["tables"]
    assert [row["id"] for row in made["packnet"]["rows"]] == ["a", "b", "c"]
    assert made["supsup"] == {"rows": [], "why_not": "looking\nno MNIST here: put its files there"}
    out = capsys.readouterr().out
    assert "table packnet: 1 of 2 rows with a rule hold" in out and "table supsup: not made" in out


def test_the_page_states_the_bounds_that_the_tests_hold(gpu: dict[str, Any]) -> None:
    bounds = gpu["tolerances"]()
    assert bounds == {"loss": 1e-4, "gradients": 1e-3, "moved": 1e-4, "bits": 1e-3, "answers": 1e-4}
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", PAGE, re.MULTILINE))
    assert rows["loss of a step"].startswith("1e-4") and rows["what members answer"].startswith("1e-4")
    assert rows["gradients of a step, all together"].startswith("1e-3")
    assert rows["what the step moves: weights, scores, statistics of norms"].startswith("1e-4")
    assert rows["masks that the step itself moves (RigL, SET, gradual)"].startswith("0.1 %")


def test_every_wheel_of_the_page_is_needed_and_none_is_missing(gpu: dict[str, Any], capsys: pytest.CaptureFixture) -> None:
    assert gpu["main"](["--wheels"]) == 0
    needed = {line.partition("==")[0] for line in capsys.readouterr().out.splitlines()}
    section = PAGE[PAGE.index("| wheel | for |") : PAGE.index("Some of them require")]
    told = {name for row in re.findall(r"^\| ([a-z0-9, -]+) \|", section, re.MULTILINE) for name in row.split(", ")} - {"wheel"}
    small = {"tzdata", "six", "typing-extensions", "attrs", "colorama"}  # by versions of what asks for them
    assert needed - small <= told and told <= needed
    assert not {"wandb", "torch", "pytorch-lightning", "numpy"} & needed
