"""Figures of uncertainty runs: calibration, answers by confidence, members, unknown classes, shifts, folds, a curve.

Drawn from curves.json, whose rows say their `kind`; several seeds are a mean with the band from least to largest. Experiments
side by side: a transition over one setting, or methods against members and confidence.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from maskbench.report import style
from maskbench.report.figures_methods import most_seeds, setting, styles
from maskbench.report.spread import share, spread
from maskbench.report.style import COLUMN, GREY, INK, PAGE, band, canvas, label, legend, line_styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from maskbench.report.finished import Finished

FAMILY = ("draw", "compare")  # what `maskbench figure` asks of this module (figures.py)
Group = Sequence["Finished"]
ACROSS = 3  # panels beside each other on a page
PANELS = {  # of a transition: metric, what stands on its axis, what it is multiplied by
    "accuracy": ("accuracy (%)", 100),
    "nll": ("NLL (nats)", 1),
    "ece": ("ECE (%)", 100),
    "disagreement": ("disagreement of members (%)", 100),
    "mask_iou": ("mean IoU of masks", 1),
    "rmse": ("RMSE", 1),
    "log_likelihood": ("log-likelihood", 1),
}


def draw(runs: Group, title: str) -> dict[str, "Figure"]:
    """The figures these runs have something for, by name."""
    made = {}
    for name, (kind, figure) in FIGURES.items():
        if all(rows(run, kind) for run in runs):
            made[name] = figure(runs, title)
    return made


def compare(groups: Sequence[Group], title: str) -> dict[str, "Figure"]:
    """A transition over the one setting in which experiments differ; else methods against members and confidence."""
    every = [run for group in groups for run in group]
    if not all(rows(run, "members") for run in every):
        return {}
    if (key := setting(groups)) is not None:
        return {"transition": transition(groups, key, title)}
    made = {"methods_members": members(groups, title, styles(groups))}
    if all(rows(run, "confidence") for run in every):
        made["methods_confidence"] = confidences(groups, title)
    return made


# ---- numbers out of the records


def rows(run: "Finished", kind: str) -> list[dict[str, Any]]:
    return [row for row in run.curves if row.get("kind") == kind]


def series(runs: Group, kind: str, at: str, name: str, **where: Any) -> tuple[np.ndarray, np.ndarray]:
    """(places [points], values of `name` [runs, points]) of the rows of a kind; nan where a run has none."""
    by_place = [{r[at]: r.get(name) for r in rows(run, kind) if all(r.get(k) == v for k, v in where.items())} for run in runs]
    x = sorted(set.intersection(*map(set, by_place)))
    y = np.array([[np.nan if one[place] is None else one[place] for place in x] for one in by_place], dtype=float)
    return np.array(x, dtype=float), y.reshape(len(runs), len(x))


def sets(runs: Group, kind: str) -> list[str]:
    """The data sets that rows of a kind speak of, in order."""
    return list(dict.fromkeys(row["data"] for run in runs for row in rows(run, kind)))


# ---- of one experiment


def reliability(runs: Group, title: str) -> "Figure":
    """Accuracy against confidence in bins, and below it how many answers a bin holds."""
    figure, (upper, lower) = canvas(title, 1, 2, width=COLUMN, height=3.6, sharex=True, height_ratios=[3, 1])
    bins, counts = series(runs, "reliability", "bin", "count")
    _, accuracy = series(runs, "reliability", "bin", "accuracy")
    _, confidence = series(runs, "reliability", "bin", "confidence")
    line_style = {"color": style.COLOURS[0]}
    upper.plot([0, 100], [0, 100], color=GREY, linewidth=0.6, linestyle="--", label="perfectly calibrated")
    for number, columns in enumerate(zip(confidence, accuracy, counts, strict=True)):
        calibrated(upper, *columns, marker="o", label="mean prediction" if number == 0 else "_", **line_style)
    upper.set_ylabel("accuracy (%)")
    centres = 100 * (bins + 0.5) / len(bins)
    lower.bar(centres, counts.mean(0), width=90 / len(bins), **line_style)
    lower.set_yscale("symlog", linthresh=1)
    lower.set_ylabel("inputs")
    lower.set_xlabel("confidence, largest probability (%)")
    legend(figure, [upper], 1, entry=1.6)
    return figure


def calibrated(panel: "Axes", confidence: np.ndarray, accuracy: np.ndarray, counts: np.ndarray, **line_style: Any) -> None:
    """Accuracy against confidence in bins, each with its 95 % interval (Wilson 1927), in %."""
    z, n = 1.96, np.maximum(counts, 1)
    centre = (accuracy + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(accuracy * (1 - accuracy) / n + z**2 / (4 * n**2))
    panel.plot(100 * confidence, 100 * accuracy, **line_style)
    panel.vlines(100 * confidence, 100 * (centre - half), 100 * (centre + half), color=line_style["color"], linewidth=0.6)


def confidence(runs: Group, title: str) -> "Figure":
    """Accuracy over the answers of at least a confidence, on the test set and mixed with unknown classes; and how many."""
    figure, (left, right) = canvas(title, 2, width=PAGE, height=2.7)
    for data, line_style in line_styles(sets(runs, "confidence")).items():
        x, accuracy = series(runs, "confidence", "threshold", "accuracy", data=data)
        _, kept = series(runs, "confidence", "threshold", "kept", data=data)
        band(left, x, 100 * accuracy, most=100, label=data, **line_style)
        band(right, x, 100 * kept, most=100, label=data, **line_style)
    for panel, axis in ((left, "accuracy of answers (%)"), (right, "answered (%)")):
        panel.set_xlabel("least confidence")
        panel.set_ylabel(axis)
    legend(figure, [left, right], len(runs), entry=2.0)
    return figure


def of_members(runs: Group, title: str) -> "Figure":
    return members([runs], title, styles([runs]))


def entropies(runs: Group, title: str) -> "Figure":
    """How sure the mean prediction is of known and of unknown classes: densities of its entropy."""
    figure, (panel,) = canvas(title, width=COLUMN, height=2.7)
    for data, line_style in line_styles(sets(runs, "entropy")).items():
        histograms = [row for run in runs for row in rows(run, "entropy") if row["data"] == data]
        counts = np.array([row["counts"] for row in histograms], dtype=float)
        edges = np.linspace(0, histograms[0]["top"], counts.shape[1] + 1)
        shares = 100 * counts / counts.sum(1, keepdims=True)
        band(panel, (edges[:-1] + edges[1:]) / 2, shares, most=100, label=data, **(line_style | {"marker": ""}))
    panel.set_xlabel("entropy of the mean prediction (nats)")
    panel.set_ylabel("share of inputs (%)")
    panel.set_yscale("symlog", linthresh=1)
    legend(figure, [panel], len(runs), entry=1.4)
    return figure


def shifted(runs: Group, title: str) -> "Figure":
    """Accuracy and calibration as corruptions grow: each type a faint line, their mean a full one."""
    figure, panels = canvas(title, 3, width=PAGE, height=2.6)
    types = list(dict.fromkeys(row["type"] for row in rows(runs[0], "shifted")))
    for panel, (name, (axis, factor)) in zip(panels, list(PANELS.items())[:3], strict=True):
        all_types = []
        for kind in types:
            x, y = series(runs, "shifted", "level", name, type=kind)
            all_types.append(y)
            panel.plot(x, factor * y.mean(0), color=GREY, linewidth=0.5, label="_" if kind != types[0] else "each type")
        line_style = {"color": style.COLOURS[0], "marker": "o", "label": f"mean of {len(types)} types"}
        band(panel, x, factor * np.mean(all_types, 0), most=share(factor), **line_style)
        panel.set_xlabel("severity")
        panel.set_ylabel(axis)
        panel.set_xticks(x)
    legend(figure, panels, len(runs), entry=1.6)
    return figure


def quantiles(runs: Group, title: str) -> "Figure":
    """Share of targets below each predicted quantile."""
    figure, (panel,) = canvas(title, width=COLUMN, height=2.9)
    panel.plot([0, 1], [0, 1], color=GREY, linewidth=0.6, linestyle="--", label="perfectly calibrated")
    x, y = series(runs, "quantile", "level", "below")
    band(panel, x, y, most=1, color=style.COLOURS[0], marker="o", label="all divisions together")
    panel.set_xlabel("quantile of the prediction")
    panel.set_ylabel("share of targets below")
    legend(figure, [panel], len(runs), entry=1.6)
    return figure


def folds(runs: Group, title: str) -> "Figure":
    """Error and likelihood of every division, with their mean."""
    figure, panels = canvas(title, 2, width=PAGE, height=2.4)
    for panel, name in zip(panels, ("rmse", "log_likelihood"), strict=True):
        x, y = series(runs, "fold", "fold", name)
        panel.plot(x, y.mean(0), linestyle="", marker="o", color=style.COLOURS[0], label="division, mean of seeds")
        if np.isfinite(y).any():  # else no variance is stated, and nothing is to be seen
            panel.axhline(np.nanmean(y), color=INK, linewidth=0.8, label="mean")
        panel.set_xlabel("division")
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.set_ylabel(PANELS[name][0])
    legend(figure, panels, 1, entry=1.8)
    return figure


def picture(runs: Group, title: str) -> "Figure":
    """A curve over its one input: what trained, what is tested, and the prediction with bands of one and three deviations.
    The first seed's."""
    run = runs[0]
    more = f"; drawn: seed {run.result['seed']}" if len(runs) > 1 else ""
    figure, (panel,) = canvas(title + more, width=PAGE, height=3.0)
    x, mean, sd = (np.array([row[name] for row in rows(run, "line")]) for name in ("x", "mean", "sd"))
    for times, fill in ((3, 0.15), (1, 0.25)):
        band_label = f"{times} deviation{'s' * (times > 1)}"
        panel.fill_between(
            x, mean - times * sd, mean + times * sd, color=style.COLOURS[0], alpha=fill, linewidth=0, label=band_label
        )
    panel.plot(x, mean, color=style.COLOURS[0], label="mean")
    for data, line_style in (("test", {"color": GREY, "marker": ".", "markersize": 2}), ("train", {"color": INK, "marker": "o"})):
        points = [row for row in rows(run, "point") if row["data"] == data]
        at, y = ([row[name] for row in points] for name in ("x", "y"))
        panel.plot(at, y, linestyle="", label=f"{data} rows", **line_style)
    panel.set_xlabel("input (standardised by what trains)")
    panel.set_ylabel("target")
    legend(figure, [panel], 1, entry=1.1)
    return figure


