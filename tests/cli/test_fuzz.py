"""Generated command lines: each is refused by sentences that name a key, or runs (scripts/fuzz.py)."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from maskbench.cli import main as program
from maskbench.cli import start

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def fuzz(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    spec = importlib.util.spec_from_file_location("fuzz", SCRIPTS / "fuzz.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_lines_are_accepted_or_refused_by_key(fuzz: ModuleType, monkeypatch, capsys) -> None:
    monkeypatch.setattr(start, "launch", lambda *_, **__: fuzz.ACCEPTED)
    kinds = []
    for words in fuzz.fuzz_lines.lines(14, 2):
        status = program.main(words)
        text = capsys.readouterr().err
        kind = {0: "printed", fuzz.ACCEPTED: "accepted"}.get(status) or fuzz.refusal(status, text, words)
        assert kind in fuzz.RIGHT, (words, text)
        kinds.append(kind)
    assert min(kinds.count("accepted"), kinds.count("refused")) > 1


@pytest.mark.full
def test_equal_seeds_make_equal_lines_in_any_process(fuzz: ModuleType) -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import fuzz_lines; print(list(fuzz_lines.lines(6, 3)))"
    lines = [
        subprocess.run(
            [sys.executable, "-c", code, SCRIPTS],
            env={**os.environ, "PYTHONHASHSEED": salt},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for salt in ("1", "2")
    ]
    assert lines[0] == lines[1] != f"{list(fuzz.fuzz_lines.lines(6, 4))}\n"


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (2, "maskbench: seed=x must be a whole number.", "refused"),
        (2, "maskbench: unknown key 'zzz'.", "refused"),
        (2, "maskbench: something is wrong.", "no key named"),
        (2, "maskbench: seed=x must be whole.\nmaskbench: something else.", "no key named"),
        (2, "maskbench: seed=x is wrong\nmaskbench: 1 job of the sweep failed:\n  -m seed=x: seed=x is wrong", "refused"),
        (2, "maskbench: seed=x is wrong\nmaskbench: 1 job of the sweep failed:\nnothing", "no key named"),
        (2, "", "no key named"),
        (1, "maskbench: TypeError: seed= (traceback in maskbench.log)", "status 1"),
        (2, "Traceback (most recent call last):", "traceback"),
        (-24, "", "over the limit"),
        (-11, "", "signal 11"),
    ],
)
def test_what_counts_as_a_refusal(fuzz: ModuleType, status: int, text: str, kind: str) -> None:
    assert fuzz.refusal(status, text, ["zzz=3", "seed=x"]) == kind


@pytest.mark.full
def test_what_is_accepted_runs_two_steps() -> None:
    done = subprocess.run([sys.executable, SCRIPTS / "fuzz.py", "200", "5"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert " ran" in done.stdout and " refused" in done.stdout
