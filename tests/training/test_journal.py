"""Resuming: done steps are replayed, the open one goes on from its checkpoint; what cannot be read is said plainly."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from maskbench.common.errors import UsageError
from maskbench.masks.stores import TensorStore
from maskbench.runs.record import History
from maskbench.training import journal as journals
from maskbench.training.journal import Journal

PACKNET = (
    "method=packnet", "data.base=synthetic", "backbone.widths=[24,12]", "budget.steps=12", "budget.batch_size=32",
    "loop.block=4", "loop.log_every=3", "task.probe=20",
)  # fmt: skip


class Walker(nn.Module):
    """A tiny method: a place that moves, and a shelf that grows with the steps."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("place", torch.zeros(3))
        self.seen = TensorStore()

    def walk(self, name: str) -> dict:
        self.place += torch.randn(3)
        self.seen.put(name, self.place)
        return {"place": self.place.clone(), "name": name, "list": [1, 2.5, None, True]}


class Rows:
    """A history in memory."""

    position, sha256 = 0, ""

    def rewind(self, position: int, sha256: str | None = None) -> None:
        self.rewound = position

    def flush(self) -> None:
        pass


def opened(folder: Path, *, every: float = 0.0, seed: int = 0, write: bool = True) -> tuple[Journal, Walker]:
    folder.mkdir(exist_ok=True)
    walker = Walker()
    return Journal(folder, walker, seed=seed, every=every, history=Rows(), write=write), walker


def steps(journal: Journal, walker: Walker, names: str, work: Callable | None = None) -> list[dict]:
    return [journal.part(name, lambda n=name: (work or walker.walk)(n)) for name in names]


# ---- steps


def test_done_steps_return_what_they_returned_and_are_not_done_again(tmp_path: Path) -> None:
    journal, walker = opened(tmp_path)
    values = steps(journal, walker, "abc")
    journal, walker = opened(tmp_path)
    worked = []

    def work(name: str) -> dict:
        worked.append(name)
        return walker.walk(name)

    again = steps(journal, walker, "abc", work)
    assert worked == []
    assert [(v["name"], v["list"]) for v in again] == [(v["name"], v["list"]) for v in values]
    assert all(torch.equal(a["place"], b["place"]) for a, b in zip(values, again, strict=True))
    steps(journal, walker, "d", work)
    assert worked == ["d"]


def test_the_method_is_as_it_was_when_the_open_step_began(tmp_path: Path) -> None:
    calm, still = opened(tmp_path / "calm")
    steps(calm, still, "abcd")
    journal, walker = opened(tmp_path)
    steps(journal, walker, "ab")

    def fall(name: str) -> dict:
        walker.walk(name)
        walker.walk("half done")
        raise OSError

    with pytest.raises(OSError):
        steps(journal, walker, "c", fall)
    journal, walker = opened(tmp_path)
    assert walker.seen.names() == ["a", "b"]
    steps(journal, walker, "abcd")
    assert torch.equal(walker.place, still.place)
    assert walker.seen.names() == ["a", "b", "c", "d"]


@pytest.mark.parametrize("every", [0.0, 1e9])
@pytest.mark.parametrize("stop", range(5))
def test_wherever_it_stops_the_end_is_the_same(every: float, stop: int, tmp_path: Path) -> None:
    calm, still = opened(tmp_path / "calm")
    steps(calm, still, "abcd")
    steps(*opened(tmp_path, every=every), "abcd"[:stop])
    journal, walker = opened(tmp_path, every=every)
    assert journal.parts_before == (stop if every == 0 else 0)
    assert bool(journal.resumed) == (every == 0 and stop > 0)
    steps(journal, walker, "abcd")
    assert torch.equal(walker.place, still.place)


def test_each_step_draws_from_a_stream_of_its_own(tmp_path: Path) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = steps(*opened(tmp_path / "0"), "ab")
    assert torch.equal(torch.get_rng_state(), state), "the caller's generators are left alone"
    torch.manual_seed(2)
    assert torch.equal(steps(*opened(tmp_path / "1"), "ab")[1]["place"], first[1]["place"])
    assert not torch.equal(steps(*opened(tmp_path / "2", seed=1), "ab")[1]["place"], first[1]["place"])


def test_names_are_unique(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="called a"):
        steps(*opened(tmp_path), "aa")


def test_whoever_may_not_write_does_not(tmp_path: Path) -> None:
    journal, walker = opened(tmp_path, write=False)
    steps(journal, walker, "ab")
    journal.save()
    assert list(tmp_path.iterdir()) == []


def test_steps_are_told_with_their_values_old_and_new(tmp_path: Path) -> None:
    steps(*opened(tmp_path), "ab")
    journal, walker = opened(tmp_path)
    told = []
    journal.on_part = lambda name, value: told.append((name, value["name"], len(journal.done)))
    steps(journal, walker, "abc")
    assert told == [("a", "a", 1), ("b", "b", 2), ("c", "c", 3)]


# ---- phases


def test_ended_phases_hand_back_their_state_and_the_open_one_its_checkpoint(tmp_path: Path) -> None:
    journal, walker = opened(tmp_path)
    assert journal.resume(walker) == (None, None)
    walker.place.fill_(1)
    journal.end_phase(walker, {"steps": 5})
    walker.place.fill_(2)
    journal.save({"step": 3, "method": journals.snapshot(walker)})
    walker.place.fill_(9)  # lost

    journal, walker = opened(tmp_path)
    assert torch.equal(walker.place, torch.zeros(3))
    assert "training at step 3" in journal.resumed
    assert journal.resume(walker)[0] == {"steps": 5} and walker.place.tolist() == [1, 1, 1]
    result, checkpoint = journal.resume(walker)
    assert result is None and checkpoint["step"] == 3 and walker.place.tolist() == [2, 2, 2]
    journal.end_phase(walker, {})
    assert journal.resume(walker) == (None, None), "the phase after it is a new one"


