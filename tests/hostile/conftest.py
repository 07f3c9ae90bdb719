"""A folder of runs of which some are a stranger's, the commands in this process, and a canary that no record may touch."""

import copy
import json
import logging
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from maskbench import masks
from maskbench.cli import command_line
from maskbench.cli import main as cli
from maskbench.common import identity

WORDS = ["method=packnet", "data=splitmnist", "logger=none"]


@pytest.fixture(scope="session")
def config() -> dict[str, Any]:
    """The resolved config of a run of PackNet."""
    identity.register()
    return json.loads(json.dumps(identity.plain(command_line.parse(WORDS).compose(WORDS), without={"hydra"})))


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MASKBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("MASKBENCH_DEBUG", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    logging.getLogger("maskbench").handlers.clear()
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A file that code of a stranger would make."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists()


@pytest.fixture
def record(tmp_path: Path, config: dict[str, Any]) -> Callable[..., Path]:
    """`record(seed)`: a finished run with masks, history and curves, as a run leaves it."""

    def write(seed: int = 0) -> Path:
        run = tmp_path / "outputs" / "packnet-splitmnist" / f"s{seed}-k1"
        run.mkdir(parents=True)
        attempt = {"started": "2026-01-01", "ended": "2026-01-02", "status": "finished", "code": "c0de", "resumed": False}
        about = {
            "key": "k1", "seed": seed, "choices": {"method": "packnet", "data": "splitmnist"},
            "overrides": [*WORDS, f"seed={seed}"], "config": copy.deepcopy(config) | {"seed": seed}, "threads": 1,
            "code": {"closure": "c0de", "modules": {"maskbench.methods.dense": "abc"}}, "maskbench": "0.1.0",
            "commit": "c0ffee" * 7, "branch": "main", "dirty": True, "versions": {"torch": "2.6", "rich": None},
            "python": "3.11", "platform": "Linux", "cpu": "Zuse 3", "cores": 2, "memory_bytes": 1 << 33,
            "argv": ["maskbench", *WORDS], "status": "finished", "attempts": [attempt | {"cost": {"wall_seconds": 2.5}}],
            "cost": {"wall_seconds": 2.5, "cpu_seconds": 2.0}, "data": {"source": "npm", "checksums": {"a.gz": "aa"}},
        }  # fmt: skip
        result = {
            "status": "finished", "objective": 0.9 + seed / 100, "objective_name": "average_accuracy",
            "metrics": {"average_accuracy": 0.9 + seed / 100, "forgetting": 0.1, "accuracy/a/0.5": 0.1, "accuracy/a/0.2": None},
            "table": [{"stage": "0/1", "accuracy": 0.8}, {"stage": "2/3", "accuracy": None}],
            "matrices": {"accuracy": [[0.9, 0.1], [0.8, 0.7]]}, "notes": ["a note"], "fingerprints": {"mask": "ab12"},
            "method": "packnet", "data": "splitmnist", "source": "npm", "task": "continual", "seed": seed, "key": "k1",
        }  # fmt: skip
        (run / "run.json").write_text(json.dumps(about))
        (run / "result.json").write_text(json.dumps(result))
        (run / "metrics.csv").write_text("stage,phase,step,metric,value\n0,train,1,loss,0.5\n0,train,2,loss,0.4\n")
        (run / "curves.json").write_text(json.dumps([{"kind": "members", "members": n, "nll": 0.5 / n} for n in (1, 2, 3)]))
        masks.save(run / "masks.safetensors", {"0/a": torch.ones(3, 4, dtype=torch.bool), "1/a": torch.eye(3, 4) > 0})
        return run

    return write


@pytest.fixture
def good(record: Callable) -> Path:
    """A run that nothing is wrong with, beside which the stranger's lies."""
    return record(1)


@pytest.fixture
def foreign(good: Path, record: Callable) -> Path:
    """The stranger's run, sound until a test changes it."""
    return record(0)


@pytest.fixture
def call(capsys: pytest.CaptureFixture) -> Callable[..., tuple[int, str, str]]:
    def run(*words: str) -> tuple[int, str, str]:
        status = cli.main([str(word) for word in words])
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


@pytest.fixture
def survives(call: Callable, good: Path, foreign: Path) -> Callable[[], str]:
    """`survives()`: every command that reads runs ends well with the good run in it; returns the report's page."""

    def check() -> str:
        for words in (["results"], ["results", "--csv"], ["results", "group=method", "mixed=allow"], ["report"]):
            status, out, err = call(*words)
            assert status == 0 and "Traceback" not in out + err, (words, err)
            assert words[0] == "report" or "packnet" in out, (words, out)
        page = Path("outputs/report.html").read_text()
        assert "packnet-splitmnist/s1-k1" in page
        for words in (["show", foreign], ["compare", good, good]):
            status, out, err = call(*words)
            assert status == 0 and "Traceback" not in out + err, (words, err)
        status, out, err = call("compare", "outputs", good, "mixed=allow")
        assert status == 0, err
        shutil.rmtree("figures", ignore_errors=True)
        return page

    return check
