"""Several processes that train one net together, each on its part of every batch, end with what one process ends with.

A pair of processes is started once and has the runs of all methods, as two ranks of Lightning's DDP over gloo. Batches are of odd
size, so that one rank always has a row more than the other.
"""

import csv
import runpy
import socket
from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytestmark = pytest.mark.full

HERE = Path(__file__).parent
# Adam and RMSprop make whole steps of the rounding of a gradient that is near 0
STEADY = ["optimizer=sgd", "optimizer.lr=0.1"]
OWN = {  # what a method's case has of its own, so that rounding stays rounding
    "psp": STEADY,  # a weight by RMSprop differed by 1.3e-5, by SGD by 9e-8
    "rigl": STEADY,  # its newborn weights are those of the largest gradients
    "hat": ["data.stages=5"],  # larger stages would have epochs of more steps
    "hopsupsup": ["trainer.sync_batchnorm=true"],  # its net standardises by the batch
}
# of two loops: the inner one multiplies rounding by itself, and so does a norm of a unit that is always off
FEW_STEPS = [*STEADY, "budget.steps=3", "method.rate=0.05", "backbone.eps=0.1"]


class Ranks:
    """Processes that train together; started anew after one of them failed."""

    def __init__(self, start: Callable) -> None:
        self.start, self.links = start, []

    def run(self, cfg: Any, folder: Path) -> list[dict[str, Any]]:
        """What each rank ends with."""
        self.links = self.links or self.start()
        for link in self.links:
            link.send((cfg, folder))
        answers = [self.heard(link) for link in self.links]
        if any(isinstance(one, str) for one in answers):
            for link in self.links:
                link.close()
            self.links = []
            pytest.fail("\n".join(f"rank {n}: {one}" for n, one in enumerate(answers) if isinstance(one, str)), pytrace=False)
        return answers

    def heard(self, link: Any) -> dict[str, Any] | str:
        try:
            return link.recv()
        except (EOFError, OSError):
            return "it has ended"


@pytest.fixture(scope="module")
def ranks(processes: Any) -> Iterator[Ranks]:
    started = []

    def start() -> list:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
        links = []
        for rank in range(2):
            ours, theirs = Pipe()
            names = {"link": theirs, "rank": rank, "world": 2, "port": port}
            process = processes.Process(target=runpy.run_path, args=(str(HERE / "ranks.py"), names, "script"))
            process.start()
            theirs.close()
            started.append(process)
            links.append(ours)
        return links

    made = Ranks(start)
    yield made
    for link in made.links:
        link.close()
    for process in started:
        process.join()


def close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-5, atol=1e-5) if one.is_floating_point() else torch.equal(one, other)


def history(path: Path) -> dict[tuple, float]:
    rows = list(csv.reader(path.open()))[1:]
    return {tuple(row[:4]): float(row[4]) for row in rows}


@pytest.fixture
def agree(build: Callable, compose: Callable, ranks: Ranks, tmp_path: Path) -> Callable:
    """`agree(*words)`: two ranks end alike, with the masks of one process, its weights and its history."""

    def check(*words: str) -> None:
        alone = build(*words).go()
        first, second = ranks.run(compose(*words, "trainer=ddp"), tmp_path / "two")
        masks = alone.method.masks()
        assert first["masks"].keys() == second["masks"].keys() == masks.keys()
        assert [name for name, mask in masks.items() if not torch.equal(mask, first["masks"][name])] == []
        assert first["state"].keys() == second["state"].keys() == alone.state.keys()
        assert [name for name, value in first["state"].items() if not torch.equal(value, second["state"][name])] == []
        differing = {
            n: float((v - first["state"][n]).abs().max()) for n, v in alone.state.items() if not close(v, first["state"][n])
        }
        assert differing == {}
        assert history(tmp_path / "two" / "metrics.csv") == pytest.approx(
            history(alone.folder / "metrics.csv"), rel=1e-4, abs=1e-5
        )

    return check


def odd(tiny: tuple[str, ...], compose: Callable) -> list[str]:
    """A method's small run, in batches of odd size; of stages, two."""
    size = next(int(word.partition("=")[2]) for word in tiny if word.startswith("budget.batch_size="))
    data = compose(*tiny).data
    return [*tiny, *(["data.stages=2"] if "stages" in data else []), f"budget.batch_size={size - 1}"]


def test_two_ranks_end_with_what_one_process_ends_with(tiny: tuple[str, ...], compose: Callable, agree: Callable) -> None:
    episodes = FEW_STEPS if "ways" in compose(*tiny).data else []
    agree(*odd(tiny, compose), *episodes, *OWN.get(tiny[0].partition("=")[2], []))


LAST = ["finetune", "mc_dropout", "masksembles", "mimo", "batch_ensemble_members", "replay", "supermask", "transfer_bss"]


@pytest.mark.parametrize("tiny", LAST, indirect=True)
def test_an_epochs_last_batch_may_have_no_row_for_a_rank(
    tiny: tuple[str, ...], compose: Callable, build: Callable, agree: Callable
) -> None:
    """Of its one row the first rank has all; then comes the next epoch's first batch."""
    words = odd(tiny, compose)
    rows = len(build(*words, folder="look").stages[-1].train)
    agree(*words, f"budget.batch_size={rows - 1}", "budget.steps=3", *STEADY)


NORMED = ["backbone=mlp_200x3_norm", "backbone.widths=[24,12]", "backbone.width=1.0"]
BY_BATCH = ["dense", "finetune", "edge_popup", "supermask", "packnet", "supsup", "batch_ensemble_members", "mc_dropout"]


@pytest.mark.parametrize("tiny", BY_BATCH, indirect=True)
def test_norms_over_the_whole_batch_where_that_is_asked_for(tiny: tuple[str, ...], compose: Callable, agree: Callable) -> None:
    agree(*plain(odd(tiny, compose)), *NORMED, *STEADY, "trainer.sync_batchnorm=true")


def plain(words: list[str]) -> list[str]:
    """Without what is said of the method's own net."""
    return [word for word in words if not word.startswith("backbone")]


def test_else_each_rank_has_the_norms_of_its_own_rows_and_all_answer_by_those_of_the_first(
    compose: Callable, build: Callable, ranks: Ranks, tmp_path: Path
) -> None:
    words = [
        "method=finetune",
        "data.base=synthetic",
        "data.stages=2",
        *NORMED,
        "budget.steps=5",
        "budget.batch_size=31",
        *STEADY,
    ]
    words += ["budget.epochs=null", "task.trials=5", "task.probe=20"]
    alone = build(*words).go().state
    first, second = (one["state"] for one in ranks.run(compose(*words, "trainer=ddp"), tmp_path / "two"))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    apart = {name: float((value.float() - first[name]).abs().max()) for name, value in alone.items()}
    assert apart["net.norms.0.running_mean"] > 1e-3 and apart["net.hidden.1.weight"] > 1e-5


IMAGES = ["data=cifar10", "data.base=synthetic_cifar10", "data.val=100", "backbone.channels=[4,4]", "backbone.widths=[8,8]"]


@pytest.mark.parametrize("drop_channels", [False, True])
def test_augmentation_and_dropout_inside_a_net_draw_what_one_process_draws(drop_channels: bool, agree: Callable) -> None:
    words = ["method=dense", *IMAGES, "backbone=conv_example", f"backbone.drop_channels={str(drop_channels).lower()}"]
    agree(*words, "budget.steps=4", "budget.epochs=null", "budget.batch_size=31", *STEADY)
