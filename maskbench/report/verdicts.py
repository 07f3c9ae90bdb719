"""The rules of a table's verdicts: what must hold of a row's values over the seeds, on what that rests, in words and judged.

within: 0.3                   the mean lies so near to the published value
paired: record                ... division by division: the mean of the differences to a record of `values` lies so near to 0
between: [97.2, 98.0], at_least, at_most, equals
above: ROW, below: ROW        the mean of the differences to another row, seed by seed, is above 0;
by: 0.6 or [0.6, 1.5]         ... at least so much, at most so much
every_seed: true              each seed's value or difference must pass, not only the mean
rests_on: paper               one of RESTS, the best there is: by what the bound is right; a rule without it is refused

A rule of means holds where the whole 95 % interval keeps to the bounds and fails where all of it is outside; between, the
row is undecided. The interval is the one that the table shows: Student's t, of a share that this would leave on the arcsine
scale. Differences have Student's t.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from maskbench.common.errors import did_you_mean
from maskbench.report import statistics

HOLDS, FAILS, UNDECIDED = "holds", "fails", "undecided"
RESTS = {  # the best first; how a table says it, and the scoreboard
    "paper": ("paper", "the paper's value in its own setting"),
    "authors_code": ("authors' code", "the authors' code in our setting"),
    "exact": ("exact", "a theorem or an exact count"),
    "row": ("row", "another row, a comparison that the paper claims"),
    "quoted": ("quoted", "a value of the paper as others quote it"),
    "ours": ("ours, earlier", "what we measured earlier, which is weak"),
}
KEYS = ("within", "paired", "between", "at_least", "at_most", "equals", "above", "below", "by", "every_seed", "rests_on")
KINDS = ({"within"}, {"between"}, {"equals"}, {"at_least", "at_most"}, {"above"}, {"below"})
SLACK = 1e-9  # sums of decimals are not exact


@dataclass(frozen=True)
class Rule:
    """What must hold of a row's values for its verdict to be yes, and by what reference."""

    rests_on: str
    within: float | None = None
    paired: bool = False  # with a record, division by division
    low: float | None = None
    high: float | None = None
    other: str | None = None  # the row whose values are taken away, or from which ours are
    sign: int = 1  # 1: above, -1: below
    every: bool = False

    @classmethod
    def make(cls, spec: Any) -> "Rule":
        """The rule that a mapping of a table's file states.

        Raises:
            ValueError: unknown keys, no reference, or a mapping that says nothing or contradicts itself.
        """
        if not isinstance(spec, Mapping):
            raise ValueError("is no mapping such as {within: 0.5, rests_on: paper}")
        for key in spec:
            if key not in KEYS:
                raise ValueError(f"unknown key '{key}'.{did_you_mean(str(key), KEYS)}")
        if spec.get("rests_on") not in RESTS:
            raise ValueError(f"rests_on={spec.get('rests_on', 'nothing')} is none of {', '.join(RESTS)}")
        if sum(bool(kind & set(spec)) for kind in KINDS) != 1:
            raise ValueError("takes exactly one of within, between, equals, at_least and at_most, above, below")
        if "by" in spec and not {"above", "below"} & set(spec):
            raise ValueError("`by` goes with above or below")
        if "paired" in spec and (spec["paired"] != "record" or "within" not in spec or "every_seed" in spec):
            raise ValueError("`paired: record` goes with within alone")
        if not isinstance(spec.get("every_seed", False), bool):
            raise ValueError(f"every_seed={spec['every_seed']} is neither true nor false")
        low, high = cls._limits(spec)
        return cls(
            rests_on=spec["rests_on"],
            within=_number(spec.get("within")),
            paired="paired" in spec,
            low=low,
            high=high,
            other=spec.get("above", spec.get("below")),
            sign=-1 if "below" in spec else 1,
            every=spec.get("every_seed", False),
        )

    @staticmethod
    def _limits(spec: Mapping[str, Any]) -> tuple[float | None, float | None]:
        if "between" in spec:
            low, high = spec["between"]
        elif "equals" in spec:
            low = high = spec["equals"]
        elif "above" in spec or "below" in spec:
            low, high = spec["by"] if isinstance(spec.get("by"), list) else (spec.get("by"), None)
        else:
            low, high = spec.get("at_least"), spec.get("at_most")
        return _number(low), _number(high)

    def words(self, names: Mapping[str, str]) -> str:
        """The rule as a sentence's part; `names` are the rows' printed names by id."""
        each = " on every seed" if self.every else ""
        if self.within is not None:
            centre = "the value beside it" + ", division by division" * self.paired
            return f"within {self.within:g} of {centre}{each}"
        low, high = self.low, self.high
        if self.other:
            by = "" if low is None else f" by at least {low:g}" if high is None else f" by {low:g} to {high:g}"
            return f"{'above' if self.sign > 0 else 'below'} “{names[self.other]}”{by}{each}, paired"
        if low is not None and low == high:
            return f"exactly {low:.15g}{each}"
        if low is not None and high is not None:
            return f"{low:g} to {high:g}{each}"
        return f"at least {low:g}{each}" if low is not None else f"at most {high:g}{each}"

    def verdict(self, values: Sequence[float], published: float | None = None, most: float | None = None) -> str:
        """holds, fails or undecided of a row's values; of its paired differences for above, below and paired. `most`: of values
        that are shares, what all is."""
        low, high = self.bounds(published)
        mean = statistics.mean(values, most=most)
        if self.every or mean.low is None:
            judged = values if self.every else [mean.mean]
            return HOLDS if all(low <= value <= high for value in judged) else FAILS
        if low <= mean.low and mean.high <= high:
            return HOLDS
        return FAILS if mean.high < low or high < mean.low else UNDECIDED

    def bounds(self, published: float | None) -> tuple[float, float]:
        """Between what a value passes."""
        if self.within is not None:
            centre = 0.0 if self.paired else published
            low, high = centre - self.within, centre + self.within
        elif self.other and self.low is None:
            return SLACK, float("inf")  # more than the rounding of a sum
        else:
            low = float("-inf") if self.low is None else self.low
            high = float("inf") if self.high is None else self.high
        return low - SLACK, high + SLACK

    def differences(self, ours: Sequence[float], others: Sequence[float]) -> list[float]:
        return [self.sign * (a - b) for a, b in zip(ours, others, strict=True)]


def _number(value: Any) -> float | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ValueError(f"{value!r} is no number")
    return None if value is None else float(value)
