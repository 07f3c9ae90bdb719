"""How every figure is laid out and how it is written: one style whatever the user's matplotlibrc says, equal bytes every time.

Sizes, width and formats are those of the look that is used (`report/look.py`). matplotlib is imported only when something is
drawn, and never its pyplot: figures are objects that go with their caller.
"""

import io
import logging
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maskbench.common.files import replace
from maskbench.report import look
from maskbench.report.fitting import fit
from maskbench.report.palette import COLOURS, DASHES, MARKERS, line_styles
from maskbench.report.spread import spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "COLUMN", "DASHES", "GREY", "INK", "MARKERS", "PAGE", "PALE", "SHADES", "across", "band", "bands",
           "canvas", "error_bar", "label", "legend", "line_styles", "points", "save", "styled", "wrapped"]  # fmt: skip

COLUMN, PAGE = 3.5, 7.0  # inches: the width of a column and of a page of the usual two-column paper
DPI = 200
LETTER, LINE = 0.068, 0.13  # inches of a title: a letter of usual width, a line
TIGHT = 0.6  # of what a legend's entry takes by itself, to begin with at a printed width
LEGEND_LINES = 2  # for which figures have room
INK, GREY, PALE = "#222222", "#888888", "#e4e4e4"
SHADES = "viridis"  # of a heat map
STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Arial", "Helvetica"],  # the first comes with matplotlib: layouts do not vary
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": PALE,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "legend.columnspacing": 1.2,
    "pdf.fonttype": 42,  # TrueType: what journals take, and text that can be searched
    "ps.fonttype": 42,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "maskbench",  # ids inside an SVG are random otherwise
}
TEXTS = ("font.size", "axes.titlesize", "axes.labelsize")  # the rest is smaller
SMALL = ("xtick.labelsize", "ytick.labelsize", "legend.fontsize", "legend.title_fontsize")
LINES = {
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 3,
}


@contextmanager
def styled() -> Iterator[None]:
    """Inside, figures are drawn and written in the style of the look; what the user had set comes back afterwards."""
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # tells every table of a font that a PDF takes
    from matplotlib import style

    own = look.current().style
    sizes = dict.fromkeys(TEXTS, own.points) | dict.fromkeys(SMALL, own.small) | {"figure.titlesize": max(8.0, own.points)}
    with style.context(STYLE | sizes | {name: own.scale * size for name, size in LINES.items()}, after_reset=True):
        yield


def points(size: float) -> float:
    """A size of text that was chosen for the screen, in the look's points."""
    return look.current().points(size)


def label(name: str) -> str:
    """What the look calls a config key or a name."""
    return look.current().label(name)


def across(panels: int, native: float = PAGE, least: float = look.PANEL) -> int:
    """How many of so many panels, of `least` inches at least, have room beside each other in a figure that is `native` inches
    wide by itself."""
    return look.current().across(panels, native, least)


