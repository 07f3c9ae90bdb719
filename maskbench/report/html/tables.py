"""The tables of the page as HTML that can be read without any script; all text is escaped."""

import math
from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import Any

from maskbench.report.html import names as vocabulary
from maskbench.report.html.boards import NEAR, half
from maskbench.report.html.groups import Group, metrics
from maskbench.report.runs import Run
from maskbench.report.statistics import Mean
from maskbench.report.writers import text

WRITTEN = 500  # rows of a table that are written out; more are made by the script
SHOWN = 8  # metrics of a table of groups
COMMON = 5  # metrics of the table of all runs; its menu adds others


def of_groups(groups: Sequence[Group], labels: Sequence[str]) -> str:
    """A table for each task; groups keep their places in `groups` as data-group."""
    made = []
    for task in dict.fromkeys(group.board[0] for group in groups):
        members = [i for i, group in enumerate(groups) if group.board[0] == task]
        columns = leading([groups[i] for i in members])
        head = [("group", ""), ("data", ""), *((name, "num") for name in columns), ("n", "num"), ("budget", ""), ("code", "")]
        rows = [group_row(i, groups[i], labels[i], columns) for i in members] if len(members) <= WRITTEN else "group"
        every = {name for i in members for name in groups[i].metrics}
        fewer = f"; {len(columns)} of {len(every)} metrics, a group's details have all" if len(columns) < len(every) else ""
        caption = f"{task}: mean over n seeds ± half of the 95 % interval{fewer}"
        made.append(table(caption, head, rows, f"groups-{len(made)}", task))
    return "\n".join(made)


def group_row(i: int, group: Group, label: str, columns: Sequence[str]) -> str:
    """A group as a row of the page's table; its name opens the details."""
    data = f"{escape(group.board[1])} <small>{escape(group.source)}</small>"
    cells = [
        opener("group", i, label),
        f'<td data-v="{escape(group.board[1])}">{data}</td>',
        *(mean_cell(group, name) for name in columns),
        f'<td class="num" data-v="{len(group.runs)}">{len(group.runs)}</td>',
        f"<td>{escape(group.first.budget)}</td>",
        f"<td><code>{escape(group.code)}</code>{aged(group)}</td>",
    ]
    return f'<tr data-group="{i}">{"".join(cells)}</tr>'


def aged(group: Group) -> str:
    """What is said of a group whose runs are not all fresh."""
    found = sorted({run.freshness for run in group.runs} - {""})
    return f" {', '.join(found)}" if {*found} - {"fresh"} else ""


def mean_cell(group: Group, name: str) -> str:
    mean = group.metrics.get(name)
    if mean is None:
        return f'<td class="num">{"–" if name in group.metrics else ""}</td>'
    seeds = "; ".join(f"seed {run.seed}: {text(run.metrics.get(name))}" for run in group.runs)
    return f'<td class="num" data-v="{mean.mean!r}" title="{escape(seeds)}">{interval(mean, len(group.runs))}</td>'


def interval(mean: Mean, seeds: int) -> str:
    """The mean with its half width; a smaller n than the group's is said."""
    wide = half(mean)
    width = "" if wide is None else f" <small>±{narrow(wide, mean.mean)}</small>"
    fewer = f" <small>n={mean.n}</small>" if mean.n < seeds else ""
    return f"{shown(mean.mean)}{width}{fewer}"


def narrow(wide: float, mean: float) -> str:
    """A half width with the decimals of its mean."""
    return "0" if wide == 0 else f"{wide:.4f}" if 1e-3 <= abs(mean) < 1000 and wide < 1e-3 else shown(wide)


def shown(value: float) -> str:
    """A number to read: large ones with commas and no more than one decimal."""
    if not isinstance(value, int | float) or not math.isfinite(value) or abs(value) < 100:
        return escape(text(value))
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def leading(groups: Sequence[Group]) -> list[str]:
    """The metrics most groups have, the leading ones first, no settings; families such as accuracy/<density> are in the plots."""
    goals = dict.fromkeys(str(group.first.result.get("objective_name")) for group in groups)
    means = [(name, mean) for group in groups for name, mean in group.metrics.items()]
    names = Counter(name for name, mean in means if mean and (main(name) or name in goals))
    leaders = {name: None for name in (*goals, *vocabulary.LEADING) if name in names}
    chosen = [*leaders, *(name for name, _ in names.most_common() if name not in leaders)][:SHOWN]
    return vocabulary.in_order(goals, [name for name, _ in means if name in chosen])


def main(name: str) -> bool:
    return "/" not in name and not name.endswith(NEAR) and not vocabulary.setting(name)


# ---- all runs


def of_runs(runs: Sequence[Run]) -> str:
    columns = [name for name, _ in Counter(n for run in runs for n in metrics(run) if main(n)).most_common(COMMON)]
    words = ("run", "method", "data", "task")
    head = [*((w, "") for w in words), ("seed", "num"), ("status", ""), ("objective", "num"), *((n, "num") for n in columns)]
    head += [("wall_seconds", "num"), ("source", ""), ("code", ""), ("key", "")]
    rows = [run_row(i, run, columns) for i, run in enumerate(runs)] if len(runs) <= WRITTEN else "run"
    return table("all runs", head, rows, "all-runs")


def run_row(i: int, run: Run, columns: Sequence[str]) -> str:
    """A run as a row of the page's table; its name opens the details."""
    wall = (run.about.get("cost") or {}).get("wall_seconds")
    cells = [
        opener("run", i, run.name),
        *(f"<td>{escape(str(word or ''))}</td>" for word in (run.method, run.data, run.task)),
        number(run.seed),
        f'<td><span class="status {escape(run.status)}">{escape(run.status)}</span></td>',
        number(run.objective),
        *(number(run.metrics.get(name)) if name in run.metrics else "<td></td>" for name in columns),
        number(None if wall is None else round(wall, 1)),
        f"<td>{escape(str(run.source or ''))}</td>",
        f"<td><code>{escape(', '.join(run.codes))}</code>{f' {run.freshness}' if run.freshness else ''}</td>",
        f"<td><code>{escape(str(run.key or ''))}</code></td>",
    ]
    return f'<tr data-run="{i}">{"".join(cells)}</tr>'


def number(value: Any) -> str:
    if value is None:
        return '<td class="num">–</td>'
    return f'<td class="num" data-v="{escape(str(value))}">{shown(value)}</td>'


# ---- both


def opener(kind: str, i: int, label: str) -> str:
    """The head of a row: a button that opens the details of the group or run."""
    button = f'<button type="button" class="open" data-{kind}="{i}">{escape(label)}</button>'
    return f'<th scope="row" data-v="{escape(label)}">{button}</th>'


def table(caption: str, head: Sequence[tuple[str, str]], rows: list[str] | str, name: str, task: str = "") -> str:
    """Headers are buttons: they sort once the script runs. Rows that are a word, `run` or `group`, are what the script makes of
    all the page's runs, or of the groups of a task."""
    columns = "".join(
        f'<th scope="col" class="{kind}" aria-sort="none"><button type="button">{escape(word)}</button></th>'
        for word, kind in head
    )
    made = f' data-rows="{rows}" data-task="{escape(task)}"' if isinstance(rows, str) else ""
    lines = "" if made else "\n".join(rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f'<table class="sortable" id="{name}"{made}><caption>{escape(caption)}</caption>'
        f"<thead><tr>{columns}</tr></thead><tbody>{lines}</tbody></table></div>"
    )
