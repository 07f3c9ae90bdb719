"""A judged table as a paper prints it: LaTeX with booktabs, means with the half width of their interval, the best in bold.

Rows answer one question where they have the same metric (of a name in parts, its first and last), data and unit. Among them the
best is bold, and those that a paired t test over the seeds does not tell from it are underlined.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from maskbench.report import statistics
from maskbench.report.direction import lower
from maskbench.report.published import Record
from maskbench.report.tables import REFUSED, Judged, Line, shown, uneven
from maskbench.report.writers import escape

TURNED = ("error_percent", "negate")  # transforms after which less is better where more was
MOST_DIGITS = 4  # decimals of a number whose interval is narrow
NONE = "--"
PAGE = 25  # rows, some of two lines, that one page holds beside the caption
TEXT, LETTER, GAP = 345.0, 4.8, 12.0  # points: LaTeX's usual column of text, a letter of a small text, between two columns
WORDY = {"unit": 10, "published": 20}  # letters of a column's texts that stand on one line
LEAST = 0.25  # of the text, for the names of rows
RAGGED = r">{{\raggedright\arraybackslash}}p{{{:.2f}\linewidth}}"


def latex(judged: Judged) -> str:
    """A table environment as wide as a column of text at most, a longtable of one that no page holds.

    Needs \\usepackage{booktabs} and array; of more than PAGE rows also longtable.
    """
    lines = list(judged.lines)
    units = list(dict.fromkeys(line.row.unit for line in lines))
    counts = {len(line.values) for line in lines}
    columns = {"": [escape(line.row.name) for line in lines]}
    if len(units) > 1:
        columns["unit"] = [escape(line.row.unit) for line in lines]
    if len(counts) > 1:
        columns["$n$"] = [str(len(line.values)) for line in lines]
    unit = f" ({escape(units[0])})" if len(units) == 1 and units[0] else ""
    signs = emphasis(lines, judged)
    columns[f"ours{unit}"] = [cell(line, signs.get(line.row.id, "")) for line in lines]
    if any(line.published for line in lines):
        columns[f"published{unit}"] = [beside(line) for line in lines]
    rows = [" & ".join(row) + r" \\" for row in zip(*columns.values(), strict=True)]
    rows = ["{}" * row.startswith("[") + row for row in rows]  # a rule before it would take [...] for its option
    head = [r"\toprule", " & ".join(columns) + r" \\", r"\midrule"]
    told, name = rf"\caption{{{' '.join(caption(judged, signs))}}}", rf"\label{{tab:{judged.table.name}-{judged.budget}}}"
    sides = " ".join(alignments(columns))
    if len(rows) > PAGE:
        begin, end = rf"\begin{{longtable}}{{{sides}}}", r"\end{longtable}"
        every = [r"\endfirsthead", *head, r"\endhead", r"\bottomrule", r"\endfoot"]  # on each further page, below each page
        return "\n".join([r"{\small", begin, told, name + r" \\", *head, *every, *rows, end + "}", ""])
    begin, end = [r"\begin{table}", r"\centering\small", told, name, rf"\begin{{tabular}}{{{sides}}}"], r"\end{tabular}"
    return "\n".join([*begin, *head, *rows, r"\bottomrule", end, r"\end{table}", ""])


def alignments(columns: Mapping[str, Sequence[str]]) -> Iterable[str]:
    """A specification for each column: texts that are long are broken into lines, names where the others leave no room."""
    wide = {head: max(map(letters, (head, *cells))) for head, cells in columns.items()}
    most = {head: WORDY[head.split()[0]] for head in columns if head and wide[head] > WORDY.get(head.split()[0], wide[head])}
    room = TEXT - GAP - sum(most.get(head, width) * LETTER + GAP for head, width in wide.items() if head)
    for head in columns:
        if head in most:
            yield RAGGED.format(most[head] * LETTER / TEXT)
        elif not head and wide[head] * LETTER > room:
            yield RAGGED.format(max(LEAST, room / TEXT))
        else:
            yield "r" if head.startswith(("$n$", "ours", "published")) else "l"


def letters(text: str) -> int:
    """About how many of them a cell shows."""
    return len(re.sub(r"\\(?:textbf|underline|dagger)|(?<=\\)pm|[${}^_]", "", text))


# ---- which is best


def emphasis(lines: Iterable[Line], judged: Judged) -> dict[str, str]:
    """Row -> textbf of the best of its question, underline of those that are not told from it; others are not there."""
    questions: dict[tuple, list[Line]] = {}
    for line in lines:
        if line.mean and (asked := question(line, judged)):
            questions.setdefault(asked, []).append(line)
    signs = {}
    for same in questions.values():
        if len(same) < 2:
            continue
        less = lower(same[0].row.first.metric) != (same[0].row.transform in TURNED)
        best = (min if less else max)(same, key=lambda line: line.mean.mean)
        for line in same:
            if line.mean.mean == best.mean.mean:
                signs[line.row.id] = "textbf"
            elif not told_apart(best, line):
                signs[line.row.id] = "underline"
    return signs


def question(line: Line, judged: Judged) -> tuple | None:
    """What rows must share to be compared; None of a difference or a ratio, which compares by itself."""
    row = line.row
    if row.minus or row.over:
        return None
    metric = row.first.metric.split("/")
    runs = [run for run in judged.found.get(row.first.run, {}).values() if run]
    return metric[0], metric[-1], row.transform, row.unit, tuple(sorted({str(run.data) for run in runs}))


def told_apart(one: Line, other: Line) -> bool:
    """Whether the paired t test over the seeds that both have tells them apart at 5 %; with one seed it is not made, and all
    that differ count as told apart."""
    seeds = [seed for seed in one.values if seed in other.values]
    if len(seeds) < 2:
        return True
    gap = statistics.paired([one.values[seed] for seed in seeds], [other.values[seed] for seed in seeds]).difference
    return not gap.low <= 0 <= gap.high


# ---- cells


def cell(line: Line, sign: str) -> str:
    """The mean and the half width of its interval; the two widths of one of a share that reaches further to one side."""
    mean = line.mean
    if mean is None:
        return NONE
    half = None if mean.low is None else (mean.high - mean.low) / 2
    digits = decimals(half, line.row.digits)
    text = shown(mean.mean, digits).replace("-", "$-$", 1)
    text = rf"\{sign}{{{text}}}" if sign else text
    if half is None:
        return text
    if uneven(mean):
        return rf"{text} $^{{+{mean.high - mean.mean:.{digits}f}}}_{{-{mean.mean - mean.low:.{digits}f}}}$"
    return rf"{text} $\pm$ {half:.{digits}f}"


def decimals(half: float | None, most: int) -> int:
    """So many that the half width has two significant digits, `most` at most, unless nothing but zeros would be left of it."""
    if not half or not math.isfinite(half):
        return most
    place = -math.floor(math.log10(half))
    return max(0, min(place + 1, most) if place <= most else min(place, MOST_DIGITS))


def beside(line: Line) -> str:
    """The published value; with a dagger where it is of another setting, with whose it is unless the paper's."""
    record: Record | None = line.published
    if record is None:
        return NONE
    value = escape(record.text) + (r"$^\dagger$" if line.elsewhere else "")
    return value + (f" ({escape(record.origin)})" if record.origin else "")


