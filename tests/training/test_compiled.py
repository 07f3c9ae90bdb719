"""loop.compile: the net's pass is compiled in training steps and nowhere else, masks stay those of the same scores, and a machine
without a compiler is told so."""

import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch

from maskbench.cli import preflight
from maskbench.common import compilers, identity
from maskbench.common.errors import UsageError
from maskbench.training import compiled

COMMON = ["data=mnist", "data.base=synthetic", "backbone=lenet_300_100", "backbone.widths=[16,8]", "budget.epochs=null"]
SUPSUP = ["method=supsup", "data=splitmnist", "data.base=synthetic", "data.stages=2", "backbone.widths=[16,8]"]
FEW = ["budget.steps=6", "budget.epochs=null", "budget.batch_size=32"]


class Counting:
    """Stands in for torch.compile: counts what is compiled and what is called of it."""

    def __init__(self) -> None:
        self.compiled = self.calls = 0
        self.modes: list[Any] = []

    def __call__(self, function: Callable, mode: str | None = None) -> Callable:
        self.compiled += 1
        self.modes.append(mode)

        def call(x: torch.Tensor) -> torch.Tensor:
            assert torch.is_grad_enabled()
            self.calls += 1
            return function(x)

        return call


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    found = Counting()
    monkeypatch.setattr(torch, "compile", found)
    monkeypatch.setattr(compilers, "lacking", lambda: None)
    return found


def test_only_steps_call_what_is_compiled_and_it_is_compiled_once(build: Callable, same: Callable, counting: Counting) -> None:
    words = [*SUPSUP, *FEW, "budget.validate_every=2"]
    plain = build(*words, folder="plain").go()
    assert counting.compiled == 0
    bench = build(*words, "loop.compile=true", "loop.block=4", folder="compiled").go()
    assert (counting.compiled, counting.modes) == (1, [None])
    assert counting.calls == bench.journal.tally["steps"] == 12
    assert "forward" not in vars(bench.method.net)
    same(plain, bench)  # here what is compiled computes the same bits


def test_a_step_that_fails_leaves_the_net_as_it_was(build: Callable, counting: Counting) -> None:
    bench = build(*SUPSUP, *FEW)
    with pytest.raises(ZeroDivisionError), compiled.Compiled().steps(bench.method.net, torch.device("cpu")):
        assert "forward" in vars(bench.method.net)
        raise ZeroDivisionError
    assert "forward" not in vars(bench.method.net)


def test_it_is_another_run_and_its_absence_is_the_same_one(compose: Callable) -> None:
    plain, null, off, on = (
        identity.key(compose(*SUPSUP, *words))
        for words in ([], ["loop.compile=null"], ["loop.compile=false"], ["loop.compile=true"])
    )
    assert plain == null == off != on
    recorded = {"loop": {"compile": True}, "method": {"keep": 0.5}}
    assert identity.question(recorded) == {"loop.compile": True, "method.keep": 0.5}


@pytest.mark.parametrize("named", [None, "no-such-compiler"])
def test_a_machine_without_a_compiler_is_told_in_one_sentence(named: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    if named:
        monkeypatch.setenv("CXX", named)
    with pytest.raises(UsageError) as refused:
        preflight.check([*SUPSUP, "loop.compile=true", "logger=none"])
    assert str(refused.value).count("\n") == 0
    assert "loop.compile=true needs a C++ compiler" in str(refused.value) and (named or "g++") in str(refused.value)
    preflight.check([*SUPSUP, "logger=none"])


def test_headers_are_asked_for_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(compilers.sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    assert "Python.h" in compilers.lacking()
    (tmp_path / "Python.h").touch()
    assert compilers.lacking() is None


METHODS = [SUPSUP, ["method=edge_popup", *COMMON], ["method=masksembles", *COMMON], ["method=deep_ensembles", *COMMON]]


@pytest.mark.full
@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.skipif(compilers.lacking() is not None, reason="no C++ compiler")
@pytest.mark.parametrize("words", METHODS, ids=lambda words: words[0].partition("=")[2])
def test_what_is_compiled_trains_as_what_is_not(words: list[str], build: Callable) -> None:
    """By torch's own compiler: weights and scores within 1e-4; masks of the trained scores follow from them as ever."""
    plain = build(*words, *FEW, folder="plain").go()
    quick = build(*words, *FEW, "loop.compile=true", folder="quick").go()
    moved = {name: value for name, value in plain.state.items() if value.is_floating_point()}
    assert max((value - quick.state[name]).abs().max().item() for name, value in moved.items() if value.numel()) < 1e-4
    apart = [(mask != quick.method.masks()[name]).double().mean().item() for name, mask in plain.method.masks().items()]
    assert max(apart, default=0.0) < 0.01
    quick.method.load_state_dict(plain.method.state_dict())
    assert all(torch.equal(mask, quick.method.masks()[name]) for name, mask in plain.method.masks().items())
