"""Figures of pruning runs: accuracy (of reals the error) and speed against the weights that remain, learning curves.

Drawn from curves.json, one row for each level and branch. As in the papers, the axis of remaining weights is logarithmic
and runs from 100 % down, and several seeds are a mean with the band from least to largest.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from maskbench.report import style
from maskbench.report.spread import share, spread
from maskbench.report.style import COLUMN, GREY, PAGE, PALE, band, canvas, label, legend, line_styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from maskbench.report.finished import Finished

FAMILY = ("draw",)  # what `maskbench figure` asks of this module (figures.py)
TICKET = "ticket"  # the method itself
UNTRAINED = "supermask/"  # what names of untrained branches begin with
REMAINING = "weights remaining (%)"
MULTIPLIED = "multiply-adds remaining (%), theoretical"
LINES = 7  # that one panel shows without repeating a colour
CURVES = 5  # levels whose learning curves are shown
POINTS = 4  # controls of a single level that may stand among the lines


class Measure(NamedTuple):
    """What nets are scored by: its name in the rows, how an axis calls it, the factor that makes it what the axis says, and
    what looks during training tell of it."""

    name: str
    label: str
    scale: float
    looked: str
    look: str


ACCURACY = Measure("accuracy", "accuracy (%)", 100, "accuracy", "accuracy (%)")
ERROR = Measure("rmse", "RMSE", 1, "loss", "loss")


def measure(runs: Sequence["Finished"]) -> Measure:
    """What these runs' nets were scored by: classes by accuracy, reals by their error."""
    return ERROR if ERROR.name in runs[0].curves[0] else ACCURACY


def draw(runs: Sequence["Finished"], title: str) -> dict[str, "Figure"]:
    """The figures these runs have something for, by name; none for records without curves."""
    if not pruned(runs):
        return {}
    made = {
        measure(runs).name: accuracy(runs, title),
        "multiplications": multiplications(runs, title),
        "speed": speed(runs, title),
        "learning_curves": learning_curves(runs, title),
    }
    return {name: figure for name, figure in made.items() if figure is not None}


# ---- numbers out of the records


def pruned(runs: Sequence["Finished"]) -> bool:
    """Whether all of them left the curves of a pruning run."""
    return all(run.curves and "branch" in run.curves[0] for run in runs)


def branches(runs: Sequence["Finished"]) -> list[str]:
    """Names of the trained branches, the method first."""
    names = dict.fromkeys(row["branch"] for run in runs for row in run.curves)
    return [name for name in names if not name.startswith(UNTRAINED)]


def rows(runs: Sequence["Finished"], branch: str) -> dict[int, list[dict[str, Any]]]:
    """Level -> one row of each run, at the levels at which every run has the branch."""
    rows_by_level = [{row["level"]: row for row in run.curves if row["branch"] == branch} for run in runs]
    return {level: [one[level] for one in rows_by_level] for level in sorted(set.intersection(*map(set, rows_by_level)))}


