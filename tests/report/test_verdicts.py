"""The rules of verdicts: what they accept, in words, and what is refused."""

import pytest

from maskbench.report.verdicts import Rule


@pytest.mark.parametrize(
    ("told", "values", "published", "holds"),
    [
        ({"within": 0.3, "of": 96.6}, [96.2, 96.9, 96.7], None, True),  # the mean is 96.6
        ({"within": 0.3, "of": 96.6, "every_seed": True}, [96.2, 96.9, 96.7], None, False),
        ({"within": 0.3}, [96.9, 96.9, 96.9], 96.6, True),  # 0.3 exactly, whatever the sum of decimals says
        ({"within": 0.3}, [97.0, 97.0, 97.0], 96.6, False),
        ({"between": [97.2, 98.0]}, [97.1, 97.4], None, True),
        ({"between": [97.2, 98.0]}, [98.1], None, False),
        ({"at_least": 80}, [79.9, 80.1], None, True),
        ({"at_least": 80, "every_seed": True}, [79.9, 80.1], None, False),
        ({"at_most": 25}, [26.0], None, False),
        ({"at_least": 0, "at_most": 1}, [0.5], None, True),
        ({"equals": 0, "every_seed": True}, [0.0, 0.0], None, True),
        ({"equals": 0, "every_seed": True}, [0.0, 1e-6], None, False),
    ],
)
def test_rules_of_values(told: dict, values: list[float], published: float | None, holds: bool) -> None:
    assert Rule.make(told).holds(values, published) is holds


@pytest.mark.parametrize(
    ("told", "ours", "others", "holds"),
    [
        ({"above": "b"}, [2.0, 1.0], [1.0, 1.5], True),  # mean difference 0.25
        ({"above": "b", "every_seed": True}, [2.0, 1.0], [1.0, 1.5], False),
        ({"above": "b"}, [1.0, 1.0], [1.0, 1.0], False),
        ({"above": "b", "by": 0.5}, [2.0, 2.0], [1.5, 1.5], True),
        ({"above": "b", "by": [0.6, 1.5]}, [2.0, 2.0], [0.0, 0.0], False),
        ({"below": "b", "by": 3}, [1.0, 1.0], [4.5, 4.5], True),
        ({"below": "b"}, [2.0], [1.0], False),
    ],
)
def test_rules_of_pairs(told: dict, ours: list[float], others: list[float], holds: bool) -> None:
    rule = Rule.make(told)
    assert rule.other == "b" and rule.holds(rule.differences(ours, others)) is holds


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"within": 0.3, "of": 96.6}, "within 0.3 of 96.6 (ours, earlier)"),
        ({"within": 1.5}, "within 1.5 of the value beside it"),
        ({"between": [97.2, 98]}, "97.2 to 98"),
        ({"at_least": 99, "every_seed": True}, "at least 99 on every seed"),
        ({"equals": 0}, "exactly 0"),
        ({"above": "b", "by": [0.6, 1.5]}, "above “a random mask” by 0.6 to 1.5, paired"),
        ({"above": "b", "by": 5}, "above “a random mask” by at least 5, paired"),
        ({"below": "b", "every_seed": True}, "below “a random mask” on every seed, paired"),
    ],
)
def test_a_rule_says_itself(told: dict, words: str) -> None:
    assert Rule.make(told).words({"b": "a random mask"}) == words


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"withn": 1}, "unknown key 'withn'. Did you mean 'within'?"),
        ({}, "exactly one of"),
        ({"within": 1, "at_least": 2}, "exactly one of"),
        ({"at_least": 1, "of": 2}, "`of` goes with within"),
        ({"at_least": 1, "by": 2}, "`by` with above or below"),
        ({"at_least": "80 %"}, "'80 %' is no number"),
        ({"at_least": 1, "every_seed": "yes"}, "neither true nor false"),
        ([1], "no mapping"),
    ],
)
def test_bad_rules_are_refused(told: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence.replace("?", r"\?")):
        Rule.make(told)
