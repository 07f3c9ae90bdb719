"""One sheet of cells as Markdown, CSV, LaTeX (booktabs) or aligned text. Equal sheets give equal bytes."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from maskbench.common.foreign import printable, printable_lines

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for the start of one
LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    "±": r"$\pm$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
} | {sign: f"\\{sign}" for sign in "&%$#_{}"}


@dataclass(frozen=True)
class Sheet:
    """A table to read. `align`: l or r for each column; `notes`: sentences below it; `legend`: above it, in Markdown only."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    align: str = ""
    notes: Sequence[str] = field(default_factory=tuple)
    legend: Sequence[str] = field(default_factory=tuple)

    @property
    def sides(self) -> str:
        return self.align or "l" * len(self.head)


def markdown(sheet: Sheet, level: int = 1) -> str:
    """A heading, the legend as a list, the table, and the notes as a list."""
    rules = ["---:" if side == "r" else "---" for side in sheet.sides]
    lines = [f"{'#' * level} {sheet.title}", ""] if sheet.title else []
    lines += [*(f"- {text}" for text in sheet.legend), ""] if sheet.legend else []
    lines += ["| " + " | ".join(_cell(c) for c in row) + " |" for row in (sheet.head, rules, *sheet.rows)]
    if sheet.notes:
        lines += ["", *(f"- {note}" for note in sheet.notes)]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return printable(str(text).replace("\n", " ")).replace("|", "\\|")


def latex(sheet: Sheet, label: str = "") -> str:
    """A table environment with booktabs rules; the notes stand below the tabular. Needs \\usepackage{booktabs}."""
    body = [" & ".join(map(escape, row)) + r" \\" for row in sheet.rows]
    body = ["{}" * line.startswith("[") + line for line in body]  # a rule before it would take [...] for its option
    lines = [
        r"\begin{table}",
        r"\centering",
        *([rf"\caption{{{escape(sheet.title)}}}"] if sheet.title else []),
        *([rf"\label{{tab:{label}}}"] if label else []),
        rf"\begin{{tabular}}{{{sheet.sides}}}",
        r"\toprule",
        " & ".join(map(escape, sheet.head)) + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        *([r"\par\smallskip\footnotesize " + r" \par ".join(map(escape, sheet.notes))] if sheet.notes else []),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def escape(text: object) -> str:
    """Text as LaTeX sets it, whatever signs are in it."""
    return re.sub(r"[\\~^&%$#_{}<>|−±]", lambda match: LATEX[match[0]], str(text))


def comma_separated(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """CSV with numbers in full precision; None is an empty cell, and an apostrophe stands before what would be a formula."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerows([guarded(cell) for cell in row] for row in (head, *rows))
    return stream.getvalue()


def guarded(value: Any) -> Any:
    """A cell that no spreadsheet computes: `=1+1` becomes `'=1+1`; numbers, also those in words, stay what they are."""
    if not isinstance(value, str):
        return value if value is None or isinstance(value, int | float) else guarded(str(value))
    try:
        formula = value.startswith(FORMULA) and float(value) is None
    except ValueError:
        formula = True
    return "'" * formula + printable_lines(value)


def aligned(rows: Sequence[Sequence[object]], head: Sequence[str] = (), indent: str = "") -> str:
    """Rows as columns of text with two spaces between them, columns of numbers to the right."""
    texts = [[printable(text(value)) for value in row] for row in rows]
    lines = [[*map(printable, head)], *texts] if head else texts
    if not lines:
        return ""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    right = [bool(rows) and all(is_number(row[i]) for row in rows) for i in range(len(widths))]
    cells = [[c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True)] for line in lines]
    return "\n".join((indent + "  ".join(line)).rstrip() for line in cells)


def text(value: object) -> str:
    """A value as a table shows it: four significant places after the point, a dash for what is undefined."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.3g}"
    return str(value)


def is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
