"""Pieces of a run for tests: configs, runs in this process, the program in another, and fresh processes to kill."""

import copy
import multiprocessing
import os
import runpy
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import forkserver
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from torch import Tensor

    from maskbench.data.stage import Stage
    from maskbench.runs.assemble import Run
    from maskbench.runs.record import History
    from maskbench.tasks.outcome import Outcome
    from maskbench.training.fit import Fit
    from maskbench.training.journal import Journal
    from maskbench.training.method import Method

ROOT = Path(__file__).resolve().parents[1]

settings.register_profile("full", deadline=None, derandomize=True, database=None, max_examples=60)
settings.register_profile("default", settings.get_profile("full"), max_examples=15)


def pytest_configure(config: pytest.Config) -> None:
    import torch

    torch.set_num_threads(1)
    settings.load_profile("default" if "not full" in config.option.markexpr else "full")


@pytest.hookimpl(tryfirst=True)  # before the marks decide
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a test marked sample(n) only the first n cases are not `full`."""
    seen: Counter[str] = Counter()
    for item in items:
        if mark := item.get_closest_marker("sample"):
            test = item.nodeid.partition("[")[0]
            seen[test] += 1
            if seen[test] > mark.args[0]:
                item.add_marker(pytest.mark.full)


# ---- configs


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of the tests' own, shared by all of them."""
    return tmp_path_factory.mktemp("data")


@cache
def loader() -> Any:
    """Hydra's loader of the packaged configs, which reads each file once."""
    from maskbench.cli import command_line

    return command_line.parse([]).loader


@cache
def composed(overrides: tuple[str, ...]) -> Any:
    """The config of a command line, not to be changed."""
    from hydra.types import RunMode
    from omegaconf import open_dict

    cfg = loader().load_configuration("config", list(overrides), run_mode=RunMode.RUN)
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg


@pytest.fixture(scope="session")
def hydra_loader() -> Any:
    return loader()


@pytest.fixture
def compose(data_root: Path, tmp_path: Path) -> Callable:
    """`compose(*overrides)`: the config the command line would give, no logger, paths inside the test's folders."""

    def make(*overrides: str) -> Any:
        cfg = copy.deepcopy(composed(("logger=none", "loop.progress=false", *overrides)))
        cfg.paths.data, cfg.paths.output = str(data_root), str(tmp_path / "outputs")
        return cfg

    return make


# ---- runs in this process


class Halt(Exception):
    """Stands for whatever ends an attempt."""


@dataclass
class Bench:
    """The parts of one attempt at a run in `folder`."""

    cfg: Any
    folder: Path
    run: "Run"
    stages: "list[Stage]"
    method: "Method"
    journal: "Journal"
    fit: "Fit"
    history: "History"
    outcome: "Outcome | None" = None
    calls: int = field(default=0)  # of watch

    def go(self, halt_at: int | None = None, learner: Any = None) -> "Bench":
        """Run the task, through `learner` in the place of fit. Raises Halt at the `halt_at`-th block of training."""
        from maskbench.runs.build import make

        def watch(*_: Any) -> None:
            self.calls += 1
            if self.calls == halt_at:
                raise Halt

        self.fit.watch = watch
        try:
            self.outcome = make(self.cfg.task, self.method, self.stages, learner or self.fit, self.journal)
        finally:
            self.history.close()
        return self

    @property
    def state(self) -> "dict[str, Tensor]":
        from maskbench.training.journal import snapshot

        return snapshot(self.method)

    @property
    def metrics(self) -> dict[str, float | None]:
        """The outcome's numbers, without those that a clock measured."""
        return {name: value for name, value in self.outcome.metrics.items() if "seconds" not in name}

    @property
    def rows(self) -> bytes:
        """The history as it stands on disk."""
        return (self.folder / "metrics.csv").read_bytes()


