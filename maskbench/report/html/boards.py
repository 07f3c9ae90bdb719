"""Plots as plain data: which ones there are follows from what the records hold, never from names of methods.

A board holds the plots of groups that share task, data and data source. A metric called `name/series/number` is a line
over the numbers, `name/word` a dot in the row of the word, a table whose first column is text gives a line over its rows,
and an accuracy matrix the average over the stages learnt.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from maskbench.common import checksums
from maskbench.report import sound
from maskbench.report.direction import lower
from maskbench.report.html import names
from maskbench.report.html.groups import Group, metrics, numeric, summary
from maskbench.report.html.matrices import matrix, mean
from maskbench.report.index import Index
from maskbench.report.runs import Run
from maskbench.report.statistics import Mean

NEAR = "_ci95"  # of a metric's name: half width of an interval over what the metric averages
WIDTH = " +-"  # of a column's name: half width of an interval over what its namesake averages
REMAINING = "weights remaining"
NUMBERED = {"meta": "inner steps", "uncertainty": "net of the ensemble"}  # task -> what the number in a metric's name counts
LEADERS = 4  # metrics of which a board shows every group

Series = dict[str, Any]  # {group: index, name, x, y, h: half widths of 95 % intervals or None, n: seeds}


def boards(groups: Sequence[Group], index: Index) -> list[dict[str, Any]]:
    """One for each task, data and source, in the order of the groups; a group is named by its place in `groups`."""
    made = []
    for board in dict.fromkeys(group.board for group in groups):
        members = {i: group for i, group in enumerate(groups) if group.board == board}
        made.append({"task": board[0], "data": board[1], "source": board[2], "plots": list(plots(members, index))})
    return made


def plots(members: dict[int, Group], index: Index) -> Iterator[dict[str, Any]]:
    """The leading metrics, then all others in the order of what stands on their axes."""
    yield from leaders(members)
    others = (over_stages, over_numbers, over_rows, over_words)
    made = [*over_curves(members, index), *(plot for family in others for plot in family(members))]
    yield from sorted(made, key=lambda plot: names.weight(plot["metric"]))


def plot(kind: str, title: str, metric: str, x: str, series: list[Series], **more: Any) -> dict[str, Any]:
    """`metric`: what is measured, on the axis y of lines and on x of rows, which have no other."""
    axis = names.label(metric)
    better = ", lower is better" if lower(metric) else ""
    xlabel, ylabel = (axis + better, "") if kind == "rows" else (x, axis)
    return {"kind": kind, "title": title, "metric": metric, "xlabel": xlabel, "ylabel": ylabel, "series": series} | more


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


def half(average: Mean) -> float | None:
    return None if average.high is None else average.high - average.mean


# ---- what figures are drawn from (curves.json)

AVERAGED = "members averaged (count)"
CURVES = (  # kind of row, what stands on the axes (of each row), what makes several lines of one group, what x is called
    ("members", "members", "nll", None, AVERAGED),
    ("members", "members", "accuracy", None, AVERAGED),
    ("members", "members", "ece", None, AVERAGED),
    ("members", "members", "rmse", None, AVERAGED),
    ("members", "members", "log_likelihood", None, AVERAGED),
    ("reliability", "bin", "accuracy", None, "bin of confidence (number)"),
    ("confidence", "threshold", "accuracy", "data", "least confidence (probability)"),
    ("confidence", "threshold", "kept", "data", "least confidence (probability)"),
    ("quantile", "level", "below", None, "quantile of the prediction (fraction)"),
    ("shifted", "level", "accuracy", None, "severity (level), mean over types"),
    ("shifted", "level", "nll", None, "severity (level), mean over types"),
)


def over_curves(members: dict[int, Group], index: Index) -> Iterator[dict[str, Any]]:
    """Scores by members, calibration in bins, answers by confidence, and others of CURVES; rows at one place are averaged."""
    kept = {i: [rows_of(run, index) for run in group.runs] for i, group in members.items()}
    for kind, x, y, by, label in CURVES:
        lines = []
        for i, runs in kept.items():
            own = [[row for row in rows if row.get("kind") == kind and drawable(row, x, y)] for rows in runs]
            words = list(dict.fromkeys(row.get(by) for row in own[0])) if by else [None]
            for word in words:
                places = [placed([row for row in rows if by is None or row.get(by) == word], x, y) for rows in own]
                points = [(at, summary([one[at] for one in places])) for at in places[0] if all(at in one for one in places)]
                lines.append(series(i, str(word or ""), points))
        if lines := [line for line in lines if len(line["x"]) > 1]:
            yield plot(
                "lines", f"{kind}: {y} against {label.partition(' (')[0]}", y, label, lines, log=kind == "members" and wide(lines)
            )


def drawable(row: dict[str, Any], x: str, y: str) -> bool:
    """Whether a row has a place and a value, which may be undefined."""
    return y in row and sound.finite(row.get(x)) and (row[y] is None or sound.number(row[y]))


def placed(rows: Sequence[dict[str, Any]], x: str, y: str) -> dict[float, float | None]:
    """Place -> value, in the order of the places; the mean of several."""
    values_by_place: dict[float, list] = {}
    for row in rows:
        values_by_place.setdefault(row[x], []).append(row[y])
    return {at: mean(values_by_place[at]) for at in sorted(values_by_place)}


def rows_of(run: Run, index: Index) -> list[dict[str, Any]]:
    """The flat rows of a run's curves.json; none where it is of no use, which is said."""

    def anew() -> list[dict[str, Any]] | None:
        rows = run.read("curves.json", sound.rows)
        return None if rows is None else [row for row in rows if all(map(sound.scalar, row.values()))]

    return index.value([run.folder], "rows", ("curves.json", checksums.NAME), anew) or []


