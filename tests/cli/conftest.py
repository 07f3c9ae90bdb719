"""Command lines in this process: a folder of their own, no log handlers left behind, a stand-in for the run."""

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.setenv("MASKBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("MASKBENCH_DEBUG", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(logging, "raiseExceptions", True)
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Callable:
    """`runs(act)` puts `act(cfg)` in the place of maskbench.runs.assemble.run and returns the list of configs it was given."""

    def install(act: Callable) -> list:
        seen = []

        def run(cfg) -> float:
            seen.append(cfg)
            return act(cfg)

        module = ModuleType("maskbench.runs.assemble")
        module.run = run
        monkeypatch.setitem(sys.modules, "maskbench.runs.assemble", module)
        return seen

    return install