@pytest.fixture
def build(compose: Callable, tmp_path: Path) -> Callable:
    """`build(*overrides, folder=..., method=...)`: an attempt at a run as run.py makes it, without Hydra or logger.

    `method(net)` may stand in for the config's method. A second build in the same folder takes up the first.
    """
    from maskbench.runs.assemble import Run
    from maskbench.runs.record import History
    from maskbench.training.journal import Journal

    def make(*overrides: str, folder: str | Path = "run", method: Callable | None = None) -> Bench:
        cfg, folder = compose(*overrides), tmp_path / folder
        folder.mkdir(parents=True, exist_ok=True)
        run = Run(cfg, folder)
        stages = run.stages()
        net = run.method(stages)
        net = method(net.net) if method else net
        history = History(folder / "metrics.csv")
        journal = Journal(folder, net, seed=cfg.seed, every=cfg.loop.checkpoint_seconds, history=history)
        fit = run.fit(journal, lambda *row: history.add(*row[:3], row[4]), lambda *_: None)
        return Bench(cfg, folder, run, stages, net, journal, fit, history)

    return make


@pytest.fixture
def relay(build: Callable) -> Callable:
    """`relay(*overrides, folder=..., halts=[...])`: attempts that end after so many blocks, then one that does not."""

    def run(*overrides: str, folder: str, halts: list[int], method: Callable | None = None) -> Bench:
        for number in halts:
            with pytest.raises(Halt):
                build(*overrides, folder=folder, method=method).go(halt_at=number)
        return build(*overrides, folder=folder, method=method).go()

    return run


@pytest.fixture
def same(compose: Callable) -> Callable:
    """`same(a, b)`: two finished runs agree in every bit of state, mask, history row and number."""
    import torch

    def check(a: Bench, b: Bench) -> None:
        assert a.state.keys() == b.state.keys()
        differing = [name for name in a.state if not torch.equal(a.state[name], b.state[name])]
        assert differing == []
        assert a.method.masks().keys() == b.method.masks().keys()
        assert all(torch.equal(m, b.method.masks()[name]) for name, m in a.method.masks().items())
        assert a.metrics == b.metrics
        assert a.outcome.matrices == b.outcome.matrices
        assert a.rows == b.rows

    return check


# ---- the program in other processes


def surroundings(data_root: Path, changes: dict[str, str]) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": path, "MASKBENCH_DATA": str(data_root), "COLUMNS": "200"} | changes


@pytest.fixture
def interpreter(tmp_path: Path, data_root: Path) -> Callable:
    """`interpreter(*words, **env)`: `python -m maskbench *words` in the test's folder, which costs seconds; the completed
    process."""

    def run(*words: str, **env: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "maskbench", *words],
            cwd=tmp_path,
            env=surroundings(data_root, env),
            capture_output=True,
            text=True,
        )

    return run


@pytest.fixture(scope="session")
def processes(data_root: Path) -> Iterator[Any]:
    """A multiprocessing context whose processes are fresh but for the imports, which take seconds and are done once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["maskbench.cli.main", "maskbench.cli.preflight", "maskbench.runs.assemble"])
    before = dict(os.environ)
    os.environ.update(surroundings(data_root, {}))
    try:
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)
    yield context


@pytest.fixture
def script(processes: Any) -> Callable:
    """`script(path, **names)`: a started process that runs a Python file with these globals set."""
    started = []

    def start(path: Path, **names: Any) -> multiprocessing.Process:
        process = processes.Process(target=runpy.run_path, args=(str(path), names, "script"))
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        if process.is_alive():
            process.kill()
        process.join()


@pytest.fixture
def program(script: Callable, tmp_path: Path, data_root: Path) -> Callable:
    """`program(*words, log=..., out=...)`: a process at `maskbench *words`; its standard error goes to the file `log`, its
    standard output to `out`, if that is given."""

    def start(*words: str, log: str | Path = "stderr", out: str | Path = os.devnull, **env: str) -> multiprocessing.Process:
        env = {"MASKBENCH_DATA": str(data_root), "COLUMNS": "200"} | env
        names = {"words": list(words), "folder": tmp_path, "log": tmp_path / log, "out": tmp_path / out, "env": env}
        return script(ROOT / "tests" / "program.py", **names)

    return start


@pytest.fixture
def cli(program: Callable, tmp_path_factory: pytest.TempPathFactory) -> Callable:
    """`cli(*words, **env)`: `maskbench *words` in the test's folder and in a fork that has the imports; the completed process."""

    def run(*words: str, **env: str) -> subprocess.CompletedProcess:
        streams = tmp_path_factory.mktemp("streams")
        process = program(*words, log=streams / "err", out=streams / "out", **env)
        process.join()
        return subprocess.CompletedProcess(words, process.exitcode, (streams / "out").read_text(), (streams / "err").read_text())

    return run