# ---- one number for each group


def leaders(members: dict[int, Group]) -> Iterator[dict[str, Any]]:
    """What sweeps optimise and up to LEADERS metrics that lead: a row for each group, the best first, seeds beside the mean.

    A metric that is the same in all groups is in the tables only, unless it is what sweeps optimise.
    """
    goals = list(dict.fromkeys(map(objective, members.values())))
    known = dict.fromkeys([*(name for group in members.values() for name in group.metrics), *goals])
    chosen = [name for name in names.in_order(goals, known) if name in {*goals, *names.LEADING}]
    candidates = [(name, every_group(members, name)) for name in chosen]
    telling = [(name, lines) for name, lines in candidates if name == chosen[0] or len({line["y"][0] for line in lines}) > 1]
    for name, lines in [(name, lines) for name, lines in telling if lines][:LEADERS]:
        small = lower(name)
        lines.sort(key=lambda line: line["y"][0] if small else -line["y"][0])
        yield plot("rows", f"{name}, every group", name, "", lines, rows=None)


def every_group(members: dict[int, Group], name: str) -> list[Series]:
    """A series of one point for each group that has the metric, or optimises it; `seeds`: the values behind it."""
    values_by_group = {i: [value(run, name) for run in group.runs] for i, group in members.items()}
    points = [series(i, "", [(0, summary(values))]) | {"seeds": values} for i, values in values_by_group.items()]
    return [line for line in points if line["x"]]


def value(run: Run, name: str) -> float | None:
    return run.result.get("objective") if name == run.result.get("objective_name") else metrics(run).get(name)


def objective(group: Group) -> str:
    return str(group.first.result.get("objective_name") or "objective")


# ---- families of metrics


def over_numbers(members: dict[int, Group]) -> Iterator[dict[str, Any]]:
    """Metrics `name/.../number`: a plot for each name, a line for each group and middle."""
    lines_by_head: dict[str, list[Series]] = {}
    remaining: dict[str, bool] = {}
    for i, group in members.items():
        families = numbered(group)
        for (head, middle), own in families.items():
            points = aligned(group, own)
            if len(points) > 1 and (line := series(i, middle, points))["x"]:
                lines_by_head.setdefault(head, []).append(line)
                every = [name for (other, _), same in families.items() if other == head for name in same]
                remaining[head] = remaining.get(head, True) and densities(group, every)
    for head, lines in lines_by_head.items():
        label = REMAINING if remaining[head] else counted(members, lines)
        yield plot("lines", f"{head} against {label}", head, label, lines, down=remaining[head], log=wide(lines))


def counted(members: dict[int, Group], lines: Sequence[Series]) -> str:
    """What the number at the end of a metric's name counts: the word before it where all have one, else what the task says."""
    words = {line["name"] for line in lines}
    task = next(iter(members.values())).board[0]
    return words.pop() if len(words) == 1 and "" not in words else NUMBERED.get(task, "number in the metric's name")


def numbered(group: Group) -> dict[tuple[str, str], list[str]]:
    """(first word, middle words) -> names of metrics that end in a number, in order."""
    made: dict[tuple[str, str], list[str]] = {}
    for name in group.metrics:
        *front, last = name.split("/")
        if front and number(last) is not None and not names.setting(name):
            made.setdefault((front[0], "/".join(front[1:])), []).append(name)
    return made


def aligned(group: Group, names: Sequence[str]) -> list[tuple[float, Mean | None]]:
    """Points of a family over the seeds. Where seeds differ in the numbers but not in how many there are, as pruning by a
    criterion does, the n-th of one belongs to the n-th of another."""
    own = [sorted({name for name in names if name in metrics(run)}, key=last_number, reverse=True) for run in group.runs]
    if any(one != own[0] for one in own) and len({len(one) for one in own}) == 1:
        ranks = zip(*own, strict=True)
        return [(sum(map(last_number, rank)) / len(rank), at_rank(group, rank)) for rank in ranks]
    return [(last_number(name), with_interval(group, name)) for name in sorted(names, key=last_number, reverse=True)]