# ---- of several


def members(groups: Sequence[Group], title: str, kinds: dict[str, dict]) -> "Figure":
    """Scores against the number of members, from the predictions of one run: the first 1, 2, ... of them."""
    first = rows(groups[0][0], "members")[0]
    unknown = {name: (f"AUROC, {name.split('/')[1]} (%)", 100) for name in first if name.startswith("auroc_entropy/")}
    shown = {name: PANELS.get(name) or unknown[name] for name in [*PANELS, *unknown] if name in first}
    figure, panels = grid(title, len(shown))
    for panel, (name, (axis, factor)) in zip(panels, shown.items(), strict=True):
        for group, (group_name, line_style) in zip(groups, kinds.items(), strict=True):
            x, y = series(group, "members", "members", name)
            band(panel, x, factor * y, most=share(factor), label=group_name, **line_style)
        over_members(panel, max(row["members"] for group in groups for run in group for row in rows(run, "members")))
        panel.set_ylabel(axis)
    legend(figure, panels, most_seeds(groups), entry=1.8)
    return figure


def over_members(panel: "Axes", most: int) -> None:
    panel.set_xlabel("members")
    if most > 20:
        panel.set_xscale("log")
    else:
        panel.xaxis.get_major_locator().set_params(integer=True)


def confidences(groups: Sequence[Group], title: str) -> "Figure":
    """Accuracy over confident answers, by method: on the test set, and mixed with each set of unknown classes."""
    data = [name for name in sets(groups[0], "confidence") if all(name in sets(group, "confidence") for group in groups)]
    figure, panels = grid(title, len(data))
    for panel, name in zip(panels, data, strict=True):
        for group, (group_name, line_style) in zip(groups, styles(groups).items(), strict=True):
            x, y = series(group, "confidence", "threshold", "accuracy", data=name)
            band(panel, x, 100 * y, most=100, label=group_name, **line_style)
        panel.set_title(name, loc="left")
        panel.set_xlabel("least confidence")
        panel.set_ylabel("accuracy of answers (%)")
    legend(figure, panels, most_seeds(groups), entry=1.8)
    return figure


