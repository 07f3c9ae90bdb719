"""The baselines with one head over all classes on MNIST streams: continual_masks.md sections 9b and 9c, in percent."""

import pytest

pytestmark = pytest.mark.slow

CONTROL = "method=finetune optimizer=adam backbone.init=torch"
SPLIT = {  # the stage given, and not: each mean over seeds lies within
    f"{CONTROL} method.outputs=seen": ((78, 93), (19, 20.5)),
    "method=ewc method.mode=separate": ((98.7, 100), (19, 25)),
    "method=ewc": ((98.7, 100), (19, 26)),
    "method=si": ((98.5, 100), (19, 26)),
    "method=lwf": ((90, 98.5), (19, 21)),
    "method=replay method.memory=50": ((97.5, 100), (42, 62)),
    "method=replay": ((98, 100), (76.5, 82.5)),
    "method=replay method.memory=1000": ((98.5, 100), (89.5, 92.5)),
    "method=joint": ((99.5, 99.9), (96.8, 97.6)),
}
OWN = {  # the same with method.outputs=stage: what the loss sees moves the answer without the stage more than most methods
    CONTROL: (29, 41),
    "method=ewc": (44, 76),
    "method=si": (44, 74),
    "method=lwf": (43, 71),
    "method=replay": (36, 56),
    "method=joint": (54, 78),
}
PERMUTED = {  # ten permutations, 300 steps a stage, labels shared: mean, tolerance
    f"{CONTROL} method.outputs=seen": (61, 9),
    "method=ewc": (86.8, 2),
    "method=si": (88.8, 2),
    "method=replay method.memory=1000": (90.5, 1.5),
}


def split(runs, row: str, *words: str):
    return runs(*row.split(), "data=splitmnist", *words)


@pytest.mark.parametrize("row", SPLIT)
def test_split_mnist(runs, row: str) -> None:
    done, (given, told_nothing) = split(runs, row), SPLIT[row]
    assert given[0] <= 100 * done.mean("average_accuracy") <= given[1]
    assert told_nothing[0] <= 100 * done.mean("average_accuracy_class_il") <= told_nothing[1]


@pytest.mark.parametrize("row", OWN)
def test_outputs_of_the_stage_alone(runs, row: str) -> None:
    done, (low, high) = split(runs, row, "method.outputs=stage"), OWN[row]
    assert low <= 100 * done.mean("average_accuracy_class_il") <= high
    if "lwf" in row:
        assert 100 * done.mean("average_accuracy") >= 99.2


def test_fine_tuning_forgets_all_but_the_last_stage(runs) -> None:
    """Its class-incremental forgetting is above 99 points."""
    done = split(runs, f"{CONTROL} method.outputs=seen")
    assert all(value > 0.99 for value in done.values("forgetting_class_il"))


def test_joint_training_is_above_all_and_more_memory_is_better(runs) -> None:
    for metric in ("average_accuracy", "average_accuracy_class_il"):
        joint = split(runs, "method=joint").values(metric)
        for row in SPLIT:
            if row != "method=joint":
                assert all(a > b for a, b in zip(joint, split(runs, row).values(metric), strict=True))
    rows = ("method=replay method.memory=50", "method=replay", "method=replay method.memory=1000")
    by_size = [split(runs, row).values("average_accuracy_class_il") for row in rows]
    assert all(small < middle < large for small, middle, large in zip(*by_size, strict=True))


@pytest.mark.parametrize("row", PERMUTED)
def test_ten_permutations(runs, row: str) -> None:
    mean, tolerance = PERMUTED[row]
    done = runs(*row.split(), "data=permutedmnist", "budget.steps=300")
    assert 100 * done.mean("average_accuracy") == pytest.approx(mean, abs=tolerance)


def test_ten_permutations_once(runs) -> None:
    """Rows that the specification has of one seed. Old anchors pull back, and old answers on new permutations teach nothing."""
    found = {}
    for row in ("method=ewc method.mode=separate", "method=lwf", "method=joint"):
        found[row] = 100 * runs(*row.split(), "data=permutedmnist", "budget.steps=300", seeds=(0,)).mean("average_accuracy")
    online, plain = (
        100 * runs(*row.split(), "data=permutedmnist", "budget.steps=300").values("average_accuracy")[0]
        for row in ("method=ewc", f"{CONTROL} method.outputs=seen")
    )
    assert found["method=joint"] == pytest.approx(95.5, abs=0.7)
    assert found["method=ewc method.mode=separate"] < online
    assert found["method=lwf"] < plain
