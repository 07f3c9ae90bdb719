"""WSN against its authors' layer and their zeroed gradients: two stages of Adam, the masks drawn, how many they keep."""

from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskbench import masks
from maskbench.methods.continual.wsn import WSN
from maskbench.training.method import Method

NAMES = {"a": "a.weight", "b": "b.weight"}
KEEPS = (0.03, 0.1, 0.3, 0.5, 0.7)


def winning(frozen: dict[str, Tensor]) -> WSN:
    layers = {"a": nn.Linear(9, 7, bias=False), "relu": nn.ReLU(), "b": nn.Linear(7, 6, bias=False), "relu_": nn.ReLU()}
    method = WSN(nn.Sequential(OrderedDict(layers, head=nn.Linear(6, 3, bias=False))), keep=0.4)
    for letter, name in NAMES.items():
        method.trunk[name].data.copy_(frozen[f"w0_{letter}"])
        method.score(name).data.copy_(frozen[f"s0_{letter}"])
    return method


def test_two_stages_learn_as_by_the_authors_layer(frozen, stage) -> None:
    method = winning(frozen)

    def fit(method: Method, stage) -> None:
        method.heads.of(stage.index)["head.weight"].data.copy_(frozen[f"head_{stage.index}"])
        optimizer = torch.optim.Adam(method.trainable_parameters(), lr=0.05)
        for x, y in zip(frozen[f"x_{stage.index}"], frozen[f"y_{stage.index}"], strict=True):
            optimizer.zero_grad()
            F.cross_entropy(method.logits(x, stage), y).backward()
            optimizer.step()

    for number in range(2):
        used = {name: ~method.owners.free(name) for name in method.trunk}
        method.learn(now := stage(index=number, total=2), fit)
        drawn = method.bank.read(number)
        for letter, name in NAMES.items():
            assert torch.equal(drawn[name], frozen[f"mask_{number}_{letter}"].bool())
            weights = torch.where(used[name], method.owners.kept[name], method.trunk[name].detach())
            torch.testing.assert_close(weights, frozen[f"w_{number}_{letter}"])
            torch.testing.assert_close(method.score(name).detach(), frozen[f"s_{number}_{letter}"])
        torch.testing.assert_close(method.logits(frozen[f"x_{number}"][0], now).detach(), frozen[f"out_{number}"])


def test_the_authors_store_the_mask_of_the_last_forward_one_step_older_than_the_scores(frozen) -> None:
    older = [int((frozen[f"last_{s}_{n}"] != frozen[f"mask_{s}_{n}"]).sum()) for s in range(2) for n in NAMES]
    assert sum(older) > 0


@pytest.mark.parametrize("shape", ["12x9", "7x3x3x3"])
def test_masks_are_theirs_but_for_the_count(frozen, shape: str) -> None:
    score = frozen[f"scores/{shape}"]
    for keep in KEEPS:
        theirs = frozen[f"drawn/{shape}/{keep}"].bool()
        cut = masks.cut(score, int(theirs.sum()), magnitude=True)
        assert torch.equal(masks.kept(score, cut, magnitude=True), theirs)
        assert 0 <= int(theirs.sum()) - masks.kept_count(keep, score.numel()) <= 1


@pytest.mark.parametrize(
    ("n", "keep", "ours"), [(30_000, 0.1, 3000), (235_200, 0.03, 7056), (40, 0.3, 12), (30_000, 0.5, 15_000)]
)
def test_ours_keeps_the_ceiling_and_theirs_sometimes_one_more(frozen, n: int, keep: float, ours: int) -> None:
    assert masks.kept_count(keep, n) == ours
    assert int(frozen[f"count/{n}/{keep}"]) == n - round((1 - keep) * (n - 1))
