"""Callbacks of Lightning's that a config names: they see every phase and block, are part of a run's identity, and are judged."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import pytorch_lightning as pl

from maskbench.cli import preflight, side_by_side
from maskbench.common import closure, identity
from maskbench.common.errors import UsageError

HERE = "watch_for_tests"
SEEN: list[tuple] = []
TINY = ("method=finetune", "data=splitmnist", "data.base=synthetic", "backbone.widths=[16,8]", "budget.steps=6", "loop.block=2")
TINY += ("budget.epochs=null", "data.stages=2")


class Watch(pl.Callback):
    """Notes each phase and block.

    Args:
        every: blocks between two notes.
    """

    def __init__(self, *, every: int = 1) -> None:
        self.every = every

    def on_train_start(self, trainer: pl.Trainer, learner: pl.LightningModule) -> None:
        SEEN.append(("start", type(learner.method).__name__))

    def on_train_batch_end(self, trainer: pl.Trainer, learner: pl.LightningModule, out: object, block: list, index: int) -> None:
        if index % self.every == 0:
            SEEN.append(("block", len(block)))


class Nothing:
    """No callback."""


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    SEEN.clear()
    monkeypatch.setitem(sys.modules, HERE, sys.modules[__name__])


def named(target: str = "Watch", more: str = "") -> str:
    return f"callbacks={{watch:{{_target_:{HERE}.{target}{more}}}}}"


def test_it_sees_every_phase_and_block_and_the_numbers_stay(build: Callable) -> None:
    plain = build(*TINY, folder="plain").go()
    watched = build(*TINY, named(), folder="watched").go()
    assert SEEN == 2 * [("start", "Dense"), *3 * [("block", 2)]]
    assert watched.metrics == plain.metrics and watched.rows == plain.rows
    SEEN.clear()
    build(*TINY, named(more=",every:2"), folder="seldom").go()
    assert [what for what, _ in SEEN] == 2 * ["start", "block", "block"]


def test_it_is_part_of_a_runs_identity_and_its_code_counts(compose: Callable) -> None:
    keys = [identity.key(compose(*TINY, *more)) for more in ((), ("callbacks=null",), (named(),), (named(more=",every:2"),))]
    assert keys[0] == keys[1] and len(set(keys)) == 3
    one = {"watch": {"_target_": "maskbench.masks.criteria.magnitude"}}
    roots = {"method": {"_target_": "maskbench.methods.dense.Dense"}}
    assert "maskbench.masks.criteria" in closure.of(roots | {"callbacks": one}).modules


def test_phases_are_not_taken_from_other_runs_and_seeds_train_alone(build: Callable, compose: Callable) -> None:
    assert build(*TINY, folder="a").fit.shared is not None and build(*TINY, named(), folder="b").fit.shared is None
    wide = ("method=static_sparse",)
    assert side_by_side.group(compose(*wide)) and not side_by_side.group(compose(*wide, named()))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("callbacks=1", "callbacks=1 must be null, or a name and a _target_ of each"),
        ("callbacks={watch:3}", "must be null, or a name and a _target_ of each"),
        ("callbacks={watch:{_target_:maskbench.masks.criteria.Nowhere}}", "Nowhere"),
        (
            "callbacks={rate:{_target_:pytorch_lightning.callbacks.LearningRateMonitor,logging_intervall:step}}",
            "logging_interval",
        ),
        ("+trainer.callbacks=[]", "callbacks={NAME:{_target_:...}}, without trainer, names them"),
    ],
)
def test_what_is_no_callback_is_refused_before_anything_starts(
    words: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as refusal:
        preflight.check(["method=dense", "data=mnist", words], starts=False)
    assert said in str(refusal.value)


def test_what_makes_no_callback_is_refused_as_the_run_begins(build: Callable) -> None:
    with pytest.raises(
        UsageError, match=r"callbacks\.watch\._target_=watch_for_tests\.Nothing makes no pytorch_lightning\.Callback"
    ):
        build(*TINY, named("Nothing"), folder="none")


@pytest.mark.full
def test_a_callback_of_ones_own_by_the_command_line(interpreter: Callable, tmp_path: Path) -> None:
    (tmp_path / "mylab.py").write_text(
        "import pytorch_lightning as pl\n\n\nclass Count(pl.Callback):\n    def __init__(self, *, file: str):\n"
        "        self.file = file\n\n    def on_train_end(self, trainer, learner):\n"
        "        open(self.file, 'a').write('phase\\n')\n"
    )
    done = interpreter(*TINY, "logger=none", "callbacks={count:{_target_:mylab.Count,file:phases}}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "phases").read_text() == 2 * "phase\n"
    (record,) = tmp_path.glob("outputs/*/*/run.json")
    about = json.loads(record.read_text())
    assert about["config"]["callbacks"]["count"]["file"] == "phases" and "mylab" in about["code"]["modules"]
