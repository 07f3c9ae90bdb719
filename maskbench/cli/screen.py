"""A sheet as a grid on standard output, made to fit the terminal: lines are broken between words, numbers never; columns of
sentences that have no room stand below, row by row."""

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path

from maskbench.common.foreign import printable
from maskbench.report.writers import Sheet

WIDE = 160  # columns of text where there is no terminal to fit
COLOURS = {"holds": "green", "fails": "red", **dict.fromkeys(("undecided", "incomplete", "refused", "other"), "yellow")}
WHOLE = ("n", "ours", "95 % interval")  # cells that stay on one line
BELOW = ("rests on", "rule", "difference", "published")  # columns that go first where there is no room
EDGE, BETWEEN = 1, 3  # columns of text that a grid's lines take: at its end, beside each cell


def show(sheet: Sheet, written: Sequence[Path]) -> None:
    """The sheet, and which files hold it."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    out = Console(highlight=False)
    if not out.is_terminal and "COLUMNS" not in os.environ:
        out = Console(highlight=False, width=WIDE)
    kept, widths = fitted(sheet, out.width)
    out.width = max(out.width, taken(widths))
    grid = Table(title=escape(printable(sheet.title)), title_justify="left", title_style="bold")
    for place, width in zip(kept, widths, strict=True):
        name, side = escape(printable(sheet.head[place])), "right" if sheet.sides[place] == "r" else "left"
        grid.add_column(name, justify=side, width=width, overflow="fold")
    for row in sheet.rows:
        cells = [escape(printable(row[place])) for place in kept]
        if colour := COLOURS.get(row[-1].split()[0]) if row[-1] else None:
            cells[-1] = f"[{colour}]{cells[-1]}"
        grid.add_row(*cells)
    out.print(grid)
    for note in [*below(sheet, kept), *sheet.notes, *([f"written: {', '.join(map(str, written))}"] if written else [])]:
        out.print(broken(printable(note), out.width if out.is_terminal else None), markup=False, soft_wrap=True)
    if written:
        out.print()


def fitted(sheet: Sheet, room: int) -> tuple[list[int], list[int]]:
    """(places of the columns that are shown, their widths): as many columns as have room with every word and number whole."""
    kept = list(range(len(sheet.head)))
    least = [narrowest(sheet, place) for place in kept]
    places = [sheet.head.index(name) for name in BELOW if name in sheet.head]
    for place in sorted(places, key=lambda place: any(row[place] for row in sheet.rows)):  # empty ones before all others
        if taken([least[one] for one in kept]) > room:
            kept.remove(place)
    most = [max(map(len, column(sheet, place))) for place in kept]
    return kept, grown([least[place] for place in kept], most, room)


def column(sheet: Sheet, place: int) -> list[str]:
    """Its heading and its cells, as they are shown."""
    return [printable(row[place]) for row in (sheet.head, *sheet.rows)]


def narrowest(sheet: Sheet, place: int) -> int:
    """How narrow a column may be."""
    head, *cells = column(sheet, place)
    words = [word for text in (head, *cells) for word in text.split()] or [""]
    return max(map(len, [*words, *(cells if sheet.head[place] in WHOLE else [])]))


def grown(least: Sequence[int], most: Sequence[int], room: int) -> list[int]:
    """Widths between `least` and `most`: what room is left goes to all columns alike, up to what each has to show."""
    widths = list(least)
    spare = room - taken(widths)
    waiting = sorted(range(len(widths)), key=lambda place: most[place] - least[place])
    for turn, place in enumerate(waiting):
        more = max(0, min(most[place] - least[place], spare // (len(waiting) - turn)))
        widths[place] += more
        spare -= more
    return widths


def taken(widths: Sequence[int]) -> int:
    """How wide a grid of such columns is."""
    return sum(widths) + BETWEEN * len(widths) + EDGE


def below(sheet: Sheet, kept: Sequence[int]) -> list[str]:
    """What the columns say that have no room: a sentence for each row."""
    gone = [place for place in range(len(sheet.head)) if place not in kept]
    told = [(row[0], [f"{sheet.head[place]} {row[place]}" for place in gone if row[place]]) for row in sheet.rows]
    return [f"{name}: {'; '.join(parts)}." for name, parts in told if parts]


def broken(text: str, width: int | None) -> str:
    """In lines of so many characters, broken between words alone."""
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False) if width else text
