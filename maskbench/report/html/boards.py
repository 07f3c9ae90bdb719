"""Plots as plain data: which ones there are follows from what the records hold, never from names of methods.

A board holds the plots of groups that share task, data and data source. A metric called `name/series/number` is a line
over the numbers, `name/word` a dot in the row of the word, a table whose first column is text gives a line over its rows,
and an accuracy matrix the average over the stages learnt.
"""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from maskbench.report.html.groups import Group, metrics, numeric, summary
from maskbench.report.html.history import spread
from maskbench.report.statistics import Mean

CELLS = 40  # rows of a matrix that are shown; of more, evenly spread ones
NEAR = "_ci95"  # of a metric's name: half width of an interval over what the metric averages
WIDTH = " +-"  # of a column's name: half width of an interval over what its namesake averages
REMAINING = "weights remaining"

Series = dict[str, Any]  # {group: index, name, x, y, h: half widths of 95 % intervals or None, n: seeds}


def boards(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """One for each task, data and source, in the order of the groups; a group is named by its place in `groups`."""
    made = []
    for board in dict.fromkeys(group.board for group in groups):
        members = {i: group for i, group in enumerate(groups) if group.board == board}
        made.append({"task": board[0], "data": board[1], "source": board[2], "plots": list(plots(members))})
    return made


def plots(members: dict[int, Group]) -> Iterator[dict[str, Any]]:
    yield from objectives(members)
    yield from over_curves(members)
    yield from over_stages(members)
    yield from over_numbers(members)
    yield from over_rows(members)
    yield from over_words(members)


def plot(kind: str, title: str, x: str, y: str, series: list[Series], **more: Any) -> dict[str, Any]:
    return {"kind": kind, "title": title, "xlabel": x, "ylabel": y, "series": series} | more


def series(group: int, name: str, points: Sequence[tuple[float | int, Mean | None]]) -> Series:
    """The points that have a value."""
    known = [(x, s) for x, s in points if s is not None and math.isfinite(s.mean)]
    return {
        "group": group,
        "name": name,
        "x": [x for x, _ in known],
        "y": [s.mean for _, s in known],
        "h": [half(s) for _, s in known],
        "n": [s.n for _, s in known],
    }


def half(found: Mean) -> float | None:
    return None if found.high is None else found.high - found.mean


# ---- what figures are drawn from (curves.json)

CURVES = (  # kind of row, what stands on the axes (of each row), what makes several lines of one group, what x is called
    ("members", "members", "nll", None, "members"),
    ("members", "members", "accuracy", None, "members"),
    ("members", "members", "ece", None, "members"),
    ("members", "members", "rmse", None, "members"),
    ("members", "members", "log_likelihood", None, "members"),
    ("reliability", "bin", "accuracy", None, "bin of confidence"),
    ("confidence", "threshold", "accuracy", "data", "least confidence"),
    ("confidence", "threshold", "kept", "data", "least confidence"),
    ("quantile", "level", "below", None, "quantile of the prediction"),
    ("shifted", "level", "accuracy", None, "severity, mean over types"),
    ("shifted", "level", "nll", None, "severity, mean over types"),
)


def over_curves(members: dict[int, Group]) -> Iterator[dict[str, Any]]:
    """Scores by members, calibration in bins, answers by confidence, and others of CURVES; rows at one place are averaged."""
    kept = {i: [read_rows(run.folder / "curves.json") for run in group.runs] for i, group in members.items()}
    for kind, x, y, by, label in CURVES:
        drawn = []
        for i, runs in kept.items():
            own = [[row for row in rows if row.get("kind") == kind and y in row] for rows in runs]
            words = list(dict.fromkeys(row.get(by) for row in own[0])) if by else [None]
            for word in words:
                places = [placed([row for row in rows if by is None or row.get(by) == word], x, y) for rows in own]
                points = [(at, summary([one[at] for one in places])) for at in places[0] if all(at in one for one in places)]
                drawn.append(series(i, str(word or ""), points))
        if drawn := [line for line in drawn if len(line["x"]) > 1]:
            yield plot("lines", f"{kind}: {y} against {label}", label, y, drawn, log=kind == "members" and wide(drawn))


def placed(rows: Sequence[dict[str, Any]], x: str, y: str) -> dict[float, float | None]:
    """Place -> value, in the order of the places; the mean of several."""
    found: dict[float, list] = {}
    for row in rows:
        found.setdefault(row[x], []).append(row[y])
    return {at: mean(found[at]) for at in sorted(found)}


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a curves.json; none where it is missing or damaged."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return []
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


# ---- one number for each group


def objectives(members: dict[int, Group]) -> Iterator[dict[str, Any]]:
    """What sweeps optimise, a row for each group, every seed beside the mean."""
    for name in dict.fromkeys(map(objective, members.values())):
        found = {i: group for i, group in members.items() if objective(group) == name}
        values = {i: summary([run.result.get("objective") for run in group.runs]) for i, group in found.items()}
        drawn = [series(i, "", [(0, values[i])]) for i in found]
        for line, group in zip(drawn, found.values(), strict=True):
            line["seeds"] = [run.result.get("objective") for run in group.runs]
        drawn = sorted((line for line in drawn if line["x"]), key=lambda line: -line["y"][0])
        if drawn:
            yield plot("rows", f"{name}, every group", name, "", drawn, rows=None)


def objective(group: Group) -> str:
    return str(group.first.result.get("objective_name") or "objective")


# ---- families of metrics


def over_numbers(members: dict[int, Group]) -> Iterator[dict[str, Any]]:
    """Metrics `name/.../number`: a plot for each name, a line for each group and middle."""
    found: dict[str, list[Series]] = {}
    remaining: dict[str, bool] = {}
    for i, group in members.items():
        families = numbered(group)
        for (head, middle), names in families.items():
            points = aligned(group, names)
            if len(points) > 1 and (line := series(i, middle, points))["x"]:
                found.setdefault(head, []).append(line)
                every = [name for (other, _), own in families.items() if other == head for name in own]
                remaining[head] = remaining.get(head, True) and densities(group, every)
    for head, drawn in found.items():
        title, label = (f"{head} against {REMAINING}", REMAINING) if remaining[head] else (f"{head}/number", "number")
        yield plot("lines", title, label, head, drawn, down=remaining[head], log=wide(drawn))


def numbered(group: Group) -> dict[tuple[str, str], list[str]]:
    """(first word, middle words) -> names of metrics that end in a number, in order."""
    made: dict[tuple[str, str], list[str]] = {}
    for name in group.metrics:
        *front, last = name.split("/")
        if front and number(last) is not None:
            made.setdefault((front[0], "/".join(front[1:])), []).append(name)
    return made


def aligned(group: Group, names: Sequence[str]) -> list[tuple[float, Mean | None]]:
    """Points of a family over the seeds. Where seeds differ in the numbers but not in how many there are, as pruning by a
    criterion does, the n-th of one belongs to the n-th of another."""
    own = [sorted({name for name in names if name in metrics(run)}, key=last_number, reverse=True) for run in group.runs]
    if any(one != own[0] for one in own) and len({len(one) for one in own}) == 1:
        ranks = zip(*own, strict=True)
        return [(sum(map(last_number, rank)) / len(rank), at_rank(group, rank)) for rank in ranks]
    return [(last_number(name), told(group, name)) for name in sorted(names, key=last_number, reverse=True)]


def at_rank(group: Group, names: Sequence[str]) -> Mean | None:
    return summary([metrics(run)[name] for run, name in zip(group.runs, names, strict=True)])


def told(group: Group, name: str) -> Mean | None:
    """Over seeds; of a single seed with the interval the record itself gives."""
    return widened(group.metrics[name], group.metrics.get(name + NEAR))


def widened(found: Mean | None, near: Mean | None) -> Mean | None:
    if found and near and found.n == 1:
        return Mean(1, found.mean, found.mean - near.mean, found.mean + near.mean)
    return found


def densities(group: Group, names: Sequence[str]) -> bool:
    """Whether the numbers are shares of weights that remain: within (0, 1], the density of the run or 1 among them."""
    numbers = {last_number(name) for name in names}
    own = {round(run.metrics["density"], 4) for run in group.runs if isinstance(run.metrics.get("density"), float)}
    return bool(own) and all(0 <= x <= 1 for x in numbers) and bool(numbers & (own | {1.0}))


def wide(drawn: Sequence[Series]) -> bool:
    """Whether the x axis is better logarithmic."""
    x = [value for line in drawn for value in line["x"]]
    return min(x) > 0 and max(x) / min(x) > 12


def over_words(members: dict[int, Group]) -> Iterator[dict[str, Any]]:
    """Metrics `name/word`: a plot for each name, a row for each word, dots for the groups."""
    heads: dict[str, dict[str, None]] = {}
    for group in members.values():
        for name in group.metrics:
            head, _, word = name.rpartition("/")
            if head and number(word) is None and not word.endswith(NEAR):
                heads.setdefault(head, {})[word] = None
    for head, words in heads.items():
        drawn = [worded(i, group, head, list(words)) for i, group in members.items()]
        if len(words) > 1 and (drawn := [line for line in drawn if line["x"]]):
            yield plot("rows", f"{head}, by kind", head, "", drawn, rows=list(words))


def worded(i: int, group: Group, head: str, words: list[str]) -> Series:
    return series(i, "", [(row, group.metrics.get(f"{head}/{word}")) for row, word in enumerate(words)])


# ---- continual


def over_stages(members: dict[int, Group]) -> Iterator[dict[str, Any]]:
    """Average over the stages learnt so far, where every one of them was tested again each time."""
    drawn = [series(i, "", seen) for i, group in members.items() if len(seen := seen_so_far(group)) > 1]
    if drawn := [line for line in drawn if line["x"]]:
        yield plot("lines", "Average accuracy over the stages learnt", "stages learnt", "average accuracy", drawn)


def seen_so_far(group: Group) -> list[tuple[int, Mean | None]]:
    found = [matrix(run.result, "accuracy") for run in group.runs]
    if not all(found) or len({len(one) for one in found}) > 1:
        return []
    steps = range(len(found[0]))
    return [(i + 1, summary([mean(one[i][: i + 1]) for one in found])) for i in steps]


def mean(values: Sequence[float | None]) -> float | None:
    return None if not values or any(v is None for v in values) else sum(values) / len(values)


def over_rows(members: dict[int, Group]) -> Iterator[dict[str, Any]]:
    """Tables whose first column is text (a stage, a data set): a plot for each other column of numbers."""
    columns: dict[str, dict[int, list]] = {}
    names: dict[str, list[str]] = {}
    heads: dict[int, str] = {}
    for i, group in members.items():
        tables = [run.result.get("table") or [] for run in group.runs]
        if not labelled(tables):
            continue
        head, *rest = tables[0][0]
        heads[i] = head
        for column in (name for name in rest if not name.endswith(WIDTH)):
            points = [row_point(tables, row, column) for row in range(len(tables[0]))]
            columns.setdefault(column, {})[i] = list(enumerate(points, 1))
            own = [str(row[head]) for row in tables[0]]
            agreed = all([str(row[head]) for row in one] == own for one in tables)  # class orders may differ by seed
            names.setdefault(column, own if agreed else [])
            names[column] = names[column] if names[column] == own else []
    for column, points in columns.items():
        drawn = [line for i, own in points.items() if (line := series(i, "", own))["x"]]
        if drawn:
            head = heads[drawn[0]["group"]]
            yield plot("lines", f"{column}, by {head}", head, column, drawn, ticks=names[column])


def row_point(tables: Sequence[list[dict[str, Any]]], row: int, column: str) -> Mean | None:
    """A cell over seeds; of a single seed with the half width that stands beside it."""
    found = summary([one[row].get(column) for one in tables])
    return widened(found, summary([one[row].get(column + WIDTH) for one in tables]))


def labelled(tables: Sequence[list[dict[str, Any]]]) -> bool:
    """Whether all seeds have the same table of two rows or more, its first column names and the others numbers."""
    if len({len(table) for table in tables}) > 1 or len(tables[0]) < 2:
        return False
    if any(len({str(next(iter(row.values()), None)) for row in table}) < len(table) for table in tables):
        return False  # rows that are not told apart by their first column
    return all(
        row and isinstance(next(iter(row.values())), str) and all(numeric(v) for v in list(row.values())[1:])
        for table in tables
        for row in table
    )


# ---- matrices


def matrices(group: Group) -> list[dict[str, Any]]:
    """Every matrix the records hold, mean over seeds: {name, rows, columns (indices that are shown), cells}."""
    made = []
    for name in group.first.result.get("matrices") or {}:
        found = [matrix(run.result, name) for run in group.runs]
        if not all(found) or len({(len(one), len(one[0])) for one in found}) > 1 or len(found[0]) < 2:
            continue
        rows, columns = (spread(list(range(n)), CELLS) for n in (len(found[0]), len(found[0][0])))
        cells = [[mean([one[i][j] for one in found]) for j in columns] for i in rows]
        made.append({"name": name, "rows": rows, "columns": columns, "cells": cells, "n": len(found)})
    return made


def matrix(result: dict[str, Any], name: str) -> list[list[float | None]] | None:
    """A matrix of numbers with rows of one length; None for anything else."""
    found = (result.get("matrices") or {}).get(name)
    if not isinstance(found, list) or not found or not all(isinstance(row, list) and row for row in found):
        return None
    fits = len({len(row) for row in found}) == 1 and all(numeric(v) for row in found for v in row)
    return found if fits else None


# ---- numbers in names


def number(word: str) -> float | None:
    try:
        value = float(word)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def last_number(name: str) -> float:
    return float(name.rpartition("/")[2])