def test_a_snapshot_is_not_written_into_by_what_comes_after() -> None:
    walker = Walker()
    kept = journals.snapshot(walker)
    walker.place.fill_(7)
    assert kept["place"].tolist() == [0, 0, 0]


# ---- files


def test_files_are_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def half(temporary: Path) -> None:
        temporary.write_text("ne")
        assert path.read_text() == "old"
        raise OSError

    with pytest.raises(OSError):
        journals.replace(path, half)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    journals.replace(path, lambda temporary: temporary.write_text("new"))
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:100]),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "noise": lambda path: path.write_bytes(bytes(range(256)) * 20),
    "text": lambda path: path.write_text("not a checkpoint"),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", ["checkpoint.pt", "part-00001.pt"])
def test_a_damaged_file_is_named_with_what_to_do(name: str, damage: str, tmp_path: Path) -> None:
    steps(*opened(tmp_path), "ab")
    DAMAGE[damage](tmp_path / "state" / name)
    with pytest.raises(UsageError) as error:
        steps(*opened(tmp_path), "ab")
    text = str(error.value)
    assert str(tmp_path / "state" / name) in text and "delete the folder" in text and "force=true" in text
    assert "\n" not in text


def test_a_missing_value_is_named(tmp_path: Path) -> None:
    steps(*opened(tmp_path), "ab")
    (tmp_path / "state" / "part-00000.pt").unlink()
    with pytest.raises(UsageError, match=r"part-00000\.pt"):
        steps(*opened(tmp_path), "ab")


def test_a_state_of_another_version_is_named(tmp_path: Path) -> None:
    steps(*opened(tmp_path), "ab")
    with pytest.raises(UsageError, match="version"):
        Journal(tmp_path, nn.Linear(2, 2), seed=0, every=0, history=Rows())


@pytest.mark.full
def test_deleting_the_state_starts_the_run_anew(build: Callable, relay: Callable, same: Callable) -> None:
    calm = build(*PACKNET, folder="calm").go()
    words = (*PACKNET, "loop.checkpoint_seconds=0")
    with pytest.raises(Exception, match="^$"):
        build(*words).go(halt_at=8)
    bench = build(*words)
    bench.history.close()
    assert bench.journal.resumed
    for path in (bench.folder / "state").iterdir():
        path.unlink()
    same(calm, build(*words).go())


# ---- the history


@pytest.mark.sample(1)
@pytest.mark.parametrize("every", [0, 1e9], ids=["saved-always", "saved-never"])
def test_rows_after_the_open_point_are_taken_back(every: float, build: Callable, relay: Callable, same: Callable) -> None:
    calm = build(*PACKNET, folder="calm").go()
    words = (*PACKNET, f"loop.checkpoint_seconds={every}")
    resumed = relay(*words, folder="resumed", halts=[2, 3, 5, 7] if every == 0 else [2, 9])
    same(calm, resumed)
    assert b"\0" not in resumed.rows


@pytest.mark.full
def test_stopping_again_before_a_new_row_was_written(build: Callable, relay: Callable, same: Callable) -> None:
    """Rows fall due rarely, so the second attempt saves without having written since it took rows back."""
    words = (*PACKNET, "loop.block=1", "loop.log_every=5", "loop.checkpoint_seconds=0")
    calm = build(*words, folder="calm").go()
    same(calm, relay(*words, folder="resumed", halts=[6, 3, 2, 2, 2, 4]))


def test_a_history_that_lost_rows_is_named(build: Callable) -> None:
    words = (*PACKNET, "loop.checkpoint_seconds=0")
    with pytest.raises(Exception, match="^$"):
        build(*words).go(halt_at=4)
    path = build(*words).folder / "metrics.csv"
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(UsageError, match=r"metrics\.csv lost rows"):
        build(*words)


def test_a_history_goes_back_and_on(tmp_path: Path) -> None:
    history = History(tmp_path / "m.csv")
    history.rewind(0)
    history.add("s", "train", 1, {"loss": 0.1, "x": 1.0})
    history.flush()
    position = history.position
    history.add("s", "train", 2, {"loss": 0.2})
    history.close()
    before = (tmp_path / "m.csv").read_bytes()
    assert position == before.index(b"s,train,2")

    history = History(tmp_path / "m.csv")
    history.rewind(position)
    assert history.position == position, "before anything is written too"
    history.add("s", "train", 2, {"loss": 0.2})
    history.close()
    assert (tmp_path / "m.csv").read_bytes() == before
    assert before == b"stage,phase,step,metric,value\ns,train,1,loss,0.1\ns,train,1,x,1.0\ns,train,2,loss,0.2\n"


def test_numbers_in_the_history_read_back_exactly(tmp_path: Path) -> None:
    value = 0.1 + 0.2
    history = History(tmp_path / "m.csv")
    history.rewind(0)
    history.add("s", "train", 1, {"loss": value})
    history.close()
    assert float((tmp_path / "m.csv").read_text().splitlines()[1].split(",")[-1]) == value


# ---- cost


def test_training_seconds_add_up_over_attempts(build: Callable, relay: Callable) -> None:
    words = (*PACKNET, "loop.checkpoint_seconds=0")
    bench = relay(*words, folder="resumed", halts=[4, 6])
    assert bench.journal.tally["steps"] == 4 * 18 + 12
    lessons = bench.outcome.metrics["train_cpu_seconds_per_stage"] * 5
    assert lessons == pytest.approx(bench.fit.cpu_seconds)
    assert lessons > 0
