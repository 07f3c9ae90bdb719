"""CONTRIBUTING's five recipes followed to the letter, outside and inside the package: method, backbone, data, task, criterion."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
FILES = dict(re.findall(r"^```(?:python|yaml)\n# (\S+)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))
COMMANDS = [shlex.split(line) for line in re.findall(r"^    python -m maskbench (--config-dir my_conf .*)$", PAGE, re.MULTILINE)]


def result(folder: Path, run: str) -> dict:
    (path,) = folder.glob(f"outputs/{run}/*/result.json")
    return json.loads(path.read_text())["metrics"]


def judge(folder: Path) -> None:
    ticket, dense = result(folder, "random_ticket-rings"), result(folder, "dense-rings")
    assert ticket["density"] == pytest.approx(0.5, abs=0.01)
    assert min(ticket["accuracy_clean"], dense["accuracy_clean"]) > 0.95  # two rings are easily told apart
    assert result(folder, "lottery-rings")["density"] < 0.9


def test_there_are_recipes_for_all_five() -> None:
    assert [name.partition("/")[2].partition("/")[0] for name in FILES] == ["", "method", "backbone", "data", "task"]
    assert len(COMMANDS) == 3 and "far_from_start" in COMMANDS[-1][-1]


def test_the_recipes_outside_the_package(tmp_path: Path, program: Callable) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for number, words in enumerate(COMMANDS):
        process = program(*words, "logger=none", log=f"log{number}")
        process.join()
        assert process.exitcode == 0, (tmp_path / f"log{number}").read_text()
    judge(tmp_path)


@pytest.mark.full
def test_the_recipes_inside_the_package(tmp_path: Path) -> None:
    """The same code in the package's own folders, its YAML in conf: no other file is edited."""
    for folder in ("maskbench", "conf"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    places = {"method": "methods/uncertainty", "backbone": "backbones", "data": "data/tables", "task": "tasks"}
    for place in places.values():
        (tmp_path / "maskbench" / place / "wonder.py").write_text(FILES["mylab.py"])
    for name, text in FILES.items():
        if name.endswith(".yaml"):
            group = name.split("/")[1]
            inside = f"maskbench.{places[group].replace('/', '.')}.wonder."
            (tmp_path / "conf" / Path(*name.split("/")[1:])).write_text(text.replace("mylab.", inside))
    criterion = re.search(r"^def far_from_start.*", FILES["mylab.py"], re.DOTALL | re.MULTILINE)[0]
    with open(tmp_path / "maskbench" / "masks" / "criteria.py", "a") as file:
        file.write(f"\n\n{criterion}")
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    for words in COMMANDS:
        words = [word.replace("mylab.", "") for word in words if word not in ("--config-dir", "my_conf")]
        done = subprocess.run(
            [sys.executable, "-m", "maskbench", *words, "logger=none"], cwd=tmp_path, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    judge(tmp_path)
