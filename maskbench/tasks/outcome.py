"""What a task hands back: named numbers, the one that sweeps optimise, and tables for people."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Outcome:
    """`metrics` by definition-bearing names (None: undefined); `objective` names the one a sweep maximises.

    `table` is a list of rows (column -> number or text) shown at the end of the run; `matrices` are kept in the record;
    `curves` are what figures are drawn from, kept in a file of their own. `chosen_on`: the stages whose validation splits
    a search goes by (None: all).
    """

    metrics: dict[str, float | None]
    objective: str
    table: list[dict[str, Any]] = field(default_factory=list)
    matrices: dict[str, list[list[float | None]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    curves: list[dict[str, Any]] = field(default_factory=list)
    chosen_on: Sequence[int] | None = None
