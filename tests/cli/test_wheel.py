"""The program as a user installs it: from a wheel, in a clean environment, run from a directory of its own."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.full


def call(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(
        [str(word) for word in command], cwd=cwd, env=kept | environment, capture_output=True, text=True, check=True
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that holds the wheel and, of this one, the dependencies only."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT]
    call(*build, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"
    call(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", wheel, cwd=folder)
    inside = call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).stdout.strip()
    # a path line does not run that folder's own .pth files, so an editable install of ours stays out
    Path(inside, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "env" / "bin"


def test_the_package_is_the_wheels(installed: Path, tmp_path: Path) -> None:
    where = call(installed / "python", "-c", "import maskbench; print(maskbench.__file__)", cwd=tmp_path).stdout
    assert str(installed.parent) in where


@pytest.mark.parametrize("program", [["maskbench"], ["python", "-m", "maskbench"]], ids=["script", "module"])
def test_choices_are_listed_from_anywhere(installed: Path, tmp_path: Path, program: list[str]) -> None:
    out = call(installed / program[0], *program[1:], "list", "method", cwd=tmp_path).stdout
    assert "supsup" in out and "packnet" in out


def test_a_run_from_another_directory(installed: Path, tmp_path: Path) -> None:
    words = ["method=supsup", "data=splitmnist", "data.base=synthetic", "budget.steps=3", "logger=none"]
    call(installed / "maskbench", *words, cwd=tmp_path, MASKBENCH_DATA=str(tmp_path / "data"))
    (result,) = (tmp_path / "outputs").glob("*/*/result.json")
    assert json.loads(result.read_text())["status"] == "finished"
    about = json.loads((result.parent / "run.json").read_text())
    assert about["commit"] is None, "a wheel does not borrow the commit of the folder it is run in"
    call(installed / "maskbench", "report", cwd=tmp_path)
    assert "<!doctype html>" in (tmp_path / "outputs" / "report.html").read_text(), "the page's files are in the wheel"