def at_rank(group: Group, names: Sequence[str]) -> Mean | None:
    return summary([metrics(run)[name] for run, name in zip(group.runs, names, strict=True)])


def with_interval(group: Group, name: str) -> Mean | None:
    """Over seeds; of a single seed with the interval the record itself gives."""
    return widened(group.metrics[name], group.metrics.get(name + NEAR))


def widened(average: Mean | None, near: Mean | None) -> Mean | None:
    if average and near and average.n == 1:
        return Mean(1, average.mean, average.mean - near.mean, average.mean + near.mean)
    return average


def densities(group: Group, names: Sequence[str]) -> bool:
    """Whether the numbers are shares of weights that remain: within [0, 1], the density of the run or 1 among them, to the four
    decimals that names have at least."""
    numbers = {last_number(name) for name in names}
    own = [run.metrics["density"] for run in group.runs if isinstance(run.metrics.get("density"), float)]
    return bool(own) and all(0 <= x <= 1 for x in numbers) and any(abs(x - d) <= 5e-5 for x in numbers for d in (*own, 1.0))


def wide(lines: Sequence[Series]) -> bool:
    """Whether the x axis is better logarithmic."""
    x = [value for line in lines for value in line["x"]]
    return min(x) > 0 and max(x) / min(x) > 12


def over_words(members: dict[int, Group]) -> Iterator[dict[str, Any]]:
    """Metrics `name/word`: a plot for each name, a row for each word, dots for the groups."""
    heads: dict[str, dict[str, None]] = {}
    for group in members.values():
        for name in group.metrics:
            head, _, word = name.rpartition("/")
            if head and number(word) is None and not word.endswith(NEAR) and not names.setting(name):
                heads.setdefault(head, {})[word] = None
    for head, words in heads.items():
        dots = [worded(i, group, head, list(words)) for i, group in members.items()]
        if len(words) > 1 and (dots := [line for line in dots if line["x"]]):
            yield plot("rows", f"{head}, by kind", head, "", dots, rows=list(words))


def worded(i: int, group: Group, head: str, words: list[str]) -> Series:
    return series(i, "", [(row, group.metrics.get(f"{head}/{word}")) for row, word in enumerate(words)])


# ---- continual


def over_stages(members: dict[int, Group]) -> Iterator[dict[str, Any]]:
    """Average over the stages learnt so far, where every one of them was tested again each time."""
    lines = [series(i, "", seen) for i, group in members.items() if len(seen := seen_so_far(group)) > 1]
    if lines := [line for line in lines if line["x"]]:
        yield plot("lines", "Average accuracy over the stages learnt", "average_accuracy", "stages learnt (count)", lines)


def seen_so_far(group: Group) -> list[tuple[int, Mean | None]]:
    matrices = [matrix(run.result, "accuracy") for run in group.runs]
    if not all(matrices) or len({len(one) for one in matrices}) > 1:
        return []
    steps = range(len(matrices[0]))
    return [(i + 1, summary([mean(one[i][: i + 1]) for one in matrices])) for i in steps]


def over_rows(members: dict[int, Group]) -> Iterator[dict[str, Any]]:
    """Tables whose first column is text (a stage, a data set): a plot for each other column of numbers."""
    columns: dict[str, dict[int, list]] = {}
    ticks: dict[str, list[str]] = {}
    heads: dict[int, str] = {}
    for i, group in members.items():
        tables = [run.result.get("table") or [] for run in group.runs]
        if not labelled(tables):
            continue
        head, *rest = tables[0][0]
        heads[i] = head
        for column in (name for name in rest if not name.endswith(WIDTH) and not names.setting(name)):
            points = [row_point(tables, row, column) for row in range(len(tables[0]))]
            columns.setdefault(column, {})[i] = list(enumerate(points, 1))
            own = [str(row[head]) for row in tables[0]]
            agreed = all([str(row[head]) for row in one] == own for one in tables)  # class orders may differ by seed
            ticks.setdefault(column, own if agreed else [])
            ticks[column] = ticks[column] if ticks[column] == own else []
    for column, points in columns.items():
        lines = [line for i, own in points.items() if (line := series(i, "", own))["x"]]
        if lines:
            head = heads[lines[0]["group"]]
            yield plot("lines", f"{column}, by {head}", column, head, lines, ticks=ticks[column])


def row_point(tables: Sequence[list[dict[str, Any]]], row: int, column: str) -> Mean | None:
    """A cell over seeds; of a single seed with the half width that stands beside it."""
    average = summary([one[row].get(column) for one in tables])
    return widened(average, summary([one[row].get(column + WIDTH) for one in tables]))


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


# ---- numbers in names


def number(word: str) -> float | None:
    try:
        value = float(word)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def last_number(name: str) -> float:
    return float(name.rpartition("/")[2])