# ---- what stands above it


def caption(judged: Judged, signs: dict[str, str]) -> Iterable[str]:
    """What the table is; n, seeds, data and commit; what bold, underlined and a dagger mean where they occur."""
    lines = judged.lines
    yield f"{escape(judged.table.title)}."
    counts = sorted({len(line.values) for line in lines if line.values})
    n = f"$n = {counts[0]}$" if len(counts) == 1 else rf"$n = {counts[0]}$ to ${counts[-1]}$" if counts else "$n = 0$"
    over = f"{n} seed{'s' * (counts != [1])} ({', '.join(map(str, judged.seeds))})"
    several = any(line.mean and line.mean.low is not None for line in lines)
    yield f"Mean $\\pm$ half of the 95\\,\\% interval (Student's $t$) over {over}." if several else f"Values of {over}."
    if any("^{+" in cell(line, "") for line in lines):
        yield r"Two widths: of the interval on the arcsine scale, where the other would go beyond 0 or 100\,\%."
    yield f"Data: {listed(judged, lambda run: f'{run.data} ({run.source})')}."
    yield f"Commit: {listed(judged, lambda run: run.commit)}."
    if "textbf" in signs.values():
        yield "Bold: the best of the rows with one metric on the same data" + (
            r"; underlined: not told from it by a paired $t$ test over seeds (5\,\%)." if "underline" in signs.values() else "."
        )
    if signs and any(line.mean and len(line.values) < 2 for line in lines):
        yield "A value of one seed is not tested."
    if any(line.elsewhere for line in lines):
        yield r"$\dagger$: of another setting."
    if any(line.verdict == REFUSED for line in lines):
        yield f"{NONE}: the runs do not belong together."


def listed(judged: Judged, what: Any) -> str:
    """What the runs have, each once."""
    found: Sequence[str] = sorted({str(what(run)) for run in judged.runs})
    return escape(", ".join(found)) or NONE
