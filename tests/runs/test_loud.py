"""The net of a loaded method, where it is not the net that answers, says so to whoever takes it for that, and to nobody else."""

import copy
import io
import pickle
import warnings
from collections.abc import Callable

import pytest
import torch

from maskbench.runs.loud import speak_up

TINY = ("data.base=synthetic", "budget.steps=2", "budget.epochs=null", "backbone=lenet_300_100", "backbone.widths=[12,10]")


@pytest.fixture(params=["edge_popup", pytest.param("masksembles", marks=pytest.mark.full)])
def bench(request: pytest.FixtureRequest, build: Callable) -> object:
    words = ("method.width=fixed", "data.ood=[]") if request.param == "masksembles" else ("task=uncertainty", "data.ood=[]")
    bench = build(f"method={request.param}", *TINY, *words).go()
    speak_up(bench.method, bench.stages)
    return bench


def test_a_net_that_is_not_the_one_that_answers_says_so(bench: object) -> None:
    x, _ = bench.stages[0].test.tensors(first=3)
    with pytest.warns(UserWarning, match="is not the net that answers: .*plain_net.. is the net that does") as seen:
        bench.method.net(x)
    assert seen[0].filename == __file__
    with pytest.warns(UserWarning, match="is not the net that answers") as seen:
        bench.method.net.state_dict()
    assert seen[0].filename == __file__


def test_the_methods_own_calls_and_copies_are_silent(bench: object) -> None:
    x, _ = bench.stages[0].test.tensors(first=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answer = bench.method.predict(x, bench.stages[0])
        bench.method.ticket(), bench.method.state_dict()
        twin = copy.deepcopy(bench.method)
        assert torch.equal(twin.predict(x, bench.stages[0]), answer)
        twin.net(x), pickle.loads(pickle.dumps(bench.method.net))(x)
        torch.save(bench.method, io.BytesIO())


def test_a_net_that_answers_is_silent(build: Callable) -> None:
    bench = build("method=dense", *TINY, "data.ood=[]").go()
    speak_up(bench.method, bench.stages)
    x, _ = bench.stages[0].test.tensors(first=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(bench.stages[0].link(bench.method.net(x)), bench.method.predict(x, bench.stages[0])[0])
        bench.method.net.state_dict()
