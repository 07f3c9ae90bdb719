"""The last hand on a figure before it is written: shares end at 0 and 100 %, and at a printed width nothing is too small, too
long or on top of another."""

import math
import re
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from maskbench.report.look import Look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

PERCENT = re.compile(r"\(%\)|^%$")  # in the label of an axis of shares
BETWEEN = (2, 5)  # of a decade, what has a label
MINOR_PAD = 5  # points; the labels of minor ticks, which are shorter, stand on one line with the others
PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def fit(figure: "Figure", own: Look) -> None:
    """Bound the axes of shares; where the look has a style or width of its own, also make texts fit."""
    for panel in figure.axes:
        bound(panel)
    if own.natural:
        return
    for panel in figure.axes:
        plain_powers(panel)
        name_alone(panel)
    at_least(figure, own.style.least)
    figure.draw_without_rendering()  # places the panels
    for panel in figure.axes:
        break_label(figure, panel)
        turn_ticks(panel)


# ---- shares


def bound(panel: "Axes") -> None:
    """Linear axes of percent end at 0 and 100; what lies on an end is drawn whole."""
    bounded = False
    for axis, limits, put in (
        (panel.yaxis, panel.get_ylim, panel.set_ylim),
        (panel.xaxis, panel.get_xlim, panel.set_xlim),
    ):
        if not PERCENT.search(axis.get_label_text() or _shared_label(panel, axis)) or axis.get_scale() != "linear":
            continue
        ends = limits()
        clipped = tuple(min(100.0, max(0.0, end)) for end in ends)
        if clipped != tuple(ends) and clipped[0] != clipped[1]:
            put(*clipped)
            bounded = True
    if bounded:
        low, high = sorted(panel.get_ylim())
        left, right = sorted(panel.get_xlim())
        for line in panel.get_lines():
            x, y = (np.asarray(values, dtype=float) for values in (line.get_xdata(), line.get_ydata()))
            if line.get_transform() is panel.transData and _within(x, left, right) and _within(y, low, high):
                line.set_clip_on(False)


def _shared_label(panel: "Axes", axis: Any) -> str:
    """The label of a panel that shares this axis and has one."""
    shared = panel.get_shared_y_axes() if axis is panel.yaxis else panel.get_shared_x_axes()
    beside = [getattr(other, axis.axis_name + "axis").get_label_text() for other in shared.get_siblings(panel)]
    return next(filter(None, beside), "")


def _within(values: np.ndarray, low: float, high: float) -> bool:
    values = values[np.isfinite(values)]
    return bool(values.size and low <= values.min() and values.max() <= high)


# ---- texts


def texts(figure: "Figure") -> "Iterator[Text]":
    """All texts that are seen."""
    from matplotlib.text import Text

    return (text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip())


def at_least(figure: "Figure", points: float) -> None:
    """No text is smaller."""
    for text in figure.findobj(match=lambda artist: hasattr(artist, "get_fontsize") and hasattr(artist, "set_fontsize")):
        if text.get_fontsize() < points:
            text.set_fontsize(points)
    for panel in figure.axes:
        for axis in (panel.xaxis, panel.yaxis):
            sizes = [one.label1.get_fontsize() for one in axis.get_major_ticks()]
            if sizes and min(sizes) <= points:
                axis.set_tick_params(labelsize=points)


def plain_powers(panel: "Axes") -> None:
    """Powers of ten on logarithmic axes as 10k, 1M or 0.01: an exponent would be smaller than all other text."""
    from matplotlib.ticker import Formatter, LogFormatter

    class Plain(Formatter):
        """The same ticks have labels as with another formatter; of those between powers 2 and 5, where it has any."""

        def __init__(self, other: LogFormatter, between: bool) -> None:
            self.other, self.between = other, between

        def set_axis(self, axis: Any) -> None:
            super().set_axis(axis)
            self.other.set_axis(axis)

        def set_locs(self, locs: Any) -> None:
            super().set_locs(locs)
            self.other.set_locs(locs)

        def __call__(self, x: float, pos: int | None = None) -> str:
            if not self.between:
                return power(x) if self.other(x, pos) else ""
            tens = 10 ** math.floor(math.log10(abs(x)) + 1e-9) if x else 1
            return power(x) if round(abs(x) / tens) in BETWEEN and self.other(math.copysign(2 * tens, x), pos) else ""

    for axis in (panel.xaxis, panel.yaxis):
        if axis.get_scale() != "linear":
            axis.set_tick_params(which="minor", pad=MINOR_PAD)
        if isinstance(axis.get_major_formatter(), LogFormatter):
            axis.set_major_formatter(Plain(axis.get_major_formatter(), False))
        if isinstance(axis.get_minor_formatter(), LogFormatter):
            axis.set_minor_formatter(Plain(axis.get_minor_formatter(), True))


def power(value: float) -> str:
    """20000 as 20k, 0.01 as 0.01, 1e-7 as 1e-7."""
    for size, prefix in PREFIXES:
        if size <= abs(value) < 1e12:
            return f"{value / size:.3g}{prefix}"
    if value == 0 or 1e-3 <= abs(value) < 1e12:
        return f"{value:.3g}"
    exponent = math.floor(math.log10(abs(value)) + 1e-9)
    return f"{value / 10**exponent:.3g}e{exponent}"


def name_alone(panel: "Axes") -> None:
    """A panel that shares the axis of one beside it, and came to stand below it, has the label of that axis too."""
    place = panel.get_subplotspec()
    if place is None or place.colspan.start or panel.get_ylabel():
        return
    if name := _shared_label(panel, panel.yaxis):
        panel.set_ylabel(name)


def break_label(figure: "Figure", panel: "Axes") -> None:
    """Labels and titles that are longer than their panel has room are broken into lines."""
    place = panel.get_subplotspec()
    slot = place.get_position(figure) if place is not None else None
    own = panel.get_window_extent()
    wide = own.width if slot is None else max(own.width, slot.width * figure.bbox.width)
    tall = 1.1 * own.height
    named = [panel.title, panel._left_title, panel._right_title]
    sizes = [(panel.xaxis.label, "width", wide), (panel.yaxis.label, "height", tall), *((one, "width", wide) for one in named)]
    for text, side, room in sizes:
        if text.get_text() and (length := getattr(text.get_window_extent(), side)) > room:
            lines = math.ceil(length / room)
            letters = max(10, math.ceil(len(text.get_text()) / lines) + 2)  # of about one length
            text.set_text("\n".join(textwrap.wrap(text.get_text(), letters)))


def turn_ticks(panel: "Axes") -> None:
    """Labels of ticks that would touch stand upright."""
    shown = [one.label1 for one in panel.xaxis.get_major_ticks() if one.label1.get_visible() and one.label1.get_text()]
    boxes = sorted((text.get_window_extent() for text in shown if text.get_rotation() == 0), key=lambda box: box.x0)
    if any(a.x1 + 1 > b.x0 for a, b in zip(boxes, boxes[1:], strict=False)):
        panel.tick_params(axis="x", labelrotation=90)
