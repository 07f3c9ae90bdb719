"""The stage of test images that are not named: from the first image of a group or from all of it, groups of a stated size."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from maskbench.cli import preflight
from maskbench.common import identity
from maskbench.common.errors import UsageError
from maskbench.data.stage import Origin, Split, Stage
from maskbench.tasks import continual
from maskbench.training.method import Method

ROWS = 20


class Guesses(Method):
    """Takes a group for stage 1 where its mean is above a half; right on every image."""

    inference_rules = ("mean",)

    def __init__(self) -> None:
        super().__init__(nn.Linear(1, 1))
        self.asked: list[Tensor] = []

    def infer(self, groups: Tensor, rule: str) -> Tensor:
        self.asked.append(groups)
        return (groups.flatten(1).mean(1) > 0.5).long()

    def predict(self, x: Tensor, stage: Stage) -> Tensor:
        return torch.stack([x[:, 0] * 0 + 1, x[:, 0] * 0], -1)[None]


def stages(x: Tensor) -> list[Stage]:
    split = Split(x[:, None], torch.zeros(len(x), dtype=torch.long))
    sizes = {"total": 2, "classes": (0, 1), "outputs": 2, "shape": (1,), "origin": Origin("made", "synthetic")}
    return [Stage(index=i, name=str(i), train=split, val=split, test=split, **sizes) for i in range(2)]


def inferred(x: Tensor, group: int, pooling: str) -> tuple[dict, Guesses]:
    method, (_, stage) = Guesses(), stages(x)
    return continual.infer(method, stages(x), stage, 4, group, pooling), method


def test_one_image_speaks_for_its_group_or_all_of_it_do() -> None:
    x = torch.ones(ROWS)
    x[::8] = 0  # the first image of each group of 8 misleads
    alone, _ = inferred(x, 8, "first")
    assert alone["unshared"] == 0 and alone["shared"] == 1 and alone["images"] == 1
    assert alone["confusion"] == [1, 3] and alone["rates"]["mean_8"] == 1
    pooled, _ = inferred(x, 8, "all")
    assert pooled["unshared"] == pooled["rates"]["mean_8"] == 1 and pooled["images"] == 8
    assert pooled["confusion"] == [0, 2], "whole groups are counted"
    assert pooled["rates"]["mean_1"] == alone["rates"]["mean_1"] == pytest.approx(0.75)


def test_another_visit_of_the_same_images_is_the_right_stage() -> None:
    x = torch.ones(ROWS)  # taken for stage 1
    first, again = stages(x)
    again = replace(again, repeats=0)
    found = continual.infer(Guesses(), [first, again], first, 4, 8, "all")
    assert found["rates"] == {"mean_1": 1, "mean_8": 1} and found["unshared"] == found["shared"] == 1
    assert continual.infer(Guesses(), stages(x), first, 4, 8, "all")["unshared"] == 0, "another stage is not"


def test_the_last_group_is_filled_up_from_the_start() -> None:
    x = torch.cat([torch.ones(16), torch.zeros(4)])
    found, method = inferred(x, 8, "all")
    assert method.asked[-1].shape == (1, 8, 1) and method.asked[-1].flatten().tolist() == [0] * 4 + [1] * 4
    assert found["unshared"] == 16 / 20  # a mean of one half is not above it


def test_fewer_images_than_a_group_are_one() -> None:
    found, method = inferred(torch.ones(5), 8, "all")
    assert found["unshared"] == 1 and found["images"] == 5 and [len(groups[0]) for groups in method.asked] == [1, 5]


@pytest.mark.full
def test_they_count_and_their_defaults_leave_keys_alone(compose: Callable) -> None:
    def key(*words: str) -> str:
        return identity.key(compose("method=supsup", *words))

    assert len({key(), key("task.group=64"), key("task.pooling=all"), key("task.group=64", "task.pooling=all")}) == 4
    rotated = ("data=rotatedmnist",)
    assert key(*rotated) != key(*rotated, "data.interpolation=nearest")
    for wrong, said in {
        "task.group=0": "task.group=0 must be a whole number at least 1",
        "task.pooling=some": "task.pooling=some must be first or all",
        "data.interpolation=cubic": "data.interpolation=cubic must be bilinear or nearest",
    }.items():
        with pytest.raises(UsageError, match=said):
            preflight.check(["method=supsup", *rotated, wrong, "logger=none"], starts=False)
