"""Every method of conf/method, found by listing the folder: a new one is held to the contract without an edit here."""

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

FOLDER = Path(__file__).resolve().parents[2] / "conf" / "method"
METHODS = sorted(path.stem for path in FOLDER.glob("[!_]*.yaml"))
STEPS = 9  # of a phase; no multiple of any block size tried here but 1


EVERY = {"test_contract_members", "test_contract_movable"}  # modules that look at every yaml; the others at one of each class


def one_of_each_class() -> list[str]:
    """The first yaml of each class: what interruptions, processes and block sizes can break is the class's code."""
    targets = {name: OmegaConf.load(FOLDER / f"{name}.yaml").method._target_ for name in METHODS}
    return [name for name in METHODS if name == min(n for n in METHODS if targets[n] == targets[name])]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "tiny" in metafunc.fixturenames:
        names = METHODS if metafunc.module.__name__.rpartition(".")[2] in EVERY else one_of_each_class()
        metafunc.parametrize("tiny", names, indirect=True)


@pytest.fixture
def tiny(request: pytest.FixtureRequest, compose: Callable) -> tuple[str, ...]:
    """Overrides of one method's own experiment, made small: made-up images, few steps, a narrow net."""
    name = f"method={request.param}"
    cfg = compose(name)
    small = [name, f"budget.steps={STEPS}", "budget.epochs=null", "budget.batch_size=32", "loop.log_every=4"]
    small += ["data.base=synthetic"] if "base" in cfg.data else []
    layers = len(cfg.backbone.get("widths", []))
    small += [f"backbone.widths={[24, 12, 8, 8][:layers]}"] if layers > 1 else []
    small += ["task.trials=5", "task.probe=20"] if cfg.task.name == "continual" else []
    small += ["data.test=40", "data.val=20", "task.curve=0"] if "ways" in cfg.data else []  # episodes, each a row
    small += ["task.target_share=2"] if "target_share" in cfg.task else []  # long enough to be interrupted several times
    return tuple(small)


_finished: dict[tuple[str, ...], object] = {}


@pytest.fixture
def calm(tiny: tuple[str, ...], build: Callable, tmp_path_factory: pytest.TempPathFactory):
    """The method's run that nobody disturbs, done once: look at it, do not train it on."""
    if tiny not in _finished:
        _finished[tiny] = build(*tiny, folder=tmp_path_factory.mktemp("calm")).go()
    return _finished[tiny]