def canvas(title: str, columns: int = 1, rows: int = 1, *, width: float, height: float, **share: Any) -> tuple:
    """(figure, its panels row by row) of `width` x `height` inches, if the look says no other; `share` as in `Figure.subplots`.

    Lines of the title that are wider than the figure are broken, and the figure grows by what that takes. A row of panels
    that the figure is too narrow for becomes several.
    """
    from matplotlib.figure import Figure

    own = look.current()
    beside = own.across(columns, width) if rows == 1 and "width_ratios" not in share else columns
    below = -(-columns // beside) if rows == 1 else rows
    inches, tall = own.inches(width), own.height((width, height), columns, beside, below if rows == 1 else 1)
    lines = title.splitlines()
    broken = [part for line in lines for part in textwrap.wrap(line, int(0.96 * inches / (LETTER * own.style.scale)))]
    grown = len(broken) - len(lines) if own.title else -len(lines)
    figure = Figure(figsize=(inches, tall + LINE * own.style.scale * grown), layout="constrained")
    if own.title:
        figure.suptitle("\n".join(broken), x=0.02, ha="left")
    panels = list(figure.subplots(below, beside, squeeze=False, **share).flat)
    if beside < columns:
        for panel in panels:
            panel.tick_params(which="both", labelbottom=True, labelleft=True)  # also of those that share an axis
    for empty in panels[columns * rows :]:
        empty.remove()
    return figure, panels[: columns * rows]


def wrapped(text: str, inches: float) -> str:
    """A heading in lines of such a length."""
    return "\n".join(textwrap.wrap(text, max(8, int(inches / (LETTER * look.current().style.scale))))) or text


def band(axes: "Axes", x: np.ndarray, y: np.ndarray, *, fill: float = 0.18, most: float | None = None, **line_style: Any) -> None:
    """The mean of y [seeds, points] as a line; with several seeds also their spread. `most`: of shares, what all is."""
    axes.plot(x, y.mean(0), **line_style)
    if (ends := spread(y, most)) is not None:
        axes.fill_between(x, *ends, color=line_style["color"], alpha=fill, linewidth=0)


def error_bar(y: np.ndarray, most: float | None = None) -> np.ndarray | None:
    """What y [seeds, ...] spreads over, as lengths below and above its mean [2, ...]; None of one seed."""
    ends = spread(y, most)
    return None if ends is None else np.array([y.mean(0) - ends[0], ends[1] - y.mean(0)]).reshape(2, -1).clip(0)


def legend(figure: "Figure", axes: Sequence["Axes"], seeds: int, *, entry: float = 1.1) -> None:
    """One legend below all panels, each name once; `entry`: inches for one; `seeds`: how many a line stands for.

    It has as many columns as fit, and the figure grows by lines that there are many of.
    """
    handles = {}
    for panel in axes:
        for handle, name in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(label(name), handle)
    if not handles:
        return
    scale = look.current().style.scale
    entry *= 1 if look.current().natural else TIGHT
    room = figure.get_figwidth() - 0.1
    columns = even(len(handles), max(1, int(figure.get_figwidth() / (entry * scale))))
    names = list(handles)
    while True:
        made = figure.legend(handles.values(), names, loc="outside lower center", ncols=columns, title=bands(seeds))
        wide = made.get_tightbbox().width / figure.dpi
        if wide <= room or (columns == 1 and names != list(handles)):
            break
        made.remove()
        if columns > 1:
            columns = even(len(handles), columns - 1)
        else:
            letters = max(8, int(max(map(len, names)) * room / wide) - 4)
            names = ["\n".join(textwrap.wrap(name, letters)) for name in names]
    lines = -(-sum(name.count("\n") + 1 for name in names) // columns)
    figure.set_figheight(figure.get_figheight() + LINE * scale * max(0, lines - LEGEND_LINES))


def even(count: int, most: int) -> int:
    """Columns, `most` at most, that take as many lines as that and are as full as can be."""
    return -(-count // -(-count // most))


def bands(seeds: int) -> str | None:
    """The title of a legend, where lines and bands stand for several seeds."""
    return look.INTERVALS[look.current().interval].format(seeds) if seeds > 1 else None


def save(figures: Mapping[str, "Figure"], folder: Path, about: str, keywords: Sequence[str] = ()) -> list[Path]:
    """Write each figure as NAME.png and NAME.svg, or in the look's formats, into `folder`, whole or not at all.

    `about` and `keywords` (the keys that find the runs) go into the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    own, written = look.current(), []
    with styled():
        for name, figure in figures.items():
            fit(figure, own)
            for kind in own.formats:
                stream = io.BytesIO()
                figure.savefig(stream, format=kind, dpi=DPI, facecolor="white", metadata=_metadata(kind, about, keywords))
                written.append(folder / f"{name}.{kind}")
                replace(written[-1], lambda path, stream=stream: path.write_bytes(stream.getvalue()))
    return written


def _metadata(kind: str, about: str, keywords: Sequence[str]) -> dict[str, Any]:
    """Neither dates nor versions, so that equal figures are equal bytes."""
    if kind == "pdf":
        return {"Creator": None, "Producer": None, "CreationDate": None, "Subject": about, "Keywords": ", ".join(keywords)}
    if kind == "svg":
        return {"Date": None, "Creator": None, "Description": about, **({"Keywords": list(keywords)} if keywords else {})}
    return {"Software": None, "Description": about, **({"Keywords": ", ".join(keywords)} if keywords else {})}