def series(
    runs: Sequence["Finished"], branch: str, name: str, at: Callable[[Iterable[dict[str, Any]]], float] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(remaining weights in percent, or what `at` says of them [levels], value of `name` [runs, levels]); nan where a run has
    none."""
    levels = rows(runs, branch).values()
    x = np.array([(at or remaining)(level) for level in levels])
    y = np.array([[number(row.get(name)) for row in level] for level in levels]).reshape(len(x), len(runs))
    return x, y.T


def remaining(level: Iterable[dict[str, Any]]) -> float:
    """Percent of weights that remain, mean over runs (they differ where a criterion, not a rate, sets the number)."""
    return 100 * float(np.mean([extra_metrics(row).get("density", 1.0) for row in level]))


def multiplied(level: Iterable[dict[str, Any]]) -> float:
    """Percent of the dense net's multiply-adds that remain, mean over runs; nan where a run does not say."""
    known = [row.get("savings") or {} for row in level]
    return 100 * float(np.mean([number(one.get("macs_sparse")) / number(one.get("macs_dense")) for one in known]))


def extra_metrics(row: dict[str, Any]) -> dict[str, float]:
    """The method's own measures of one level; runs recorded before they were called `extra_metrics` name them `facts`."""
    return row["extra_metrics"] if "extra_metrics" in row else row["facts"]


def number(value: float | None) -> float:
    return np.nan if value is None else float(value)


def some(values: np.ndarray) -> bool:
    """Whether there is anything to draw."""
    return bool(np.isfinite(values.mean(0)).any()) if values.size else False


def percent(value: float) -> str:
    """3.58 as 3.6, 51.28 as 51.3, 80.04 as 80: what the papers write on the axis."""
    return f"{value:.1f}".removesuffix(".0") if value >= 1 else f"{value:.2g}"


def word(branch: str) -> str:
    return label(branch) if label(branch) != branch else branch.removeprefix(UNTRAINED).replace("_", " ")


# ---- accuracy and speed against what remains


def accuracy(runs: Sequence["Finished"], title: str) -> "Figure | None":
    """At the end of training and, where the test set was evaluated on the way, at the early-stop step."""
    if len(rows(runs, TICKET)) < 2:
        return None
    many = lone(runs)
    own = measure(runs)
    word_of, unit = own.label.partition(" ")[::2]
    early = some(series(runs, TICKET, f"early_stop_{own.name}")[1])
    panels = [(own.name, f"test {own.label}")]
    panels += [(f"early_stop_{own.name}", f"test {word_of} at early stop {unit}".strip())] if early else []
    count = len(panels) + bool(many)
    figure, axes = canvas(title, count, width=COLUMN if count == 1 else PAGE, height=2.9)
    kinds = line_styles([name for name in branches(runs) if name not in many])
    for panel, (name, axis) in zip(axes, panels, strict=False):
        dense(panel, runs, name, own.scale)
        lines(panel, runs, name, kinds, scale=own.scale)
        panel.set_ylabel(axis)
    if many:
        ranked(axes[-1], runs, many)
    legend(figure, axes, len(runs))
    return figure


def multiplications(runs: Sequence["Finished"], title: str) -> "Figure | None":
    """The score against what a pass costs by formula, where that is not the share of weights: with convolutions."""
    own = measure(runs)
    cost, y = series(runs, TICKET, own.name, multiplied)
    if len(cost) < 2 or not np.isfinite(cost).all() or np.allclose(cost, series(runs, TICKET, own.name)[0], rtol=0.01):
        return None
    figure, (panel,) = canvas(title, width=COLUMN, height=2.9)
    many = lone(runs)
    for branch, line_style in line_styles([name for name in branches(runs) if name not in many]).items():
        x, y = series(runs, branch, own.name, multiplied)
        if some(y):
            above = {"zorder": 3 if branch == TICKET else 2.5}
            band(panel, x, own.scale * y, most=share(own.scale), label=word(branch), **above, **line_style)
    remaining_axis(panel, cost)
    panel.set_xlabel(MULTIPLIED)
    panel.set_ylabel(f"test {own.label}")
    legend(figure, [panel], len(runs))
    return figure


def speed(runs: Sequence["Finished"], title: str) -> "Figure | None":
    """The early-stop step, and the first step at the validation accuracy `task.fast`."""
    if len(rows(runs, TICKET)) < 2 or not some(series(runs, TICKET, "early_stop_step")[1]):
        return None
    goal = (runs[0].config.get("task") or {}).get("fast")
    reached = f"steps to {100 * goal:g} % validation accuracy" if goal else "steps to the accuracy asked for"
    panels = [("early_stop_step", "early-stop iteration (step)")]
    panels += [("fast_step", reached)] if some(series(runs, TICKET, "fast_step")[1]) else []
    figure, axes = canvas(title, len(panels), width=COLUMN * len(panels), height=2.9)
    many = lone(runs)
    kinds = line_styles([name for name in branches(runs) if name not in many])
    for panel, (name, axis) in zip(axes, panels, strict=True):
        lines(panel, runs, name, kinds)
        panel.set_ylabel(axis)
        panel.set_ylim(0, 1.05 * panel.dataLim.ymax)
    if any(np.isnan(series(runs, name, "fast_step")[1]).any() for name in kinds) and len(panels) > 1:
        missing = "no point: not reached" + (" by every seed" if len(runs) > 1 else "")
        axes[-1].set_title(missing, loc="right", color=GREY)
    legend(figure, axes, len(runs))
    return figure


def lone(runs: Sequence["Finished"]) -> list[str]:
    """Controls trained at the same one level only, where they are so many that their points would lie on a heap."""
    at = {name: list(rows(runs, name)) for name in branches(runs) if name != TICKET}
    level = max((levels for levels in at.values() if len(levels) == 1), default=[])
    names = [name for name, levels in at.items() if levels == level]
    return names if len(names) > POINTS and level else []


def lines(panel: "Axes", runs: Sequence["Finished"], name: str, kinds: dict[str, dict], scale: float = 1) -> None:
    """One line for each branch of `kinds`."""
    for branch, line_style in kinds.items():
        x, y = series(runs, branch, name)
        if some(y):
            above = {"zorder": 3 if branch == TICKET else 2.5}
            band(panel, x, scale * y, most=share(scale), label=word(branch), **above, **line_style)
    remaining_axis(panel, series(runs, TICKET, name)[0])


def dense(panel: "Axes", runs: Sequence["Finished"], name: str, scale: float) -> None:
    """The unpruned net as a horizontal line, where level 0 is one."""
    x, y = series(runs, TICKET, name)
    if x[0] == 100 and np.isfinite(y[:, 0]).all():
        panel.axhline(scale * y[:, 0].mean(), color=GREY, linestyle=(0, (4, 2)), linewidth=0.9, label="dense", zorder=1.5)


def ranked(panel: "Axes", runs: Sequence["Finished"], names: Sequence[str]) -> None:
    """Branches of one level, best first, one dot each with the range over seeds; the method at that level as a line."""
    (level,), (name, axis, scale, *_) = rows(runs, names[0]), measure(runs)
    values = {branch: scale * series(runs, branch, name)[1][:, 0] for branch in names}
    values = dict(sorted(values.items(), key=lambda item: item[1].mean(), reverse=name == ERROR.name))
    for at, value in enumerate(values.values()):
        ends = spread(value, share(scale)) or (value.min(), value.max())
        panel.plot(ends, [at, at], color=PALE, linewidth=3, solid_capstyle="round")
        panel.plot(value.mean(), at, "o", color=style.COLOURS[1])
    own = scale * np.array([row[name] for row in rows(runs, TICKET)[level]])
    panel.axvline(own.mean(), color=style.COLOURS[0], linewidth=1)
    panel.set_yticks(range(len(values)), [word(branch) for branch in values])
    panel.set_xlabel(f"test {axis}")
    panel.set_title(f"controls at {percent(remaining(rows(runs, TICKET)[level]))} % (line: ticket)", loc="left")
    panel.grid(False, axis="y")
    panel.grid(True, axis="x")


def remaining_axis(panel: "Axes", x: np.ndarray, ticks: int = 7) -> None:
    """Logarithmic, from 100 % down, the levels themselves as ticks; a level that leaves nothing has no place on it."""
    from matplotlib.ticker import NullLocator

    x = x[x > 0]
    panel.set_xscale("log")
    panel.set_xlim(max(x) * 1.06, min(x) / 1.06)
    shown = [x[i] for i in every(len(x), ticks)]
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xticks(shown, [percent(tick) for tick in shown])
    panel.set_xlabel(REMAINING)


def every(count: int, most: int) -> range:
    """Each of range(count), or each second, third, ... of them from the first on, so that `most` are left at most."""
    return range(0, count, -(-count // most))


def evenly(count: int, most: int) -> list[int]:
    """At most `most` of range(count), first and last among them, as evenly as whole numbers allow."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, most))})


# ---- learning curves


def learning_curves(runs: Sequence["Finished"], title: str) -> "Figure | None":
    """The method at some levels; beside it the method and its controls at the deepest level they share."""
    own = {level: group for level, group in rows(runs, TICKET).items() if has_curve(group)}
    if not own:
        return None
    *_, looked, look = measure(runs)
    test = all(f"test_{looked}" in point for group in own.values() for row in group for point in row["curve"])
    name = f"test_{looked}" if test else f"val_{looked}"
    level, rivals = controls(runs, own)
    figure, axes = canvas(title, 2 if rivals else 1, width=PAGE if rivals else COLUMN, height=2.9, sharey=True)
    levels = [list(own)[i] for i in evenly(len(own), CURVES)]
    for at, colour in zip(levels, shades(len(levels)), strict=True):
        curve(axes[0], own[at], name, color=colour, label=f"{percent(remaining(own[at]))} %")
    axes[0].set_ylabel(f"{'test' if test else 'validation'} {look}")
    if rivals:
        axes[0].set_title("ticket, by weights remaining", loc="left")
        axes[1].set_title(f"at {percent(remaining(own[level]))} % of weights", loc="left")
        kinds = line_styles(branches(runs))
        for branch, group in {TICKET: own[level], **rivals}.items():
            line_style = {part: kinds[branch][part] for part in ("color", "linestyle")}
            curve(axes[1], group, name, label=word(branch), **line_style)
    for panel in axes:
        panel.set_xlabel("training step")
        panel.set_xlim(left=0)
    axes[0].set_ylim(*ends(axes, less=looked == ERROR.looked))
    legend(figure, axes, len(runs), entry=0.9)
    return figure


def has_curve(group: Sequence[dict[str, Any]]) -> bool:
    """Whether every run was validated more than once while it trained at this level."""
    return all(len(row.get("curve") or []) > 1 for row in group)


def controls(runs: Sequence["Finished"], own: dict[int, Any]) -> tuple[int, dict[str, list]]:
    """The deepest level that has controls, and these; none where there are too many to tell their lines apart."""
    rows_by_branch = {name: rows(runs, name) for name in branches(runs) if name != TICKET}
    level = max((level for levels in rows_by_branch.values() for level in levels if level in own), default=0)
    rivals = {name: levels[level] for name, levels in rows_by_branch.items() if level in levels and has_curve(levels[level])}
    return level, rivals if len(rivals) < LINES else {}


def curve(panel: "Axes", group: Sequence[dict[str, Any]], name: str, **line_style: Any) -> None:
    """Accuracy in percent, or of reals the loss, over training, at the steps at which every run was validated."""
    scale = 100 if name.endswith("accuracy") else 1
    score_by_step = [{point["step"]: point[name] for point in row["curve"]} for row in group]
    steps = sorted(set.intersection(*map(set, score_by_step)))
    scores = scale * np.array([[one[step] for step in steps] for one in score_by_step])
    band(panel, np.array(steps), scores, most=share(scale), **line_style)


def ends(axes: Sequence["Axes"], less: bool) -> tuple[float, float]:
    """From the worst after the first fifth of training, so that the ends of the curves stand apart, to the best."""
    heights = [line.get_ydata() for panel in axes for line in panel.get_lines()]
    late = [y[len(y) // 5 :] for y in heights]
    least = min((y if less else end).min() for y, end in zip(heights, late, strict=True))
    most = max((end if less else y).max() for y, end in zip(heights, late, strict=True))
    room = 0.05 * (max(most - least, 1e-9) if less else max(most - least, 0.1))
    return least - room, most + room


def shades(count: int) -> list:
    """Dark to light, an order one can see: from the first level to the last."""
    from matplotlib import colormaps

    return [colormaps["viridis"](0.85 * i / max(1, count - 1)) for i in range(count)]
