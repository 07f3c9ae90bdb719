"""Which classes each stage has, and what cannot be a stream: told by the settings alone."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskbench.common.errors import UsageError
from maskbench.data.streams import plan
from maskbench.data.streams.plan import Deal

BACKWARDS = [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
DATA = {"base": "mnist", "stages": 5, "order": "consecutive", "sizes": None, "split": None, "rest": None, "labels": "shifted"}


def groups(**keys):
    return Deal(**keys).groups(10, lambda seed: BACKWARDS)


@pytest.mark.parametrize(
    ("keys", "made"),
    [
        ({"stages": 5}, [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)]),
        ({"stages": 2, "order": BACKWARDS}, [(9, 8, 7, 6, 5), (4, 3, 2, 1, 0)]),  # as written: 9 is label 0
        ({"stages": 2, "order": "random"}, [(5, 6, 7, 8, 9), (0, 1, 2, 3, 4)]),  # drawn: ascending inside a stage
        ({"sizes": [2, 3, 5]}, [(0, 1), (2, 3, 4), (5, 6, 7, 8, 9)]),
        ({"sizes": [1, 9], "order": 4}, [(9,), (0, 1, 2, 3, 4, 5, 6, 7, 8)]),
        ({"sizes": [1, 2], "order": [4, 2, 7], "rest": "drop"}, [(4,), (2, 7)]),
        ({"stages": 3, "rest": "drop"}, [(0, 1, 2), (3, 4, 5), (6, 7, 8)]),
        ({"split": [[8, 3], [1, 7], [5, 0], [9, 2], [4, 6]]}, [(8, 3), (1, 7), (5, 0), (9, 2), (4, 6)]),
        ({"split": [[8], [3, 1]], "rest": "drop"}, [(8,), (3, 1)]),
    ],
)
def test_classes_are_dealt_as_they_are_asked_for(keys, made):
    assert groups(**keys) == made and Deal(**keys).count == len(made)


def test_a_seed_of_its_own_draws_the_order_whatever_the_runs():
    asked = []
    Deal(stages=2, order=7).groups(4, lambda seed: asked.append(seed) or range(4))
    Deal(stages=2, order="random").groups(4, lambda seed: asked.append(seed) or range(4))
    assert asked == [7, None]


@given(st.permutations(range(10)), st.lists(st.integers(1, 9), max_size=9, unique=True))
def test_an_order_cut_into_sizes_is_the_split_of_its_pieces(order, cuts):
    ends = [0, *sorted(cuts), 10]
    sizes = [b - a for a, b in zip(ends, ends[1:], strict=False)]
    pieces = [order[a:b] for a, b in zip(ends, ends[1:], strict=False)]
    assert groups(sizes=sizes, order=order) == groups(split=pieces)
    assert sorted(label for group in groups(split=pieces) for label in group) == list(range(10))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"split": [[0, 1], [1, 2]]}, "names class 1 twice"),
        ({"split": [[0, 1], [12]]}, "names class 12, and the data has the classes 0 to 9"),
        ({"split": [[0, 1, 2, 3], [4, 5, 6, 7, 8]]}, "leaves out class 9: name it too, or drop it with data.rest=drop"),
        ({"split": [[0, 1]]}, "leaves out classes 2, 3, 4, 5, 6, 7 and 2 more: name them too, or drop them"),
        ({"split": [[0], []]}, "has a stage without classes"),
        ({"split": []}, "has a stage without classes"),
        ({"split": [[0]], "stages": 1}, "leave out data.stages"),
        ({"split": [[0]], "order": "random", "sizes": [1]}, "leave out data.order and data.sizes"),
        ({"stages": 5, "order": [0, 0, 1]}, "data.order names class 0 twice"),
        ({"stages": 5, "order": [0, 1, 2, 3, 4]}, "data.order leaves out classes 5, 6, 7, 8 and 9"),
        ({"stages": 2, "order": [0, 1, 2], "rest": "drop", "sizes": [1, 2]}, "both say how many stages"),
        ({"sizes": [2, 3]}, r"data.sizes=\[2,3\] adds up to 5, and there are 10 classes: make them so many, or leave the rest"),
        ({"sizes": [20]}, "adds up to 20, and there are 10 classes: make them so many.$"),
        ({"sizes": []}, "adds up to 0"),
        ({"stages": 3}, r"does not divide the 10 classes evenly: take 1, 2, 5 or 10, or say"),
        ({"stages": 11, "rest": "drop"}, "does not divide"),
        ({}, "data.stages is missing"),
    ],
)
def test_what_is_no_deal_is_refused_by_its_key(keys, words):
    with pytest.raises(UsageError, match=words):
        groups(**keys)


def test_lists_are_judged_before_the_number_of_classes_is_known():
    assert "twice" in Deal(split=[[0], [0]]).mistake(None)
    assert Deal(split=[[0], [700]]).mistake(None) is None and Deal(sizes=[3]).mistake(None) is None


@pytest.mark.parametrize(
    ("keys", "count"),
    [
        ({}, 5),
        ({"visits": 2}, 10),
        ({"visits": [0, 1, 2, 3, 4, 0]}, 6),
        ({"stages": None, "order": None, "split": [[0], [1]]}, 2),
        ({"stages": None, "sizes": [2, 8], "visits": 3}, 6),
        ({"stages": None, "sets": ["mnist", "svhn", "glyph28"]}, 3),
        ({"stages": None, "folders": ["a", "b"], "visits": [0, 1, 0]}, 3),
        ({"stages": None}, None),
    ],
)
def test_the_number_of_stages_is_known_by_the_settings(keys, count):
    assert plan.count(DATA | keys) == count


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"blur": 0.1}, "take data.labels=kept"),
        ({"visits": [0, 1, 2, 3, 4, 5]}, "names stage 5, and there are the stages 0 to 4"),
        ({"visits": [0, 1, 2]}, "leaves out stage 3 and 4"),
        ({"visits": None, "sets": ["mnist", "mnits"]}, "Did you mean 'mnist'?"),
        ({"visits": None, "sets": ["mnist", "svhn", "mnist"]}, "names mnist twice: .* data.visits"),
    ],
)
def test_what_is_no_stream_is_refused_by_its_key(keys, words):
    assert plan.mistake(DATA) is None and plan.mistake(DATA | {"blur": 0.1, "labels": "kept", "visits": 2}) is None
    with pytest.raises(UsageError, match=words):
        raise UsageError(plan.mistake(DATA | keys))


def test_epochs_come_as_one_number_or_one_for_each_stage():
    assert plan.epochs_mistake(3, 5) is None and plan.epochs_mistake([1, 2], 2) is None and plan.epochs_mistake([1], None) is None
    assert "[1,2] has 2 entries, and the data has 5 stages" in plan.epochs_mistake([1, 2], 5)


def test_a_plan_is_judged_without_torch_or_numpy():
    code = "import sys; from maskbench.data.streams import plan; assert not {'torch', 'numpy'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
