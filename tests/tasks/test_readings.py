"""Every reading of one pass: against definitions over the whole table of answers, and at one pass a mask and test set."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from maskbench.data.stage import Origin, Split, Stage, in_order
from maskbench.tasks import readings
from maskbench.training.method import Method

ROWS, GROUP = 10, 4


class Told(Method):
    """Answers from a table [stages or 1, images, outputs] of logits; an input is the number of an image."""

    def __init__(self, table: Tensor, known: int | None = None) -> None:
        super().__init__(nn.Linear(1, 1))
        self.table, self.known = table, known
        self.asked: Counter = Counter()

    def has_learned(self, stage: Stage) -> bool:
        return self.known is None or stage.index < self.known

    def logits(self, x: Tensor, stage: Stage) -> Tensor:
        images = x[:, 0].long()
        if len(images) == ROWS:  # a whole test set
            self.asked[stage.index % len(self.table), int(images[0]) // ROWS] += 1
        return self.table[stage.index % len(self.table), images]


Labels = Sequence[tuple[int, ...]]


@pytest.fixture(scope="module", autouse=True)
def few() -> Iterator[None]:
    """Fewer images than a test set has tell whether a net answers by stage, so that whole test sets can be counted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readings, "PROBED", ROWS // 2)
        yield


def stages_of(classes: Labels, labels: Labels, outputs: int, names: Sequence[str] = ()) -> list[Stage]:
    """A stage for each tuple of classes, each with ROWS test images of its own that carry its labels in turn."""
    made = []
    for index, (own, named) in enumerate(zip(labels, classes, strict=True)):
        x = torch.arange(index * ROWS, (index + 1) * ROWS, dtype=torch.float)[:, None]
        split = Split(x, torch.tensor([own[i % len(own)] for i in range(ROWS)]))
        made.append(
            Stage(
                index=index, total=len(classes), name=str(index), train=split, val=split, test=split, classes=named,
                outputs=outputs, shape=(1,), origin=Origin(names[index] if names else "made", "synthetic"), labels=own,
            )
        )  # fmt: skip
    return in_order(made)


KEPT = [(0, 1), (2, 3, 4), (5,)]  # classes of unequal stages under their own labels
SHIFTED = [(0, 1), (0, 1, 2), (0,)]
SPLIT, SHARED = [(0, 1), (2, 3)], [(0, 1), (0, 1)]


def row(method: Method, stages: list[Stage], after: int, *, unknown: bool = True, pooling: str = "first") -> dict:
    tested = [stage for stage in stages if stage.index <= after and method.has_learned(stage)]
    return asked(method, stages, after, tested, unknown=unknown, pooling=pooling)


def asked(method: Method, stages: list[Stage], after: int, tested: list[Stage], *, group: int = GROUP, **how: Any) -> dict:
    return readings.row(method, stages, stages[after], tested, labels=readings.labels_of(stages), group=group, **how)


def share(right: list[bool]) -> float:
    return sum(right) / len(right)


def answers(method: Told, asked: int, stage: Stage) -> list[tuple[list[float], int]]:
    """(probabilities under one stage's masks, target) of each test image, in float64."""
    x, y = stage.test.tensors()
    p = method.table[asked % len(method.table), x[:, 0].long()].double().softmax(-1)
    return list(zip(p.tolist(), y.tolist(), strict=True))


# ---- a net that answers alike for all stages


def test_one_head_over_kept_classes_is_asked_once_and_chooses_among_the_classes_seen() -> None:
    table = torch.zeros(1, 3 * ROWS, 6)
    table[..., 5] = 9.0  # a class that the last stage brings, and after it nothing else is answered
    table[..., [0, 2]] = 1.0
    method, stages = Told(table), stages_of(KEPT, KEPT, 6)
    first, second, last = (row(method, stages, after) for after in range(3))
    assert first["class_il"] == first["accuracy"] == [0.5, None, None]
    assert second["accuracy"][:2] == [0.5, 0.4] and second["class_il"][:2] == [0.5, 0.0], "of equal ones the first"
    assert last["accuracy"] == [0.5, 0.4, 1.0] and last["class_il"] == [0.0, 0.0, 1.0]
    assert last["domain_il"] == [None] * 3 and "inferred" not in last
    method.asked.clear()
    row(method, stages, 2)
    assert set(method.asked.values()) == {1} and len(method.asked) == 3


