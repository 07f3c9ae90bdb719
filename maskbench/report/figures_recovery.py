"""Figure of pruning runs on a net that hides a ticket: the share of it that is found, against the weights that remain."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from maskbench.report.figures_prune import TICKET, branches, lines, pruned, remaining_axis, series, some
from maskbench.report.style import COLUMN, canvas, legend, line_styles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from maskbench.report.finished import Finished

FAMILY = ("draw",)  # what `maskbench figure` asks of this module (figures.py)
RECALL = "ticket_recall"


def draw(runs: Sequence["Finished"], title: str) -> dict[str, "Figure"]:
    """`recall`; none for records without it, or of a single level."""
    if not pruned(runs) or not some(series(runs, TICKET, RECALL)[1]) or len(series(runs, TICKET, RECALL)[0]) < 2:
        return {}
    figure, (panel,) = canvas(title, width=COLUMN, height=2.9)
    x, _ = series(runs, TICKET, RECALL)
    lines(panel, runs, RECALL, line_styles(branches(runs)), scale=100)
    panel.plot(x, x, color="0.6", linestyle=(0, (4, 2)), linewidth=0.9, label="at random", zorder=1.5)
    remaining_axis(panel, x)
    panel.set_ylim(0, 103)
    panel.set_ylabel("planted weights that are kept (%)")
    legend(figure, [panel], len(runs))
    return {"recall": figure}
