"""A table of text made to fit a number of columns: long headings on several lines, no number ever broken. Imports no torch."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from maskbench.common.foreign import printable
from maskbench.report.writers import is_number, text

GAP = 2  # between columns
WORDY = 18  # characters of words in a cell, where not all columns have room


@dataclass(frozen=True)
class Column:
    """One column. `rank`: those of a lower one get their room first, and 0 is in every block; `named`: somebody asked for it;
    `whole`: its texts, as numbers with their interval, are never cut."""

    name: str
    values: Sequence[object]
    rank: int = 1
    named: bool = False
    whole: bool = False


def fitted(columns: Sequence[Column], width: int | None) -> tuple[str, list[str]]:
    """(the table, names of columns it has no room for). A column that was asked for comes in a further block below.

    width: characters a line may have; None: as many as it takes.
    """
    whole = [Laid(one) for one in columns]
    plainly = block(whole, broken=False)
    if width is None or all(len(line) <= width for line in plainly.splitlines()):
        return plainly, []
    if room(whole) <= width:
        return block(whole, broken=True), []
    first = [one for one in whole if one.column.rank == 0]
    for one in first:
        one.shorten()
    wanted = sorted((one for one in whole if one.column.rank > 0), key=lambda one: (one.column.rank, not one.column.named))
    blocks: list[list[Laid]] = [[]]
    out: list[str] = []
    for one in wanted:
        one.shorten()
        fitting = [made for made in blocks if room([*first, *made, one]) <= width or not made]
        if one.column.named and not fitting:
            blocks.append([one])
        elif fitting and (one.column.named or room([*first, *fitting[0], one]) <= width):
            fitting[0].append(one)
        else:
            out.append(one.column.name)
    shown = [[one for one in whole if one in [*first, *made]] for made in blocks]  # in the order they were given
    left_out = [one.name for one in columns if one.name in out]
    return "\n\n".join(block(made, broken=True) for made in shown), left_out


class Laid:
    """A column as text: its cells, and its heading in pieces, which may stand on lines of their own."""

    def __init__(self, column: Column) -> None:
        self.column = column
        self.cells = [printable(text(value)) for value in column.values]
        self.right = bool(self.cells) and all(map(is_number, column.values))
        self.pieces = re.findall(r".+?(?:[_./ ]+|$)", printable(column.name))

    def shorten(self) -> None:
        """Cut words, never numbers."""
        if not self.right and not self.column.whole and self.column.name != "key":
            values = zip(self.cells, self.column.values, strict=True)
            self.cells = [c if is_number(v) or len(c) <= WORDY else f"{c[: WORDY - 1]}…" for c, v in values]

    @property
    def width(self) -> int:
        return max([*map(len, self.cells), *(len(piece.rstrip()) for piece in self.pieces)], default=0)

    def heading(self) -> list[str]:
        """Its lines, none wider than the column."""
        lines = [""]
        for piece in self.pieces:
            if lines[-1] and len((lines[-1] + piece).rstrip()) > self.width:
                lines.append("")
            lines[-1] += piece
        return [line.rstrip() for line in lines]


def room(columns: Sequence[Laid]) -> int:
    return sum(one.width + GAP for one in columns) - GAP


def block(columns: Sequence[Laid], broken: bool) -> str:
    """The columns beside each other; `broken`: headings on as many lines as it takes to be no wider than their columns."""
    heads = [one.heading() if broken else ["".join(one.pieces)] for one in columns]
    widths = [max(one.width, *map(len, head)) for one, head in zip(columns, heads, strict=True)]
    high = max(map(len, heads), default=0)
    heads = [[""] * (high - len(head)) + head for head in heads]  # words stand on what they head
    lines = [*zip(*heads, strict=True), *zip(*(one.cells for one in columns), strict=True)]
    rights = [one.right for one in columns]
    rows = ([c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, rights, strict=True)] for line in lines)
    return "\n".join((" " * GAP).join(row).rstrip() for row in rows)
