"""A run whose record names code outside maskbench: refused by name, and taken up whole where the user says to trust it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import maskbench
from maskbench.common.errors import UsageError

MINE = """
import pathlib
from maskbench.methods.dense import Dense

pathlib.Path(__file__).with_name("imported").touch()


class Mine(Dense):
    def extra_metrics(self):
        return {"mine": 1.0}
"""
WORDS = ("method=dense", "method._target_=stranger.Mine", "data=mnist", "data.base=synthetic", "backbone.widths=[8]")


@pytest.fixture
def run(cli: Callable, tmp_path: Path) -> Path:
    """A finished run of a method in a module beside `outputs`; since then that module has not been imported."""
    (tmp_path / "stranger.py").write_text(MINE)
    done = cli(*WORDS, "budget.steps=2", "logger=none")
    assert done.returncode == 0, done.stderr
    (tmp_path / "imported").unlink()
    (file,) = (tmp_path / "outputs").glob("*/*/result.json")
    return file.parent


@pytest.mark.full
def test_load_takes_it_up_with_trust_alone(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=r"asks for _target_: stranger\.Mine, which is no part of maskbench: nothing was run"):
        maskbench.load(run)
    assert not (tmp_path / "imported").exists()
    saved = maskbench.load(run, trust=True)
    assert (tmp_path / "imported").exists() and type(saved.method).__name__ == "Mine"
    x, y = saved.stages[0].test.tensors()
    accuracy = (saved.method.logits(x, saved.stages[0]).argmax(1) == y).double().mean()
    assert torch.isclose(accuracy, torch.tensor(json.loads((run / "result.json").read_text())["metrics"]["accuracy"]).double())


@pytest.mark.full
def test_rerun_does_it_with_trust_alone(run: Path, tmp_path: Path, cli: Callable) -> None:
    before = json.loads((run / "result.json").read_text())
    for words in ([], ["--dry"]):
        told = cli("rerun", str(run), *words)
        assert told.returncode == (0 if words else 2) and "_target_: stranger.Mine" in (told.stdout if words else told.stderr)
        assert not (tmp_path / "imported").exists()
    changed = (run / "result.json").stat().st_ino
    told = cli("rerun", str(run), "--trust")
    assert told.returncode == 0, told.stderr
    assert (tmp_path / "imported").exists() and (run / "result.json").stat().st_ino != changed, "done anew"
    after = json.loads((run / "result.json").read_text())
    assert after["metrics"]["mine"] == 1.0 and after["metrics"]["accuracy"] == before["metrics"]["accuracy"]
