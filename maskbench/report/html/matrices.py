"""The matrices of a group, such as accuracy by stage tested and stage learnt: means over its seeds."""

from collections.abc import Sequence
from typing import Any

from maskbench.report.html.groups import Group, numeric
from maskbench.report.html.history import spread

CELLS = 40  # rows of a matrix that are shown; of more, evenly spread ones


def matrices(group: Group) -> list[dict[str, Any]]:
    """Every matrix the records hold, mean over seeds: {name, rows and columns shown, of: how many there are, cells}."""
    made = []
    for name in group.first.result.get("matrices") or {}:
        matrices = [matrix(run.result, name) for run in group.runs]
        if not all(matrices) or len({(len(one), len(one[0])) for one in matrices}) > 1 or len(matrices[0]) < 2:
            continue
        size = (len(matrices[0]), len(matrices[0][0]))
        rows, columns = (spread(list(range(n)), CELLS) for n in size)
        cells = [[mean([one[i][j] for one in matrices]) for j in columns] for i in rows]
        made.append({"name": name, "rows": rows, "columns": columns, "of": size, "cells": cells, "n": len(matrices)})
    return made


def matrix(result: dict[str, Any], name: str) -> list[list[float | None]] | None:
    """A matrix of numbers with rows of one length; None for anything else."""
    rows = (result.get("matrices") or {}).get(name)
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list) and row for row in rows):
        return None
    fits = len({len(row) for row in rows}) == 1 and all(numeric(v) for row in rows for v in row)
    return rows if fits else None


def mean(values: Sequence[float | None]) -> float | None:
    return None if not values or any(v is None for v in values) else sum(values) / len(values)
