"""Figures that compare continual methods: accuracy against bytes, accuracy against stages, accuracy against one setting.

From groups of runs on the same stages, each group one experiment with one or more seeds. What is compared is said
by the records: names are those of the methods, with the settings in which experiments of one method differ.
"""

from collections import Counter
from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from maskbench.common.identity import leaves
from maskbench.report import figures_continual as continual
from maskbench.report import style
from maskbench.report.groups import varied
from maskbench.report.runs import plain
from maskbench.report.spread import spread
from maskbench.report.style import COLUMN, PAGE, band, canvas, error_bar, label, legend

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from maskbench.report.finished import Finished

FAMILY = ("compare",)  # what `maskbench figure` asks of this module (figures.py)
Group = Sequence["Finished"]
NAMED = 3  # settings that a name tells
GIVEN, INFERRED = "average_accuracy", "average_accuracy_inferred"
PROTOCOLS = {"": "stage given", "_class_il": "class-IL", "_domain_il": "domain-IL", "_inferred": "stage inferred"}
RULE = "task_inference_accuracy/"
STORED = "bytes stored"  # the column of result tables


def compare(groups: Sequence[Group], title: str) -> dict[str, "Figure"]:
    """The figures these experiments have something for; none unless all of them have an accuracy matrix of one size."""
    matrices = [[(run.result.get("matrices") or {}).get("accuracy") for run in group] for group in groups]
    if not all(matrix for group in matrices for matrix in group):
        return {}
    if len({len(matrix) for group in matrices for matrix in group}) > 1:
        return {}
    made = {"methods_bytes": over_bytes(groups, title)}
    if len(matrices[0][0]) > 1:
        made["methods_stages"] = over_stages(groups, title)
    if (key := setting(groups)) is not None:
        made["setting"] = over_setting(groups, key, title)
    return made


# ---- what is compared


def metric(group: Group, name: str) -> np.ndarray | None:
    """A metric over the group's seeds [runs]; None where a run lacks it."""
    values = [run.result["metrics"].get(name) for run in group]
    return None if any(value is None for value in values) else np.array(values, dtype=float)


def names(groups: Sequence[Group]) -> list[str]:
    """The methods; where several experiments are of one method, also the settings in which these differ."""
    labels = [named(group, groups) for group in groups]
    again = Counter(labels)
    return [name if again[name] == 1 else f"{name} ({g[0].result['key']})" for name, g in zip(labels, groups, strict=True)]


def named(group: Group, groups: Sequence[Group], without: Sequence[str] = ()) -> str:
    """The method of an experiment, and the settings, but for those of `without`, in which others of this method differ."""
    method = group[0].result["method"]
    keys = varied([other[0] for other in groups if other[0].result["method"] == method], without)
    own = dict(leaves(group[0].config))
    words = [f"{label(key) if label(key) != key else key.split('.')[-1]}={plain(own.get(key))}" for key in keys[:NAMED]]
    return " ".join([label(method), *words, *(["..."] if len(keys) > NAMED else [])])


def styles(groups: Sequence[Group]) -> dict[str, dict[str, Any]]:
    """Colour, marker and dash by name: a method has the same in every figure."""
    return style.line_styles(names(groups), [group[0].result["method"] for group in groups])


def setting(groups: Sequence[Group]) -> str | None:
    """The one numeric setting in which all experiments differ, each with a value of its own; None where there is none."""
    keys = varied([group[0] for group in groups])
    if len(keys) != 1:
        return None
    values = [dict(leaves(group[0].config)).get(keys[0]) for group in groups]
    numeric = all(isinstance(value, Real) and not isinstance(value, bool) for value in values)
    return keys[0] if numeric and len(set(values)) == len(groups) else None


# ---- figures


def over_bytes(groups: Sequence[Group], title: str) -> "Figure":
    """Average accuracy against the bytes that must be stored, a panel for each protocol that some experiment answers.

    Experiments of one method are joined; a thin line leads to each from the average over the first stage at its bytes then.
    """
    shown = {
        suffix: protocol
        for suffix, protocol in PROTOCOLS.items()
        if any(metric(group, f"{GIVEN}{suffix}") is not None for group in groups)
    }
    figure, panels = canvas(title, columns=len(shown), width=PAGE, height=3.6, sharex=True)
    for panel, (suffix, protocol) in zip(panels, shown.items(), strict=True):
        joined: dict[str, list[tuple[float, float, str]]] = {}
        for group, (name, line_style) in zip(groups, styles(groups).items(), strict=True):
            if (y := metric(group, f"{GIVEN}{suffix}")) is None:
                continue
            y, x = 100 * y, metric(group, "memory_bytes").mean()
            dot = line_style | {"linestyle": "", "markersize": 4.5}
            panel.errorbar([x], [y.mean()], yerr=error_bar(y, 100), elinewidth=0.8, capsize=1.5, label=name, zorder=3, **dot)
            joined.setdefault(group[0].result["method"], []).append((x, y.mean(), line_style["color"]))
            if (way := grown(group, suffix)) is not None:
                panel.plot(*way, color=line_style["color"], linewidth=0.6, linestyle=":", label="_grown")
        for points in joined.values():
            x, y, colours = zip(*sorted(points), strict=True)
            panel.plot(x, y, color=colours[0], linewidth=0.6, alpha=0.6, label="_joined")
        panel.set_xscale("log")
        panel.set_xlabel("bytes stored for all stages")
        panel.set_ylabel(f"average accuracy, {protocol} (%)")
    legend(figure, panels, most_seeds(groups), entry=1.7)
    return figure


