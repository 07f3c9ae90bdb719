"""Ours against published values of the same setting as dots: mean and interval over seeds, each seed, the value beside it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from maskbench.report import style
from maskbench.report.published import EARLIER
from maskbench.report.style import COLOURS, GREY, INK, PAGE
from maskbench.report.tables import Judged, Line
from maskbench.report.verdicts import FAILS, UNDECIDED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW, EDGE = 0.19, 0.42  # inches for a row, and for the axis of a panel
OURS, FAILED = COLOURS[0], COLOURS[1]


def draw(judged: Judged) -> "Figure | None":
    """One panel for each unit, rows from top to bottom as in the table; None when no row has a number."""
    panels: dict[str, list[Line]] = {}
    for line in judged.lines:
        if line.mean or shown(line) is not None:
            panels.setdefault(line.row.unit, []).append(line)
    if not panels:
        return None
    heights = [EDGE + ROW * len(lines) for lines in panels.values()]
    title = f"{judged.table.title}\n{judged.budget} budget, seeds {', '.join(map(str, judged.seeds))}"
    with style.styled():
        figure, axes = style.canvas(
            title, 1, len(panels), width=PAGE, height=0.75 + sum(heights), gridspec_kw={"height_ratios": heights}
        )
        for panel, (unit, lines) in zip(axes, panels.items(), strict=True):
            dots(panel, lines, unit)
        key(figure, judged.lines)
    return figure


def shown(line: Line) -> float | None:
    """The published value a figure may show: one that our runs may be compared with."""
    return line.published.value if line.published and not line.elsewhere else None


def dots(panel: "Axes", lines: Sequence[Line], unit: str) -> None:
    """One panel of rows that share a unit: ours with its interval and seeds, the published value beside it."""
    for y, line in enumerate(lines):
        colour = FAILED if line.verdict == FAILS else OURS
        if line.mean:
            values = list(line.values.values())
            panel.plot(values, [y] * len(values), "|", color=colour, markersize=5, alpha=0.6, zorder=2)
            if line.mean.low is not None:
                panel.plot([line.mean.low, line.mean.high], [y, y], color=colour, linewidth=1, zorder=2)
            face = "white" if line.verdict == UNDECIDED else colour
            panel.plot(line.mean.mean, y, "o", color=colour, markerfacecolor=face, markersize=4, zorder=3)
        if (value := shown(line)) is not None:
            face = "white" if line.published.read == EARLIER else INK
            panel.plot(value, y, "D", markersize=4.5, markerfacecolor=face, markeredgecolor=INK, zorder=1)
    panel.set_yticks(range(len(lines)), [line.row.name for line in lines])
    panel.set_ylim(len(lines) - 0.5, -0.5)
    panel.set_xlabel(unit, loc="right", labelpad=1)
    panel.grid(axis="y", visible=False)
    panel.grid(axis="x", visible=True)
    panel.tick_params(axis="y", length=0)
    panel.spines["left"].set_visible(False)
    panel.margins(x=0.04)


def key(figure: "Figure", lines: Sequence[Line]) -> None:
    """What the signs mean, those that occur."""
    from matplotlib.lines import Line2D

    def sign(marker: str, face: str, edge: str, **more: object) -> Line2D:
        return Line2D([], [], marker=marker, markersize=4, markerfacecolor=face, markeredgecolor=edge, color=edge, **more)

    weak = {line.published.read == EARLIER for line in lines if shown(line) is not None}
    verdicts = {line.verdict for line in lines}
    entries = {"ours: mean, 95 % interval, each seed": sign("o", OURS, OURS, linewidth=1)}
    if UNDECIDED in verdicts:
        entries["ours, undecided"] = sign("o", "white", OURS, linewidth=1)
    if FAILS in verdicts:
        entries["ours, the rule does not hold"] = sign("o", FAILED, FAILED, linewidth=1)
    if False in weak:
        entries["published, in this setting"] = sign("D", INK, INK, linestyle="none")
    if True in weak:
        entries["ours, measured earlier"] = sign("D", "white", INK, linestyle="none")
    figure.legend(entries.values(), entries, loc="outside lower left", ncols=len(entries), labelcolor=INK, edgecolor=GREY)
