"""What Lightning says on a machine of a Slurm cluster stays off the terminal, and nothing else does."""

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from maskbench.training.lightning import lean_trainer, quiet


@pytest.fixture
def srun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command of that name on the path, which is what Lightning looks for; no job of Slurm around this process."""
    command = tmp_path / "bin" / "srun"
    command.parent.mkdir()
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(command.parent), prepend=":")
    monkeypatch.delenv("SLURM_NTASKS", raising=False)


def test_a_run_on_a_machine_with_srun_is_not_advised_to_use_it(srun: None, build: Callable) -> None:
    """Warnings are errors here."""
    lean_trainer({"accelerator": "cpu", "devices": 1})
    small = ("data=splitmnist", "data.base=synthetic", "task.trials=2", "task.probe=10", "backbone.widths=[16,8]")
    build("method=packnet", *small, "budget.steps=2").go()


def test_other_warnings_are_shown() -> None:
    with pytest.warns(UserWarning, match="srun is slow"), quiet():
        warnings.warn("srun is slow", stacklevel=1)
