"""Recall and precision of a mask that is known."""

import pytest
import torch
from torch import nn

from maskbench.tasks.metrics import recovery
from maskbench.training.method import Method

TRUTH = {"a": torch.tensor([[1, 1, 0, 0]]).bool(), "b": torch.tensor([1, 0]).bool()}


def found(a: list[int], b: list[int]) -> dict[str, torch.Tensor]:
    return {"a": torch.tensor([a]).bool(), "b": torch.tensor(b).bool()}


@pytest.mark.parametrize(
    ("masks", "recall", "precision"),
    [
        (found([1, 1, 0, 0], [1, 0]), 1.0, 1.0),
        (found([0, 1, 1, 0], [0, 1]), 1 / 3, 1 / 3),
        (found([0, 1, 0, 0], [0, 0]), 1 / 3, 1.0),
        (found([0, 0, 0, 0], [0, 0]), 0.0, None),
        ({}, 1.0, 0.5),
        ({"b": torch.tensor([0, 1]).bool()}, 2 / 3, 2 / 5),
    ],
)
def test_both_shares_by_hand(masks: dict, recall: float, precision: float | None) -> None:
    assert recovery.recovery(masks, TRUTH) == {"ticket_recall": recall, "ticket_precision": precision}


def test_the_last_level_counts() -> None:
    masks = {f"{level}/a": torch.tensor([level > 8]) for level in (0, 9, 10)}
    assert recovery.latest(masks | {"10/b": torch.tensor([False])}).keys() == {"a", "b"}
    assert recovery.latest(masks)["a"] and recovery.latest({}) == {}


def test_only_a_net_that_hides_a_ticket_is_judged() -> None:
    method = Method(nn.Linear(2, 1))
    assert recovery.of(method) == {}
    method.net.planted = {"weight": torch.tensor([[True, False]])}
    assert recovery.of(method) == {"ticket_recall": 1.0, "ticket_precision": 0.5}
    method.net.given = {"source": "file"}
    assert recovery.of(method) == {}, "a file's weights hide another"
