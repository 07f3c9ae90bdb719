"""Every method of conf/method, found by listing the folder: a new one is held to the contract without an edit here."""

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

METHODS = sorted(path.stem for path in (Path(__file__).resolve().parents[2] / "conf" / "method").glob("[!_]*.yaml"))
STEPS = 9  # of a phase; no multiple of any block size tried here but 1


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "tiny" in metafunc.fixturenames:
        metafunc.parametrize("tiny", METHODS, indirect=True)


@pytest.fixture
def tiny(request: pytest.FixtureRequest, compose: Callable) -> tuple[str, ...]:
    """Overrides of one method's own experiment, made small: made-up images, few steps, a narrow net."""
    name = f"method={request.param}"
    cfg = compose(name)
    small = [name, f"budget.steps={STEPS}", "budget.epochs=null", "budget.batch_size=32", "loop.log_every=4"]
    small += ["data.base=synthetic"] if "base" in cfg.data else []
    layers = len(cfg.backbone.get("widths", []))
    small += [f"backbone.widths={[24, 12, 8, 8][:layers]}"] if layers > 1 else []
    small += [f"backbone.channels={[4, 6, 8, 8][: len(cfg.backbone.channels)]}"] if "channels" in cfg.backbone else []
    # what only multiplies work: passes of one net, nets of one ensemble (also of an ensemble's own method)
    small += [f"method.{at}{key}=2" for at in ("", "of.") for key in ("passes", "nets") if OmegaConf.select(cfg.method, at + key)]
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
