"""A forked run is the program like any other: its status, its words, its folder; and not every run may be forked."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from maskbench.cli import forks

ROOT = Path(forks.__file__).parents[2]
PROBE = """
import json, multiprocessing, subprocess
from pathlib import Path
from maskbench.cli import forks

def tell(name):
    from maskbench.common import closure, provenance
    from maskbench.methods.continual import packnet
    code = closure.of({"method": {"_target_": "maskbench.methods.continual.packnet.PackNet"}}).closure
    state = [provenance.collect()["commit"], provenance.imported()[1], hasattr(packnet, "CHANGED"), code]
    Path(name).write_text(json.dumps(state))

def fork(name):
    process = multiprocessing.get_context("forkserver").Process(target=tell, args=(name,))
    process.start()
    process.join()

if __name__ == "__main__":
    forks.begin()
    fork("before")
    with open("maskbench/methods/continual/packnet.py", "a") as file:
        file.write("CHANGED = True\\n")
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qam", "change"], check=True)
    fork("after")
    tell("fresh")
"""


@pytest.mark.parametrize(
    ("words", "able"),
    [
        (["method=supsup", "seed=0"], True),
        (["method=supsup", "trainer=ddp"], False),
        (["method=supsup", "+trainer.num_nodes=2"], False),
        (["method=supsup", "trainer.strategy=ddp_spawn"], False),
        (["-m", "method=supsup", "hydra/launcher=joblib"], False),
    ],
)
def test_runs_that_start_processes_themselves_are_not_forked(words: list[str], able: bool) -> None:
    assert forks.able(words) is able


@pytest.mark.full
def test_a_fork_has_the_programs_status_words_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    forks.begin()
    logs = {name: tmp_path / name for name in ("wrong", "stopped")}
    wrong = forks.start(["method=supsap"], logs["wrong"])
    stopped = forks.start(["where", "--live", "method=supsup", "seed=0"], logs["stopped"])
    while wrong.poll() is None:
        time.sleep(0.01)
    assert wrong.returncode == 2
    assert logs["wrong"].read_text().startswith("maskbench: no method 'supsap'. Did you mean 'supsup'?")
    assert stopped.poll() is None
    stopped.send_signal(15)
    while stopped.poll() is None:
        time.sleep(0.01)
    assert stopped.returncode == 130  # as Ctrl-C ends it


@pytest.mark.full
def test_forks_are_and_record_the_code_they_were_started_with(tmp_path: Path) -> None:
    """Although the checkout has another commit by then."""
    shutil.copytree(ROOT / "maskbench", tmp_path / "maskbench", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "probe.py").write_text(PROBE)
    (tmp_path / ".gitignore").write_text("__pycache__\nbefore\nafter\nfresh\n")
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    commit = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "first"]
    for words in (["git", "init", "-q"], ["git", "add", "."], commit):
        subprocess.run(words, cwd=tmp_path, check=True)
    head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=tmp_path, text=True).strip()
    subprocess.run([sys.executable, "probe.py"], cwd=tmp_path, check=True)
    before, after, fresh = (json.loads((tmp_path / name).read_text()) for name in ("before", "after", "fresh"))
    assert before[:3] == [head, "", False] and after == before
    assert fresh[2] is True and fresh[3] != before[3], "a process that begins later has the later code"
