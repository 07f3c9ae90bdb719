"""A forked run is the program like any other: its status, its words, its folder; and not every run may be forked."""

import time
from pathlib import Path

import pytest

from maskbench import warm


@pytest.mark.parametrize(
    ("words", "able"),
    [
        (["method=supsup", "seed=0"], True),
        (["method=supsup", "trainer=ddp"], False),
        (["method=supsup", "trainer.strategy=ddp_spawn"], False),
        (["-m", "method=supsup", "hydra/launcher=joblib"], False),
    ],
)
def test_runs_that_start_processes_themselves_are_not_forked(words: list[str], able: bool) -> None:
    assert warm.able(words) is able


def test_a_fork_has_the_programs_status_words_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    warm.begin()
    logs = {name: tmp_path / name for name in ("wrong", "stopped")}
    wrong = warm.start(["method=supsap"], logs["wrong"])
    stopped = warm.start(["where", "--live", "method=supsup", "seed=0"], logs["stopped"])
    while wrong.poll() is None:
        time.sleep(0.01)
    assert wrong.returncode == 2
    assert logs["wrong"].read_text().startswith("maskbench: no method 'supsap'. Did you mean 'supsup'?")
    assert stopped.poll() is None
    stopped.send_signal(15)
    while stopped.poll() is None:
        time.sleep(0.01)
    assert stopped.returncode == -15
