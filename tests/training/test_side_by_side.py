"""Runs side by side: what each becomes is what it becomes alone, whoever leaves, dies or goes on on the way."""

import functools
import multiprocessing
import os
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch

from maskbench.training import side_by_side
from maskbench.training.group import Group
from maskbench.training.side_by_side import Beside

SMALL = ("method=static_sparse", "method.keep=0.2", "method.kernel=csr", "data.base=synthetic", "backbone.widths=[40,20]",
         "budget.epochs=null", "budget.steps=60", "budget.batch_size=32", "budget.validate_every=30", "loop.block=7",
         "loop.log_every=20", "loop.checkpoint_seconds=0")  # fmt: skip
FORK = multiprocessing.get_context("fork")


def serve(links: list[Connection], others: list[Connection], blocks: int) -> None:
    """The process that trains; it ends by itself after so many blocks."""
    for link in others:
        link.close()
    group, say, told = Group(links), Group.say, []

    def counted(self: Group, link: Connection, message: object) -> None:
        told.append(isinstance(message, side_by_side.Done))
        if sum(told) > blocks * len(links):
            os._exit(1)
        say(self, link, message)

    group.say = functools.partial(counted, group)
    group.run()


def go(make: Callable, folder: Path, link: Connection, others: list[Connection], halt_at: int | None) -> None:
    """A run in a fork: its state and its tally in a file."""
    for one in others:
        one.close()
    bench = make()
    bench.fit.beside = Beside(link, folder.name)
    bench.go(halt_at=halt_at)
    torch.save({"state": bench.state, "tally": bench.journal.tally, "metrics": bench.metrics}, folder / "end.pt")


@pytest.fixture
def together(build: Callable, compose: Callable, tmp_path: Path) -> Iterator[Callable]:
    """`together(runs, halts=..., blocks=...)`: runs, by folder their overrides, side by side, each in a process of its own;
    `halts` says after which block one ends. What each left; None of one that was halted."""
    started = []

    def run(runs: dict[str, tuple[str, ...]], halts: dict[str, int] | None = None, blocks: int = 10**6) -> dict[str, Any]:
        for words in runs.values():
            compose(*words)  # once, for the forks
        pairs = [FORK.Pipe() for _ in runs]
        every = [link for pair in pairs for link in pair]
        ours = [one for one, _ in pairs]
        started.append(FORK.Process(target=serve, args=(ours, [link for link in every if link not in ours], blocks)))
        for (name, words), (_, link) in zip(runs.items(), pairs, strict=True):
            make, others = functools.partial(build, *words, folder=name), [one for one in every if one is not link]
            args = (make, tmp_path / name, link, others, (halts or {}).get(name))
            started.append(FORK.Process(target=go, args=args))
        for process in started:
            if not process.pid:
                process.start()
        for link in every:
            link.close()
        for process in started:
            process.join(120)
            assert not process.is_alive()
        ends = {name: tmp_path / name / "end.pt" for name in runs}
        return {name: torch.load(path) if path.exists() else None for name, path in ends.items()}

    yield run
    for process in started:
        if process.is_alive():
            process.kill()


@pytest.fixture
def alone(build: Callable) -> Callable:
    return lambda *words: build(*words, folder="alone" + "".join(words)[-8:]).go()


def equal(end: dict[str, Any], bench: Any) -> None:
    """To 1e-5: weights, and everything that was measured on the way."""
    for name, value in bench.state.items():
        torch.testing.assert_close(end["state"][name], value, rtol=1e-5, atol=1e-5)
    assert end["tally"]["steps"] == bench.journal.tally["steps"]
    assert end["metrics"].keys() == bench.metrics.keys()


def rows(text: str) -> list[str]:
    """Of a history what no rounding touches: where each number stands."""
    return [line.rpartition(",")[0] for line in text.splitlines()]


SEEDS = {f"s{seed}": (*SMALL, f"seed={seed}") for seed in range(3)}