def transition(groups: Sequence[Group], key: str, title: str) -> "Figure":
    """Every score against the one setting that differs (of Masksembles: the scale, from one net to thin nets)."""
    groups = sorted(groups, key=lambda group: value_of(group, key))
    first = groups[0][0].result["metrics"]
    unknown = {n: (f"AUROC, {n.split('/')[1]} (%)", 100) for n in first if n.startswith("auroc_entropy/")}
    shown = {n: axis for n, axis in (PANELS | unknown).items() if any(g[0].result["metrics"].get(n) is not None for g in groups)}
    figure, panels = grid(title, len(shown))
    x = np.array([value_of(group, key) for group in groups], dtype=float)
    for panel, (name, (axis, factor)) in zip(panels, shown.items(), strict=True):
        scores = [[run.result["metrics"].get(name) for run in group] for group in groups]
        y = np.array([[np.nan if v is None else v for v in values] for values in scores], dtype=float) * factor
        panel.plot(x, y.mean(1), marker="o", color=style.COLOURS[0], label="mean of seeds")
        if (ends := spread(y.T, share(factor))) is not None:
            panel.fill_between(x, *ends, color=style.COLOURS[0], alpha=0.18, linewidth=0)
        panel.set_xlabel(label(key))
        panel.set_ylabel(axis)
    if most_seeds(groups) > 1:
        legend(figure, panels[:1], most_seeds(groups))
    return figure


def grid(title: str, count: int) -> tuple["Figure", list["Axes"]]:
    """(figure, `count` panels), at most ACROSS beside each other; what is left of the last row stays empty."""
    across = min(count, style.across(ACROSS))
    down = -(-count // across)
    width = PAGE if across > 1 else COLUMN
    figure, panels = canvas(title, across, down, width=width, height=1.9 * down + 0.8)
    for panel in panels[count:]:
        panel.remove()
    return figure, panels[:count]


def value_of(group: Group, key: str) -> Any:
    value: Any = group[0].config
    for part in key.split("."):
        value = value[part]
    return value


FIGURES = {  # name: (the kind of rows it needs, what draws it)
    "reliability": ("reliability", reliability),
    "confidence": ("confidence", confidence),
    "members": ("members", of_members),
    "entropy": ("entropy", entropies),
    "shifted": ("shifted", shifted),
    "quantiles": ("quantile", quantiles),
    "folds": ("fold", folds),
    "curve": ("line", picture),
}
