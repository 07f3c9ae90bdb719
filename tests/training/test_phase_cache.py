"""Shared phases: found or trained, a run has the same bits; and an entry is found exactly when all that decides it is equal."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from maskbench.common import closure
from maskbench.training.phase_cache import PhaseCache

TINY = (
    "data.n_source=300", "data.n_target=12", "data.val=20", "data.test=60", "backbone.widths=[24,16]",
    "budget.steps=30", "budget.batch_size=50", "loop.log_every=7", "budget.validate_every=10",
)  # fmt: skip


def entries(bench) -> dict[str, Path]:
    """The entries by key."""
    return {path.parent.name: path.parent for path in Path(bench.cfg.paths.shared).glob("*/about.json")}


def found(bench) -> list[bool]:
    """Of each shared phase: whether it was found."""
    return [line["trained_by"] is not None for line in bench.journal.tally["shared"]]


@pytest.mark.parametrize(
    "method", ["pac_net", *(pytest.param(f"transfer_{one}", marks=pytest.mark.full) for one in ("l2_sp", "delta", "scratch"))]
)
def test_a_run_that_finds_the_source_has_the_bits_of_one_that_trains_it(method: str, build: Callable, same: Callable) -> None:
    words = (f"method={method}", *TINY)
    alone = build(*words, "paths.shared=null", folder="alone").go()
    first, second = (build(*words, folder=name).go() for name in ("first", "second"))
    assert not any(found(first)) and all(found(second)) and "shared" not in alone.journal.tally
    same(alone, first)
    same(alone, second)
    assert alone.outcome.curves == first.outcome.curves == second.outcome.curves
    assert second.journal.tally["steps"] == first.journal.tally["steps"]
    assert second.fit.cpu_seconds >= first.fit.cpu_seconds / 10, "what the source cost is told, whoever trained it"


@pytest.mark.full
def test_all_methods_and_targets_share_one_source(build: Callable) -> None:
    methods = ["transfer_finetune", "transfer_l2", "transfer_scratch", "transfer_last_layer", "transfer_bss"]
    for n in (5, 12):
        for method in methods:
            bench = build(f"method={method}", *TINY, f"data.n_target={n}", folder=f"{method}{n}").go()
    assert len(entries(bench)) == 1
    for lam in (0.0, 0.01, 1.0):
        bench = build("method=pac_net", *TINY, f"method.calibrate.lam={lam}", folder=f"pac{lam}").go()
    assert len(entries(bench)) == 2, "and PAC-Net's second training does not depend on its penalty"
    assert found(bench) == [True, True]


@pytest.mark.full
@pytest.mark.parametrize(
    "change",
    [
        "seed=1", "optimizer.lr=0.01", "budget.steps=31", "budget.batch_size=49", "schedule=cosine", "data.noise=0.5",
        "data.n_source=299", "backbone.activation=tanh", "backbone.widths=[24,17]", "data.distance=1", "loop.log_every=8",
    ],
)  # fmt: skip
def test_what_decides_the_source_makes_another_entry(change: str, build: Callable) -> None:
    build("method=transfer_finetune", *TINY, folder="a").go()
    bench = build("method=transfer_finetune", *TINY, change, folder="b").go()
    assert found(bench) == [False] and len(entries(bench)) == 2


@pytest.mark.parametrize("change, shared", [("method.prune.ratio=0.5", 1), ("method.prune.criterion=random", 1)])
def test_what_a_method_does_before_decides_its_later_phases(change: str, shared: int, build: Callable) -> None:
    build("method=pac_net", *TINY, folder="a").go()
    assert sum(found(build("method=pac_net", *TINY, change, folder="b").go())) == shared


LEVELS = (
    "method=lottery", "data.base=synthetic", "backbone.widths=[16,12]", "budget.epochs=null", "budget.steps=20",
    "budget.batch_size=32", "task.levels=1",
)  # fmt: skip


@pytest.mark.parametrize("rewound", ["method.rewind_step=0", pytest.param("method.rewind_step=6", marks=pytest.mark.full)])
def test_lotteries_that_differ_in_what_comes_later_share_the_dense_net(rewound: str, build: Callable, same: Callable) -> None:
    """With late rewinding also what is remembered on the way; a run that finds it has the bits of one that trains it."""
    alone = build(*LEVELS, rewound, "paths.shared=null", folder="alone").go()
    later = ("method.rate=0.5", "method.criterion=random", "+task.branches.random.mask=random")
    first = build(*LEVELS, rewound, *later, folder="first").go()
    second = build(*LEVELS, rewound, folder="second").go()
    assert found(first) == [False] and found(second) == [True]
    same(alone, second)
    assert len(entries(second)) == 1
    for number, other in enumerate(("method.rewind_step=7", "method.mask0=freeze_init", "seed=1")):
        shares = found(build(*LEVELS, rewound, other, folder=f"other {number}").go())
        assert shares == [number == 1], other


FIRST = ("data.base=synthetic", "data.stages=2", "task.trials=5", "task.probe=20", *LEVELS[2:-1])


@pytest.mark.sample(1)
@pytest.mark.parametrize("method, other", [("packnet", "method.prune=[0.7]"), ("piggyback", "method.tau=0.001")])
def test_streams_that_differ_in_their_masks_share_the_first_training(
    method: str, other: str, build: Callable, same: Callable
) -> None:
    alone = build(f"method={method}", *FIRST, "paths.shared=null", folder="alone").go()
    first = build(f"method={method}", *FIRST, other, folder="first").go()
    second = build(f"method={method}", *FIRST, folder="second").go()
    assert found(first) == [False] and found(second) == [True]
    same(alone, second)


def test_what_is_looked_at_in_the_middle_is_trained_by_each(build: Callable) -> None:
    for folder in ("first", "second"):
        assert "shared" not in build(*LEVELS, "+method.mask_step=10", folder=folder).go().journal.tally


@pytest.mark.parametrize("damage", ["cut", *(pytest.param(one, marks=pytest.mark.full) for one in ("changed", "gone"))])
def test_a_damaged_entry_is_trained_again(damage: str, build: Callable, same: Callable, caplog) -> None:
    first = build("method=transfer_finetune", *TINY, folder="a").go()
    (place,) = entries(first).values()
    state = place / "state.safetensors"
    content = state.read_bytes()
    if damage == "gone":
        state.unlink()
    else:
        state.write_bytes(content[:-8] if damage == "cut" else content[:-1] + bytes([content[-1] ^ 1]))
    second = build("method=transfer_finetune", *TINY, folder="b").go()
    assert found(second) == [False] and "damaged" in caplog.text
    assert state.read_bytes() == content
    same(first, second)


def test_a_phase_depends_on_the_code_that_trains_it_and_on_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "net_of_mine.py").write_text("x = 1\n")
    shared = PhaseCache(tmp_path, tmp_path, {"optimizer": {"_target_": "torch.optim.Adam"}, "schedule": {"_target_": "a.b"}})
    names, reached = ("net_of_mine", "", "functools"), []
    monkeypatch.setattr(closure, "reached", lambda roots, of=closure.reached: reached.append(of(roots)) or reached[-1])
    before = shared.code(*names)
    assert "net_of_mine" in reached[0].modules and "maskbench.training.fit" in reached[0].modules
    assert not [name for name in reached[0].modules if name.startswith(("maskbench.tasks", "maskbench.methods"))]
    (tmp_path / "net_of_mine.py").write_text("x = 1  # a remark\n")
    assert shared.code(*names) == before
    (tmp_path / "net_of_mine.py").write_text("x = 2\n")
    assert shared.code(*names) != before


def test_a_half_written_entry_is_none(build: Callable) -> None:
    first = build("method=transfer_finetune", *TINY, folder="a").go()
    (place,) = entries(first).values()
    (place / "about.json").unlink()
    assert found(build("method=transfer_finetune", *TINY, folder="b").go()) == [False]


@pytest.mark.full
def test_an_interrupted_run_goes_on_with_its_own(build: Callable, relay: Callable, same: Callable) -> None:
    """Halted inside the source, taken up again; and halted in the target after the source was found."""
    words = ("method=pac_net", *TINY, "loop.block=3", "loop.checkpoint_seconds=0")
    calm = build("method=pac_net", *TINY, "paths.shared=null", folder="calm").go()
    same(calm, relay(*words, folder="resumed", halts=[4, 3, 9]))
    found_then = relay(*words, folder="found", halts=[2])
    assert all(found(found_then)[1:])
    same(calm, found_then)


def test_several_devices_train_for_themselves(build: Callable) -> None:
    bench = build("method=transfer_finetune", *TINY, "trainer.devices=2")
    assert bench.fit.shared is None


RUN = ("logger=none", "loop.progress=false", *TINY[:-2], "budget.steps=1500", "loop.block=5")


def running(output: Path) -> list[Path]:
    return [path for path in (output / ".shared").glob("*.lock")] if (output / ".shared").exists() else []


def wait(happened: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.01)


def result(output: Path, method: str) -> tuple[dict, dict]:
    (folder,) = output.glob(f"{method}-*/s*")
    about = json.loads((folder / "run.json").read_text())
    whole = json.loads((folder / "result.json").read_text())
    return about, {name: value for name, value in whole["metrics"].items() if "seconds" not in name}


@pytest.mark.full
def test_one_of_two_runs_at_once_trains_and_the_other_waits(program: Callable, tmp_path: Path) -> None:
    """The one that trains is killed with -9: the one that waits trains; the killed one goes on where it was."""
    words = (*RUN, f"paths.output={tmp_path / 'out'}")
    first = program("method=transfer_finetune", *words, "loop.checkpoint_seconds=0", log="first")
    wait(lambda: bool(list((tmp_path / "out").glob("*/s*/state/checkpoint.pt"))))
    second = program("method=transfer_l2_sp", *words, log="second")
    wait(lambda: "waiting for it" in (tmp_path / "second").read_text() if (tmp_path / "second").exists() else False)
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    second.join()
    assert second.exitcode == 0
    again = program("method=transfer_finetune", *words, log="again")
    again.join()
    assert again.exitcode == 0
    about, mine = result(tmp_path / "out", "transfer_finetune")
    other, theirs = result(tmp_path / "out", "transfer_l2_sp")
    assert mine["source_rmse"] == theirs["source_rmse"]
    assert [line["trained_by"] for line in other["shared"]] == [None]
    third = program("method=transfer_last_layer", *words, log="third")
    third.join()
    about, found_by = result(tmp_path / "out", "transfer_last_layer")
    assert found_by["source_rmse"] == mine["source_rmse"]
    (line,) = about["shared"]
    assert "transfer_l2_sp-friedman1_transfer" in line["trained_by"] and (tmp_path / "out" / ".shared" / line["key"]).is_dir()


def test_the_state_is_that_of_the_shared_module(build: Callable) -> None:
    from safetensors.torch import load_file

    bench = build("method=transfer_finetune", *TINY, folder="a")
    bench.method.learn(bench.stages[0], bench.fit)
    (place,) = entries(bench).values()
    held = load_file(place / "state.safetensors")
    assert all(torch.equal(held[name], value) for name, value in bench.method.net.state_dict().items())
    assert not list(place.glob(".*")), "nothing temporary is left"
