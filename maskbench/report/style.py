"""How every figure looks and how it is written: one style whatever the user's matplotlibrc says, equal bytes every time.

matplotlib is imported only when something is drawn, and never its pyplot: figures are objects that go with their caller.
"""

import io
import logging
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maskbench.common.files import replace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN, PAGE = 3.5, 7.0  # inches: the width of a column and of a page of the usual two-column paper
DPI = 200
LETTER, LINE = 0.068, 0.13  # inches of a title: a letter of usual width, a line
INK, GREY, PALE = "#222222", "#888888", "#e4e4e4"
# Okabe and Ito's palette, told apart by colour-blind people too, without the yellow that paper swallows
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", ":")
SHADES = "viridis"  # of a heat map
STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Arial", "Helvetica"],  # the first comes with matplotlib: layouts do not vary
    "font.size": 7.5,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.title_fontsize": 7,
    "figure.titlesize": 8,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": PALE,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 3,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "legend.columnspacing": 1.2,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "maskbench",  # ids inside an SVG are random otherwise
}


@contextmanager
def styled() -> Iterator[None]:
    """Inside, figures are drawn and written in our style; what the user had set comes back afterwards."""
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    from matplotlib import style

    with style.context(STYLE, after_reset=True):
        yield


def canvas(title: str, columns: int = 1, rows: int = 1, *, width: float, height: float, **share: Any) -> tuple:
    """(figure, its panels row by row) of `width` x `height` inches; `share` as in `Figure.subplots`.

    Lines of the title that are wider than the figure are broken, and the figure grows by what that takes.
    """
    from matplotlib.figure import Figure

    lines = title.splitlines()
    broken = [part for line in lines for part in textwrap.wrap(line, int(0.96 * width / LETTER))]
    figure = Figure(figsize=(width, height + LINE * (len(broken) - len(lines))), layout="constrained")
    figure.suptitle("\n".join(broken), x=0.02, ha="left")
    panels = figure.subplots(rows, columns, squeeze=False, **share)
    return figure, list(panels.flat)


def line_styles(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour, marker and dash by name: no two alike among the first 21."""
    kinds = [
        {"color": colour, "marker": marker, "linestyle": dash}
        for dash, (colour, marker) in product(DASHES, zip(COLOURS, MARKERS, strict=True))
    ]
    return {name: kinds[i % len(kinds)] for i, name in enumerate(names)}


def band(axes: "Axes", x: np.ndarray, y: np.ndarray, *, fill: float = 0.18, **line_style: Any) -> None:
    """The mean of y [seeds, points] as a line; with several seeds also the range from their least to their largest."""
    axes.plot(x, y.mean(0), **line_style)
    if len(y) > 1:
        axes.fill_between(x, y.min(0), y.max(0), color=line_style["color"], alpha=fill, linewidth=0)


def legend(figure: "Figure", axes: Sequence["Axes"], seeds: int, *, entry: float = 1.1) -> None:
    """One legend below all panels, each name once; `entry`: inches for one; `seeds`: how many a line stands for."""
    handles = {}
    for panel in axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if not handles:
        return
    columns = max(1, min(len(handles), int(figure.get_figwidth() / entry)))
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=columns, title=bands(seeds))


def bands(seeds: int) -> str | None:
    """The title of a legend, where lines and bands stand for several seeds."""
    return f"mean and min-max range of {seeds} seeds" if seeds > 1 else None


def save(figures: Mapping[str, "Figure"], folder: Path, about: str) -> list[Path]:
    """Write each figure as NAME.png and NAME.svg into `folder`, whole or not at all; `about` goes into the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with styled():
        for name, figure in figures.items():
            for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
                stream, metadata = io.BytesIO(), {**metadata, "Description": about}
                figure.savefig(stream, format=kind, dpi=DPI, facecolor="white", metadata=metadata)
                written.append(folder / f"{name}.{kind}")
                replace(written[-1], lambda path, stream=stream: path.write_bytes(stream.getvalue()))
    return written
