"""The rules of verdicts: what they accept, in words, and what is refused."""

import pytest

from maskbench.report.verdicts import Rule

HOLDS, FAILS, UNDECIDED = "holds", "fails", "undecided"


def make(told: dict) -> Rule:
    return Rule.make({"rests_on": "exact"} | told)


@pytest.mark.parametrize(
    ("told", "values", "published", "verdict"),
    [
        ({"within": 0.5}, [96.5, 96.6, 96.7], 96.6, HOLDS),
        ({"within": 0.3}, [96.2, 96.9, 96.7], 96.6, UNDECIDED),  # the mean is 96.6, the interval 0.9 to each side
        ({"within": 0.3, "every_seed": True}, [96.2, 96.9, 96.7], 96.6, FAILS),
        ({"within": 0.3}, [96.9, 96.9, 96.9], 96.6, HOLDS),  # 0.3 exactly, whatever the sum of decimals says
        ({"within": 0.3}, [97.0, 97.0, 97.0], 96.6, FAILS),
        ({"between": [97.2, 98.0]}, [97.5, 97.5, 97.6], None, HOLDS),
        ({"between": [97.2, 98.0]}, [97.1, 97.4, 97.3], None, UNDECIDED),
        ({"between": [97.2, 98.0]}, [98.5, 98.5, 98.6], None, FAILS),
        ({"between": [97.2, 98.0]}, [90.0, 99.0], None, UNDECIDED),  # over both bounds
        ({"at_least": 80}, [79.9, 80.1, 80.3], None, UNDECIDED),
        ({"at_least": 80}, [80.9, 81.0, 81.1], None, HOLDS),
        ({"at_least": 80}, [78.9, 79.0, 79.1], None, FAILS),
        ({"at_least": 80, "every_seed": True}, [79.9, 80.1], None, FAILS),
        ({"at_least": 80, "every_seed": True}, [80.1, 99.0], None, HOLDS),  # no interval is asked for
        ({"at_most": 25}, [26.0], None, FAILS),  # one seed has no interval
        ({"at_most": 25}, [24.0], None, HOLDS),
        ({"at_least": 0, "at_most": 1}, [0.5, 0.5], None, HOLDS),
        ({"equals": 0, "every_seed": True}, [0.0, 0.0], None, HOLDS),
        ({"equals": 0, "every_seed": True}, [0.0, 1e-6], None, FAILS),
        ({"equals": 3}, [3.0, 3.0, 3.0], None, HOLDS),
    ],
)
def test_rules_of_values(told: dict, values: list[float], published: float | None, verdict: str) -> None:
    assert make(told).verdict(values, published) == verdict


@pytest.mark.parametrize(
    ("told", "ours", "others", "verdict"),
    [
        ({"above": "b"}, [2.0, 3.0, 4.0], [1.0, 2.1, 2.9], HOLDS),  # the values spread, their differences hardly
        ({"above": "b"}, [2.0, 1.0], [1.0, 1.5], UNDECIDED),  # mean difference 0.25
        ({"above": "b", "every_seed": True}, [2.0, 1.0], [1.0, 1.5], FAILS),
        ({"above": "b"}, [1.0, 1.0], [1.0, 1.0], FAILS),
        ({"above": "b", "by": 0.5}, [2.0, 2.0], [1.5, 1.5], HOLDS),
        ({"above": "b", "by": [0.6, 1.5]}, [2.0, 2.0], [0.0, 0.0], FAILS),
        ({"below": "b", "by": 3}, [1.0, 1.0], [4.5, 4.5], HOLDS),
        ({"below": "b"}, [2.0], [1.0], FAILS),
    ],
)
def test_rules_of_pairs(told: dict, ours: list[float], others: list[float], verdict: str) -> None:
    rule = make(told)
    assert rule.other == "b" and rule.verdict(rule.differences(ours, others)) == verdict


@pytest.mark.parametrize(
    ("gaps", "verdict"),
    [([0.01, -0.02, 0.03, 0.0], HOLDS), ([0.01, 0.2, -0.2, 0.1], UNDECIDED), ([0.2, 0.21, 0.19, 0.2], FAILS)],
)
def test_a_rule_paired_with_a_record_is_about_the_differences(gaps: list[float], verdict: str) -> None:
    assert make({"within": 0.08, "paired": "record"}).verdict(gaps, published=2.97) == verdict


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"within": 0.08, "paired": "record"}, "within 0.08 of the value beside it, division by division"),
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
    assert make(told).words({"b": "a random mask"}) == words


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"withn": 1}, "unknown key 'withn'. Did you mean 'within'?"),
        ({}, "exactly one of"),
        ({"within": 1, "at_least": 2}, "exactly one of"),
        ({"within": 1, "of": 2}, "unknown key 'of'"),
        ({"at_least": 1, "by": 2}, "`by` goes with above or below"),
        ({"at_least": 1, "paired": "record"}, "`paired: record` goes with within alone"),
        ({"within": 1, "paired": "row"}, "`paired: record` goes with within alone"),
        ({"within": 1, "paired": "record", "every_seed": True}, "`paired: record` goes with within alone"),
        ({"at_least": "80 %"}, "'80 %' is no number"),
        ({"at_least": 1, "every_seed": "yes"}, "neither true nor false"),
        ({"at_least": 1, "rests_on": "memory"}, "rests_on=memory is none of paper, authors_code, exact, row, quoted, ours"),
        ({"at_least": 1, "rests_on": None}, "rests_on=None is none of"),
    ],
)
def test_bad_rules_are_refused(told: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence.replace("?", r"\?")):
        make(told)


def test_a_rule_is_a_mapping_and_has_a_reference() -> None:
    with pytest.raises(ValueError, match="no mapping"):
        Rule.make([1])
    with pytest.raises(ValueError, match="rests_on=nothing is none of"):
        Rule.make({"at_least": 1})


def test_shares_are_judged_by_the_interval_that_is_shown() -> None:
    """Three shares near 100 %: their interval is [92.5, 100], where Student's t alone goes from 95.7 to 102.5."""
    values = [97.5, 99.9, 99.9]
    rule = make({"between": [90, 100]})
    assert rule.verdict(values) == UNDECIDED and rule.verdict(values, most=100.0) == HOLDS
    assert make({"at_least": 95}).verdict(values, most=100.0) == UNDECIDED
