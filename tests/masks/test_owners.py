"""The ledger: every weight has one owner or none, and a finished stage computes with the same bits for good."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from maskbench import masks
from maskbench.masks.owners import MOST, WeightOwners

SHAPES = {"a.weight": (6, 5), "b.weight": (4, 6)}
OPTIMIZERS = {
    "momentum and decay": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-2),
    "adam and decay": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=1e-2),
    "decoupled decay": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=1e-1),
}


def start(seed: int = 0) -> tuple[dict[str, nn.Parameter], WeightOwners]:
    torch.manual_seed(seed)
    moving = {name: nn.Parameter(torch.randn(shape)) for name, shape in SHAPES.items()}
    return moving, WeightOwners(moving)


def train(ledger: WeightOwners, moving: dict[str, nn.Parameter], optimizer: Callable, steps: int = 5) -> None:
    """A phase of training on random targets, with a fresh optimiser."""
    optimizer = optimizer(list(moving.values()))
    for _ in range(steps):
        loss = sum((w - torch.randn(w.shape)).square().sum() for w in ledger.present(moving).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def lesson(ledger: WeightOwners, moving: dict, stage: int, optimizer: Callable, share: float) -> None:
    ledger.open(moving, stage)
    train(ledger, moving, optimizer)
    for name, w in moving.items():
        ledger.alive[name].copy_(masks.prune(w, ledger.alive[name].bool(), share))
    train(ledger, moving, optimizer)
    ledger.claim(moving, stage)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_finished_stages_keep_their_bits_while_others_train(kind: str) -> None:
    moving, ledger = start()
    answers: list[dict[str, torch.Tensor]] = []
    for stage in range(4):
        lesson(ledger, moving, stage, OPTIMIZERS[kind], 0.5 if stage < 3 else 0.0)
        answers.append({name: w.clone() for name, w in ledger.finished(stage).items()})
        for earlier, answer in enumerate(answers):
            assert all(torch.equal(w, answer[name]) for name, w in ledger.finished(earlier).items())
    assert ledger.share_free() == 0.0


def test_a_stage_computes_the_same_before_and_after_it_is_claimed() -> None:
    moving, ledger = start()
    for stage in range(3):
        ledger.open(moving, stage)
        train(ledger, moving, OPTIMIZERS["momentum and decay"])
        for name, w in moving.items():
            ledger.alive[name].copy_(masks.prune(w, ledger.alive[name].bool(), 0.5))
        before = {name: w.detach().clone() for name, w in ledger.present(moving).items()}
        ledger.claim(moving, stage)
        assert all(torch.equal(w, before[name]) for name, w in ledger.finished(stage).items())


@settings(max_examples=20)
@given(st.lists(st.floats(0, 0.95), min_size=1, max_size=8), st.integers(0, 1000))
def test_owners_are_a_partition_and_masks_are_nested(shares: list[float], seed: int) -> None:
    moving, ledger = start(seed)
    for stage, share in enumerate(shares):
        ledger.open(moving, stage)
        assert all(torch.equal(ledger.alive[name].bool(), ledger.free(name)) for name in SHAPES)
        before = {name: ledger.owner[name].clone() for name in SHAPES}
        for name in moving:
            moving[name].data.normal_()
            ledger.alive[name].copy_(masks.prune(moving[name], ledger.alive[name].bool(), share))
        ledger.claim(moving, stage)
        for name in SHAPES:
            owner, old = ledger.owner[name], before[name]
            assert torch.equal(owner[old > 0], old[old > 0]), "an owner keeps what it owns"
            assert set(owner[old == 0].unique().tolist()) <= {0, stage + 1}
            was_free = int((old == 0).sum())
            assert int((owner == 0).sum()) == round(share * was_free)
            own = [owner == s + 1 for s in range(stage + 1)]
            owners = sum(o.long() for o in own) + ledger.free(name).long()
            assert (owners == 1).all(), "one owner or none"
            union = torch.zeros(owner.shape, dtype=torch.bool)
            for s in range(stage + 1):
                union |= own[s]
                assert torch.equal(ledger.mask(name, s), union)
    total = sum(ledger.owner[name].numel() for name in SHAPES)
    assert ledger.share_free() == sum(int(ledger.free(name).sum()) for name in SHAPES) / total
    assert int(ledger.claimed) == len(shares)


def test_the_first_stage_starts_from_the_net_and_later_ones_from_zero() -> None:
    moving, ledger = start()
    initial = {name: w.detach().clone() for name, w in moving.items()}
    ledger.open(moving, 0)
    assert all(torch.equal(ledger.present(moving)[name], w) for name, w in initial.items())
    for name in moving:
        ledger.alive[name].copy_(masks.prune(moving[name], ledger.alive[name].bool(), 0.5))
    ledger.claim(moving, 0)
    ledger.open(moving, 1)
    for name, w in ledger.present(moving).items():
        assert torch.equal(w, ledger.finished(0)[name]), "freed weights restart from 0"
        assert not w[ledger.free(name)].any()


def test_only_alive_weights_get_a_gradient() -> None:
    moving, ledger = start()
    ledger.open(moving, 0)
    for name in moving:
        ledger.alive[name].copy_(masks.prune(moving[name], ledger.alive[name].bool(), 0.5))
    sum(w.square().sum() for w in ledger.present(moving).values()).backward()
    for name, w in moving.items():
        assert torch.equal(w.grad != 0, ledger.alive[name].bool())


def test_owners_are_bytes_and_do_not_wrap() -> None:
    moving, ledger = start()
    ledger.open(moving, MOST - 1)
    ledger.claim(moving, MOST - 1)
    assert int(ledger.owner["a.weight"].max()) == MOST
    with pytest.raises(ValueError, match=str(MOST)):
        ledger.open(moving, MOST)


def test_a_ledger_is_restored_into_a_fresh_one() -> None:
    moving, ledger = start()
    for stage in range(2):
        lesson(ledger, moving, stage, OPTIMIZERS["momentum and decay"], 0.5)
    _, fresh = start(1)
    fresh.load_state_dict(ledger.state_dict())
    for stage in range(2):
        assert all(torch.equal(w, ledger.finished(stage)[name]) for name, w in fresh.finished(stage).items())
    assert fresh.share_free() == ledger.share_free()
