"""The rules of a table's verdicts: what must hold of a row's values over the seeds, in words and judged.

within: 0.3, of: 96.6         the mean lies so near to a number; without `of`, to the published value
between: [97.2, 98.0], at_least, at_most, equals
above: ROW, below: ROW        the mean of the differences to another row, seed by seed, is above 0;
by: 0.6 or [0.6, 1.5]         ... at least so much, at most so much
every_seed: true              each seed's value or difference must pass, not only the mean
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from maskbench.common.errors import did_you_mean

KEYS = ("within", "of", "between", "at_least", "at_most", "equals", "above", "below", "by", "every_seed")
KINDS = ({"within"}, {"between"}, {"equals"}, {"at_least", "at_most"}, {"above"}, {"below"})
SLACK = 1e-9  # sums of decimals are not exact


@dataclass(frozen=True)
class Rule:
    """What must hold of a row's values for its verdict to be yes."""

    within: float | None = None
    of: float | None = None
    low: float | None = None
    high: float | None = None
    other: str | None = None  # the row whose values are taken away, or from which ours are
    sign: int = 1  # 1: above, -1: below
    every: bool = False

    @classmethod
    def make(cls, spec: Any) -> "Rule":
        """The rule that a mapping of a table's file states.

        Raises:
            ValueError: unknown keys, or a mapping that says nothing or contradicts itself.
        """
        if not isinstance(spec, Mapping):
            raise ValueError("is no mapping such as {within: 0.5}")
        for key in spec:
            if key not in KEYS:
                raise ValueError(f"unknown key '{key}'.{did_you_mean(str(key), KEYS)}")
        if sum(bool(kind & set(spec)) for kind in KINDS) != 1:
            raise ValueError("takes exactly one of within, between, equals, at_least and at_most, above, below")
        if ("of" in spec and "within" not in spec) or ("by" in spec and not {"above", "below"} & set(spec)):
            raise ValueError("`of` goes with within, `by` with above or below")
        if not isinstance(spec.get("every_seed", False), bool):
            raise ValueError(f"every_seed={spec['every_seed']} is neither true nor false")
        low, high = cls._limits(spec)
        return cls(
            within=_number(spec.get("within")),
            of=_number(spec.get("of")),
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
            centre = "the value beside it" if self.of is None else f"{self.of:g} (ours, earlier)"
            return f"within {self.within:g} of {centre}{each}"
        low, high = self.low, self.high
        if self.other:
            by = "" if low is None else f" by at least {low:g}" if high is None else f" by {low:g} to {high:g}"
            return f"{'above' if self.sign > 0 else 'below'} “{names[self.other]}”{by}{each}, paired"
        if low is not None and low == high:
            return f"exactly {low:g}{each}"
        if low is not None and high is not None:
            return f"{low:g} to {high:g}{each}"
        return f"at least {low:g}{each}" if low is not None else f"at most {high:g}{each}"

    def holds(self, values: Sequence[float], published: float | None = None) -> bool:
        """Whether the rule holds of a row's values, or of its paired differences (`differences`) for above and below."""
        judged = values if self.every else [fmean(values)]
        if self.within is not None:
            centre = published if self.of is None else self.of
            return all(abs(value - centre) <= self.within + SLACK for value in judged)
        if self.other and self.low is None:
            return all(value > 0 for value in judged)
        low = all(value >= self.low - SLACK for value in judged) if self.low is not None else True
        high = all(value <= self.high + SLACK for value in judged) if self.high is not None else True
        return low and high

    def differences(self, ours: Sequence[float], others: Sequence[float]) -> list[float]:
        return [self.sign * (a - b) for a, b in zip(ours, others, strict=True)]


def _number(value: Any) -> float | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ValueError(f"{value!r} is no number")
    return None if value is None else float(value)