def test_outputs_that_stages_share_are_domain_il_and_tell_no_classes_apart() -> None:
    for classes in (SPLIT, SHARED):  # shifted labels of split images, and permutations
        found = row(Told(torch.randn(1, 2 * ROWS, 2)), stages_of(classes, SHARED, 2), 1)
        assert found["domain_il"] == found["accuracy"] and found["class_il"] == [None, None]


def test_shifted_labels_of_unequal_stages_and_other_data_under_the_same_numbers_are_neither() -> None:
    found = row(Told(torch.randn(1, 3 * ROWS, 3)), stages_of(KEPT, SHIFTED, 3), 2)
    assert found["class_il"] == found["domain_il"] == [None] * 3 and None not in found["accuracy"]
    streams = stages_of([(0, 1), (0, 1, 2)], [(0, 1), (0, 1, 2)], 3, names=["digits", "letters"])
    assert not readings.labels_of(streams).distinct, "digit 0 is no letter 0"
    assert readings.labels_of(stages_of(KEPT, KEPT, 6)) == (True, False, False)
    mixed = [replace(stage, labels=(0, 1, 2, 3, 4, 5)[: i + 3]) for i, stage in enumerate(stages_of(KEPT, KEPT, 6))]
    assert readings.labels_of(mixed).distinct, "outputs of a neighbour's images, which are not tested here"
    assert readings.labels_of(stages_of(SHARED, SHARED, 2)) == (False, True, True)


# ---- one that answers by stage