def test_each_run_becomes_what_it_becomes_alone(together: Callable, alone: Callable, tmp_path: Path) -> None:
    ends = together(SEEDS)
    for name, words in SEEDS.items():
        bench = alone(*words)
        equal(ends[name], bench)
        assert ends[name]["tally"]["side_by_side"] == sorted(SEEDS.keys() - {name})
        assert rows((tmp_path / name / "metrics.csv").read_text()) == rows(bench.rows.decode())
        assert 0 < ends[name]["tally"]["cpu_seconds"]
    assert not torch.equal(ends["s0"]["state"]["net.head.weight"], ends["s1"]["state"]["net.head.weight"])


def test_all_end_in_the_middle_and_go_on_together_with_the_same_bits(together: Callable) -> None:
    whole = together({f"whole/{name}": words for name, words in SEEDS.items()})
    assert set(together(SEEDS, halts=dict.fromkeys(SEEDS, 4)).values()) == {None}
    ends = together(SEEDS)
    for name in SEEDS:
        state = whole[f"whole/{name}"]["state"]
        assert all(torch.equal(value, state[key]) for key, value in ends[name]["state"].items())


@pytest.mark.full
def test_the_rest_goes_on_when_one_leaves_and_it_can_end_alone(together: Callable, alone: Callable, build: Callable) -> None:
    ends = together(SEEDS, halts={"s1": 3})
    assert ends["s1"] is None
    late = build(*SEEDS["s1"], folder="s1").go()
    equal(ends["s0"], alone(*SEEDS["s0"]))
    equal(ends["s2"], alone(*SEEDS["s2"]))
    equal({"state": late.state, "tally": late.journal.tally, "metrics": late.metrics}, alone(*SEEDS["s1"]))
    assert late.journal.tally["side_by_side"] == ["s0", "s2"], "of before it was interrupted"


@pytest.mark.full
def test_they_end_by_themselves_when_the_process_that_trains_dies(together: Callable, alone: Callable) -> None:
    ends = together(SEEDS, blocks=3)
    for name, words in SEEDS.items():
        equal(ends[name], alone(*words))


SNIP = ("method=snip", *SMALL[1:])  # with two controls


@pytest.mark.full
def test_controls_and_layers_by_the_dense_kernel_train_together_too(together: Callable, alone: Callable) -> None:
    """With `auto` the small layers are w * m alone, and kept values side by side."""
    words = (*SNIP, "method.keep=0.1", "method.kernel=auto", "backbone.widths=[60,20]", "optimizer=sgd", "optimizer.momentum=0.9")
    runs = {name: (*words, f"seed={seed}") for seed, name in enumerate(("a", "b"))}
    ends = together(runs)
    for name, words in runs.items():
        equal(ends[name], alone(*words))
        assert ends[name]["tally"]["side_by_side"] == sorted(runs.keys() - {name})


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("method.kernel=dense",), marks=pytest.mark.full),  # no layer trains kept values
        pytest.param(("method.scope=unit",), marks=pytest.mark.full),  # biases have masks, too
        ("method=rigl", "method.every=1"),  # its mask moves
        pytest.param(("backbone=lenet5",), marks=pytest.mark.full),
        pytest.param(("+backbone.redundancy=2",), marks=pytest.mark.full),  # more between layers than units
    ],
)
def test_what_cannot_train_beside_others_trains_alone_with_its_own_bits(
    words: tuple, together: Callable, alone: Callable
) -> None:
    words = (*SMALL, *words, "budget.steps=3", "budget.validate_every=null")
    if "method=rigl" in words:
        words = words[1:]
    runs = {name: (*words, f"seed={seed}") for seed, name in enumerate(("a", "b"))}
    ends = together(runs)
    for name, words in runs.items():
        bench = alone(*words)
        assert "side_by_side" not in ends[name]["tally"]
        assert all(torch.equal(value, ends[name]["state"][key]) for key, value in bench.state.items())


@pytest.mark.full
def test_runs_of_other_lengths_wait_for_nobody(together: Callable, alone: Callable) -> None:
    runs = {"a": SEEDS["s0"], "b": SEEDS["s1"], "c": (*SEEDS["s2"], "budget.steps=40")}
    ends = together(runs)
    for name, words in runs.items():
        equal(ends[name], alone(*words))
    assert ends["a"]["tally"]["side_by_side"] == ["b"] and "side_by_side" not in ends["c"]["tally"]