def grown(group: Group, suffix: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Bytes stored after each stage, and the average over the stages seen by then, means over seeds; None where either is
    not in the records."""
    stored = [[row.get(STORED) for row in run.result["table"]] for run in group]
    cells = [(run.result.get("matrices") or {}).get(f"accuracy{suffix}") for run in group]
    if any(value is None for row in stored for value in row) or not all(cells):
        return None
    averages = continual.average_seen(100 * np.array(cells, dtype=float)).mean(0)
    return None if np.isnan(averages).any() else (np.array(stored, dtype=float).mean(0), averages)


def over_stages(groups: Sequence[Group], title: str) -> "Figure":
    """Average accuracy against stages learnt, or over the first stages where only the end was tested; dotted: stage inferred."""
    figure, (panel,) = canvas(title, width=PAGE, height=3.6)
    whole = all(continual.whole(continual.matrices(group)) for group in groups)
    for group, (name, line_style) in zip(groups, styles(groups).items(), strict=True):
        r = continual.matrices(group)
        x = np.arange(1, r.shape[-1] + 1)
        mark = line_style | ({} if len(x) <= continual.BARS else {"marker": ""})
        band(panel, x, continual.average_seen(r) if whole else continual.running_mean(r[:, -1]), most=100, label=name, **mark)
        inferred = continual.column(group, "accuracy, stage inferred")
        if inferred is not None:
            dotted = mark | {"linestyle": ":", "fillstyle": "none"}
            band(panel, x, continual.running_mean(inferred), most=100, label=f"{name}, inferred at the end", **dotted)
    panel.set_xlabel("stages learnt" if whole else "first stages averaged, tested at the end")
    panel.set_ylabel("average accuracy (%)")
    continual.whole_numbers(panel, len(x))
    legend(figure, [panel], most_seeds(groups), entry=1.7)
    return figure


def over_setting(groups: Sequence[Group], key: str, title: str) -> "Figure":
    """Average accuracy against the setting; beside it how often each rule finds the stage, where rules were measured."""
    groups = sorted(groups, key=lambda group: dict(leaves(group[0].config))[key])
    x = np.array([dict(leaves(group[0].config))[key] for group in groups], dtype=float)
    shared = set.intersection(*(set(group[0].result["metrics"]) for group in groups))
    rules = sorted(name for name in shared if name.startswith(RULE))
    panels = [{GIVEN: "stage given", INFERRED: "stage inferred"}, {rule: rule.removeprefix(RULE) for rule in rules}]
    panels = [lines for lines in panels if lines]
    width = PAGE if len(panels) > 1 else COLUMN
    figure, axes = canvas(title, columns=len(panels), width=width, height=3.2)
    for panel, lines in zip(axes, panels, strict=True):
        for name, line_style in style.line_styles(list(lines)).items():
            values = [metric(group, name) for group in groups]
            if any(value is None for value in values):
                continue
            ends = [spread(100 * value, 100) or (100 * value[0], 100 * value[0]) for value in values]
            panel.plot(x, [100 * value.mean() for value in values], label=lines[name], **line_style)
            if most_seeds(groups) > 1:
                panel.fill_between(x, *np.array(ends).T, color=line_style["color"], alpha=0.18, linewidth=0)
        if x.min() > 0 and x.max() / x.min() > 8:
            panel.set_xscale("log")
            panel.minorticks_off()
        panel.set_xticks(x, [f"{value:g}" for value in x])
        panel.set_xlabel(label(key))
    axes[0].set_ylabel("average accuracy (%)")
    if len(axes) > 1:
        axes[1].set_ylabel("stage found (%)")
    legend(figure, axes, most_seeds(groups), entry=1.7)
    return figure


def most_seeds(groups: Sequence[Group]) -> int:
    return max(len(group) for group in groups)
