"""What decides the bits of a run: its config and seed. Not the block size, not interruptions, not validation looks."""

from collections.abc import Callable

import pytest
import torch


@pytest.mark.full
def test_the_same_seed_gives_the_same_bits_and_another_does_not(
    tiny: tuple[str, ...], calm, build: Callable, same: Callable
) -> None:
    same(calm, build(*tiny, folder="again").go())
    other = build(*tiny, "seed=1", folder="other").go()
    moving = [name for name, w in calm.state.items() if w.is_floating_point() and w.numel() > 50]
    assert any(not torch.equal(calm.state[name], other.state[name]) for name in moving)


@pytest.mark.parametrize("block", [pytest.param(1, marks=pytest.mark.full), 7])
def test_block_size_leaves_the_bits_alone(tiny: tuple[str, ...], calm, block: int, build: Callable, same: Callable) -> None:
    assert calm.cfg.loop.block > 7
    same(calm, build(*tiny, f"loop.block={block}", folder="other").go())


EVERY = [pytest.param(0, id="saved-always"), pytest.param(1e9, id="saved-never", marks=pytest.mark.full)]


@pytest.mark.parametrize("every", EVERY)
def test_an_interrupted_run_goes_on_bit_for_bit(
    tiny: tuple[str, ...], calm, every: float, relay: Callable, same: Callable
) -> None:
    """Attempts end in the first block, in a later one, in later stages; saving never only means more work again."""
    halts = [1, 2, 3, 5, 2] if every == 0 else [1, 4]
    if len(calm.stages) == 1:
        halts = halts[:2]
    resumed = relay(*tiny, "loop.block=3", f"loop.checkpoint_seconds={every}", folder="resumed", halts=halts)
    same(calm, resumed)


@pytest.mark.full
def test_interrupted_between_two_steps_of_the_task(tiny: tuple[str, ...], calm, build: Callable, same: Callable) -> None:
    class End(Exception):
        pass

    for steps in (1, 2) if len(calm.stages) > 1 else (1,):
        bench = build(*tiny, "loop.checkpoint_seconds=0", folder="resumed")

        def end(name: str, value: dict, journal=bench.journal, steps: int = steps) -> None:
            if len(journal.done) == steps:
                raise End

        bench.journal.on_part = end
        with pytest.raises(End):
            bench.go()
    same(calm, build(*tiny, "loop.checkpoint_seconds=0", folder="resumed").go())


@pytest.mark.full
def test_looks_at_the_validation_split_do_not_disturb(tiny: tuple[str, ...], calm, build: Callable) -> None:
    looked = build(*tiny, "budget.validate_every=2", folder="looked").go()
    assert all(torch.equal(value, looked.state[name]) for name, value in calm.state.items())
    # numbers that are made of looks are undefined without them
    assert {name: looked.metrics[name] for name, value in calm.metrics.items() if value is not None} == {
        name: value for name, value in calm.metrics.items() if value is not None
    }
    trains = calm.journal.tally["steps"] > 0  # a method that only draws and chooses is never looked at on the way
    assert (b"val_loss" in looked.rows) == trains and b"val_loss" not in calm.rows