LABELS = {
    "kept": stages_of(KEPT, KEPT, 6),
    "shifted": stages_of(KEPT, SHIFTED, 3),
    "shared": stages_of([(0, 1, 2)] * 3, [(0, 1, 2)] * 3, 3),
}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(sorted(LABELS)), st.sampled_from(["first", "all"]))
def test_all_readings_are_their_definitions(seed: int, labels: str, pooling: str) -> None:
    stages = LABELS[labels]
    table = 3 * torch.randn(3, 3 * ROWS, stages[0].outputs, generator=torch.Generator().manual_seed(seed))
    method = Told(table)
    found = row(method, stages, 2, pooling=pooling)
    for stage in stages:
        under = [answers(method, other.index, stage) for other in stages]
        y = [target for _, target in under[0]]

        def best(asked: int, image: int, under: list = under) -> int:
            return max(stages[asked].own, key=lambda output: under[asked][image][0][output])

        assert found["accuracy"][stage.index] == share([best(stage.index, i) == y[i] for i in range(ROWS)])
        pairs = [
            max(((s.index, o) for s in stages for o in s.own), key=lambda so, i=i: under[so[0]][i][0][so[1]]) for i in range(ROWS)
        ]
        class_il = [o == y[i] and (labels == "kept" or s == stage.index) for i, (s, o) in enumerate(pairs)]
        assert found["class_il"][stage.index] == share(class_il)
        domain_il = share([o == y[i] for i, (_, o) in enumerate(pairs)]) if labels == "shared" else None
        assert found["domain_il"][stage.index] == domain_il

        p = torch.tensor([[p for p, _ in rows] for rows in under], dtype=torch.float64)
        doubt = -(p * p.log()).sum(-1)  # [asked, image]
        filled = torch.cat([doubt, doubt[:, :2]], 1).unflatten(1, (-1, GROUP))  # 10 images are 2 groups of 4 and one of 2 + 2
        by_image, by_group = doubt.argmin(0).tolist(), filled.mean(2).argmin(0).tolist()
        named = [by_image[i // GROUP * GROUP] if pooling == "first" else by_group[i // GROUP] for i in range(ROWS)]
        right = [best(named[i], i) == y[i] for i in range(ROWS)]
        told = found["inferred"][stage.index]
        assert told["shared"] == share(right)
        assert told["unshared"] == share([ok and s == stage.index for ok, s in zip(right, named, strict=True)])
        assert told["rates"]["brute_force_H_1"] == share([s == stage.index for s in by_image])
        assert told["rates"]["brute_force_H_4"] == share([s == stage.index for s in by_group[:2]]), "whole groups"
        assert told["images"] == (1 if pooling == "first" else GROUP)
        counted = by_image if pooling == "first" else by_group[:2]
        assert told["confusion"] == [counted.count(s) for s in range(3)]


def test_every_mask_is_asked_once_about_every_test_set_and_only_where_it_is_wanted() -> None:
    stages = LABELS["kept"]
    method = Told(torch.randn(3, 3 * ROWS, 6))
    row(method, stages, 2)
    assert method.asked == {(asked, test): 1 for asked in range(3) for test in range(3)}
    method.asked.clear()
    found = row(method, stages, 2, unknown=False)
    assert method.asked == {(stage, stage): 1 for stage in range(3)} and set(found) == {"accuracy"}


def test_stages_that_are_not_learnt_yet_are_not_asked() -> None:
    method = Told(torch.randn(3, 3 * ROWS, 6), known=2)
    found = row(method, LABELS["kept"], 1)
    assert found["accuracy"][2] is found["class_il"][2] is found["inferred"][2] is None
    assert method.asked == {(asked, test): 1 for asked in range(2) for test in range(2)}


def test_any_visit_of_the_same_images_is_the_right_stage() -> None:
    first, other, again = stages_of([(0, 1), (2, 3), (0, 1)], [(0, 1)] * 3, 2)
    stages = in_order([first, other, replace(again, test=first.test, val=first.test, repeats=0)])
    table = torch.zeros(3, 3 * ROWS, 2)
    table[2, :ROWS, 0] = 9.0  # the last visit's masks are the surest of these images
    found = row(Told(table), stages, 2)
    assert found["class_il"][0] == found["inferred"][0]["unshared"] == 0.5, "half of them are of class 0"
    assert found["inferred"][0]["rates"]["brute_force_H_1"] == 1.0 and found["inferred"][2]["confusion"] == [ROWS, 0, 0]


def test_answers_that_float32_rounds_to_certainty_are_told_apart() -> None:
    """Two masks whose softmax is 1 in float32: the surer one counts, not the first."""
    stages = stages_of(SPLIT, SHARED, 2)
    table = torch.zeros(2, 2 * ROWS, 2)
    table[0, :, 0], table[1, :, 0] = 18.0, 24.0
    assert table.softmax(-1)[..., 0].eq(1).all()
    found = row(Told(table), stages, 1)
    assert found["class_il"] == [0.0, 0.5] and found["inferred"][1]["unshared"] == 0.5


def test_fewer_images_than_a_group_are_one() -> None:
    method, stages = Told(torch.randn(3, 3 * ROWS, 6)), LABELS["kept"]
    found = asked(method, stages, 2, stages, group=128, pooling="all", unknown=True)
    told = found["inferred"][0]
    assert told["images"] == ROWS and set(told["rates"]) == {"brute_force_H_1", f"brute_force_H_{ROWS}"}
    assert sum(told["confusion"]) == 1


@pytest.mark.parametrize(("rows", "size"), [(10, 4), (8, 4), (3, 4), (4, 4), (9, 1)])
def test_a_groups_mean_fills_the_last_one_up_from_the_start(rows: int, size: int) -> None:
    values = torch.randn(rows)
    for image, mean in enumerate(readings.of_groups(values, size)):
        begin = image // size * size
        group = [values[i % rows] for i in range(begin, begin + size)] if rows > size else values
        assert mean.item() == pytest.approx(sum(map(float, group)) / len(group), abs=1e-6)
