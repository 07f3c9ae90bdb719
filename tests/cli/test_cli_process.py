"""The program as a user meets it: one sentence and status 2 for mistakes, no torch before a run, quick."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

MISTAKES = {
    "methd=supsup": "unknown key 'methd'. Did you mean 'method'?",
    "method=supsap": "no method 'supsap'. Did you mean 'supsup'?",
    "optimizer.lr=abc": "optimizer.lr=abc must be a number",
    "method=supsup task=uncertainty": "method=supsup cannot do task=uncertainty: it does task=continual",
    "data.stages=0": "data.stages=0 must be a whole number at least 1",
    "paths.output=/dev/null/x": "cannot write /dev/null/x",
    "budget.epochs=1 budget.steps=2": "budget.steps=2 and budget.epochs=1 are both set",
    "lst": "unknown command 'lst'. Did you mean 'list'?",
    "optimizer.lr=[": "cannot read 'optimizer.lr=['",
    "+method=dense": "method has a choice already; write method=dense",
    "--flag": "unrecognized arguments: --flag",
}


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-m", "maskbench", *words], cwd=cwd, env=env, capture_output=True, text=True)


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is found from any folder, installed or not."""
    import maskbench

    monkeypatch.setenv("PYTHONPATH", str(Path(maskbench.__file__).parents[1]))


@pytest.mark.sample(5)
@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_sentence_and_status_2(line: str, tmp_path: Path) -> None:
    done = run(*line.split(), cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("maskbench: ") and MISTAKES[line] in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []  # nothing was started


LIGHT = """
import sys
from maskbench.cli.main import main
status = main(sys.argv[1:])
heavy = {"torch", "numpy", "lightning", "pytorch_lightning", "wandb"}
print(status, *sorted(heavy & set(sys.modules)), file=sys.stderr)
"""


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    "line",
    [
        "",
        "--help",
        pytest.param("--cfg job", marks=pytest.mark.full),
        "list",
        "list method",
        pytest.param("show method=packnet", marks=pytest.mark.full),
        pytest.param("where seed=0,1", marks=pytest.mark.full),
        "results",
        pytest.param("table", marks=pytest.mark.full),
        "table lottery --dry",
        "export --help",
        pytest.param("compact --help", marks=pytest.mark.full),
        pytest.param("forget --help", marks=pytest.mark.full),
        pytest.param("-sc query=bash", marks=pytest.mark.full),
    ],
)
def test_what_only_prints_imports_nothing_heavy(line: str, tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    env = {**os.environ, "COMP_LINE": "maskbench method=", "COMP_POINT": "17"}
    words = [sys.executable, "-c", LIGHT, *line.split()]
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True)
    *told, heavy = done.stderr.splitlines()
    assert heavy == "0" and all("runs to do: about" in line for line in told), done.stderr
    assert done.stdout


def test_a_list_of_runs_starts_without_what_reads_configs(tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    more = LIGHT.replace('"wandb"', '"wandb", "omegaconf", "yaml", "urllib.request", "importlib.metadata"')
    done = subprocess.run([sys.executable, "-c", more, "results"], cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr == "0\n" and more != LIGHT


def test_completion_knows_the_choices(tmp_path: Path) -> None:
    env = {**os.environ, "COMP_LINE": "maskbench method=sup", "COMP_POINT": "20"}
    words = [sys.executable, "-m", "maskbench", "-sc", "query=bash"]
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert "method=supsup" in done.stdout


def test_a_closed_pipe_is_no_failure(tmp_path: Path) -> None:
    line = f"{sys.executable} -m maskbench list | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["backbone", "0"] and done.stderr == ""
