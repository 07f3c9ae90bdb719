"""A paired table as a figure: each method's mean against a number that was swept, such as the target's size."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from maskbench.common.errors import UsageError
from maskbench.report import style
from maskbench.report.paired import Row
from maskbench.report.style import COLUMN, GREY, canvas, legend

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(rows: Sequence[Row], metric: str, key: str, baseline: str, title: str) -> "Figure":
    """Two panels against the last setting, `key`: means; and differences to the baseline with their standard errors.

    Raises:
        UsageError: the setting is no number, has one value only, or other settings differ too.
    """
    if len({row.setting[:-1] for row in rows}) > 1:
        raise UsageError("a figure has one axis: give settings= one key that differs, or filters for the others.")
    try:
        places = sorted({float(row.setting[-1]) for row in rows})
    except ValueError:
        raise UsageError(f"{key} has values that are no numbers, so there is no axis of them; settings= names another.") from None
    if len(places) < 2:
        raise UsageError(f"{key} has one value only; a figure needs runs of several.")
    methods = list(dict.fromkeys(row.method for row in rows))
    with style.styled():
        figure, (left, right) = canvas(title, columns=2, width=2 * COLUMN, height=2.8)
        right.axhline(0, color=GREY, linewidth=0.8)
        for method, line_style in style.line_styles(methods).items():
            own = {float(row.setting[-1]): row for row in rows if row.method == method}
            x = np.array(sorted(own))
            left.plot(x, [own[place].mean for place in x], label=method, **line_style)
            gaps = [(p, own[p].paired.difference.mean, own[p].error or 0.0) for p in x if own[p].paired is not None]
            if gaps:
                right.errorbar(*np.array(gaps).T[:2], yerr=np.array(gaps).T[2], elinewidth=0.8, label=method, **line_style)
        for panel, label in ((left, metric), (right, f"{metric} minus {baseline}'s")):
            panel.set_xlabel(key)
            panel.set_ylabel(label)
            if min(places) > 0 and max(places) / min(places) >= 10:
                panel.set_xscale("log")
        legend(figure, [left], 1, entry=1.4)
    return figure
