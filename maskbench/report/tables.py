"""Ours beside the paper's: a table's rows judged on finished runs, and the sheets that show it. Imports no torch.

Nothing here looks at a clock or at a machine's paths, so the same runs and code give the same bytes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from maskbench.report import statistics
from maskbench.report.groups import number
from maskbench.report.mixing import blend, outdated
from maskbench.report.runs import Run
from maskbench.report.spec import Published, Quantity, Row, Table
from maskbench.report.writers import Sheet, comma_separated

BACKED = 3  # seeds from which on a verdict counts as backed
HOLDS, FAILS, INCOMPLETE, REFUSED, NO_RULE = "holds", "fails", "incomplete", "refused", ""
UNCONFIRMED = "Unconfirmed: recalled from the paper and not read in it; such a value is not printed, and no verdict rests on it."
HEAD = ("row", "n", "ours", "95 % interval", "published", "difference", "rule", "verdict")
ALIGN = "lrrrrrll"
CSV_HEAD = (
    "id", "row", "unit", "n", "seeds", "values", "mean", "low", "high", "published", "published_status", "published_source",
    "difference", "rule", "paired_mean", "paired_low", "paired_high", "verdict", "reason",
)  # fmt: skip
Found = Mapping[str, Mapping[int, Run | None]]  # name of runs -> seed -> the finished run, None: there is none


@dataclass(frozen=True)
class Line:
    """A row judged. `values` by seed where all its numbers are there; `reason` says why there is no verdict."""

    row: Row
    values: Mapping[int, float]
    verdict: str
    rule: str = ""
    reason: str = ""
    gaps: Sequence[float] = field(default_factory=tuple)  # paired differences, of a rule that has them
    published: Published | None = None  # what stands beside it under this budget

    @property
    def mean(self) -> statistics.Mean | None:
        shown = self.values and self.verdict != REFUSED
        return statistics.mean(list(self.values.values())) if shown else None

    @property
    def backed(self) -> bool:
        return self.verdict in (HOLDS, FAILS) and len(self.values) >= BACKED

    @property
    def difference(self) -> float | None:
        known = self.published and self.published.status != "unconfirmed" and self.mean
        return self.mean.mean - self.published.value if known else None


@dataclass(frozen=True)
class Judged:
    """A table judged under one budget."""

    table: Table
    budget: str
    seeds: Sequence[int]
    found: Found
    lines: Sequence[Line]
    overrides: Sequence[str]  # of the user, on all runs
    mixed: bool  # cells may mix sources and codes

    @property
    def runs(self) -> list[Run]:
        return [run for by_seed in self.found.values() for run in by_seed.values() if run]

    def count(self, verdict: str) -> int:
        return sum(line.verdict == verdict for line in self.lines)


def judge(
    table: Table, budget: str, seeds: Sequence[int], found: Found, *, overrides: Sequence[str] = (), mixed: bool = False
) -> Judged:
    """The rows of a table whose runs this budget has, on the runs that are there."""
    judge = _Judge(table, budget, seeds, found, mixed)
    rows = [row for row in table.rows if all(budget in table.runs[q.run] for q in row.quantities)]
    lines = [replace(judge.line(row), published=row.published.get(budget)) for row in rows]
    return Judged(table, budget, seeds, found, lines, overrides, mixed)


class _Judge:
    """Judges the rows of one table at one budget from the runs that are there."""

    def __init__(self, table: Table, budget: str, seeds: Sequence[int], found: Found, mixed: bool) -> None:
        self.table, self.budget, self.seeds, self.found, self.mixed = table, budget, seeds, found, mixed
        self.rows = {row.id: row for row in table.rows}
        self.names = {row.id: row.name for row in table.rows}

    def line(self, row: Row) -> Line:
        values, rule = self.values(row), row.rules.get(self.budget)
        words = rule.words(self.names) if rule else ""
        other = self.rows[rule.other] if rule and rule.other else None
        if reasons := self.reasons([row, other] if other else [row]):
            return Line(row, values, REFUSED, words, f"it would mix {'; '.join(reasons)}")
        if lacking := [seed for seed in self.seeds if seed not in values]:
            return Line(row, values, INCOMPLETE, words, self.lacking(row, lacking))
        if rule is None:
            return Line(row, values, NO_RULE)
        gaps: list[float] = []
        if other:
            others = self.values(other)
            if lacking := [seed for seed in self.seeds if seed not in others]:
                return Line(row, values, INCOMPLETE, words, self.lacking(other, lacking))
            gaps = rule.differences([values[s] for s in self.seeds], [others[s] for s in self.seeds])
        beside = row.published.get(self.budget)
        verdict = HOLDS if rule.holds(gaps or list(values.values()), beside.value if beside else None) else FAILS
        return Line(row, values, verdict, words, gaps=gaps)

    def values(self, row: Row) -> dict[int, float]:
        """By seed, where every number the row needs is there and a ratio is defined."""
        made = {}
        for seed in self.seeds:
            numbers = [self.number(quantity, seed) for quantity in row.quantities]
            if None in numbers or (row.over and numbers[-1] == 0):
                continue
            made[seed] = row.value(numbers)
        return made

    def number(self, quantity: Quantity, seed: int) -> float | None:
        run = self.found.get(quantity.run, {}).get(seed)
        return None if run is None else number(run, quantity.metric)

    def lacking(self, row: Row, seeds: Sequence[int]) -> str:
        """Why a row has no value for these seeds: no finished run, or no such number in it."""
        causes = []
        for seed in seeds:
            there = [self.found.get(q.run, {}).get(seed) for q in row.quantities]
            undefined = [q.metric for q, run in zip(row.quantities, there, strict=True) if run and number(run, q.metric) is None]
            causes.append(
                "no finished run" if None in there else f"{', '.join(dict.fromkeys(undefined)) or 'the ratio'} is undefined"
            )
        reasons = dict.fromkeys(causes)
        return "; ".join(f"seed {', '.join(str(s) for s, t in zip(seeds, causes, strict=True) if t == r)}: {r}" for r in reasons)

    def reasons(self, rows: Iterable[Row]) -> list[str]:
        """Why the runs behind the rows do not belong into one cell."""
        groups = {q.run: self.found.get(q.run, {}) for row in rows for q in row.quantities}
        runs = [[run for seed in self.seeds if (run := by_seed.get(seed))] for by_seed in groups.values()]
        every = [run for group in runs for run in group]
        strangers = [run for run in every if run.folder.name != f"s{run.seed}-{run.key}"]
        found = [f"in {run.name} the record of another run (seed {run.seed}, key {run.key})" for run in strangers]
        if self.mixed:
            return found
        sets = [[run for run in every if run.data == data] for data in dict.fromkeys(run.data for run in every)]
        found += [reason for one in sets for reason in blend(one, ["source"])]
        found += [reason for group in runs for reason in blend(group, ["budget"])]
        return list(dict.fromkeys([*found, *blend(every, ["code"])]))


# ---- sheets


def sheet(judged: Judged, origin: bool = True) -> Sheet:
    """The table as it is read; with `origin`, the notes end with what every number came from."""
    rows = [cells(line) for line in judged.lines]
    return Sheet(f"{judged.table.title} ({judged.budget} budget)", HEAD, rows, ALIGN, notes(judged, origin))


def cells(line: Line) -> list[str]:
    row, mean = line.row, line.mean
    unit = "%" if row.unit == "%" else f" {row.unit}" if row.unit else ""
    band = "" if mean is None or mean.low is None else f"[{shown(mean.low, row.digits)}, {shown(mean.high, row.digits)}]"
    gap = "" if line.difference is None else shown(line.difference, row.digits, "+")
    rule = f"{line.rule}: {shown(fmean(line.gaps), row.digits)}" if line.gaps else line.rule
    verdict = f"{line.verdict} (n={len(line.values)})" if line.verdict in (HOLDS, FAILS) and not line.backed else line.verdict
    ours = "" if mean is None else f"{shown(mean.mean, row.digits)}{unit}"
    return [row.name, str(len(line.values)), ours, band, published(line), gap, rule, verdict]


def shown(value: float, digits: int, sign: str = "") -> str:
    """So many decimals; two significant digits where they would hide a number that is not 0; no minus before a 0."""
    text = f"{value:{sign}.{digits}f}"
    if float(text) == 0:
        return f"{value:{sign}.2g}" if abs(value) > 1e-12 else f"{0:{sign}.{digits}f}"
    return text


def published(line: Line) -> str:
    """A confirmed value as it is, ours said to be ours, and of a recalled one only that it is unconfirmed."""
    told = line.published
    if told is None or told.status == "unconfirmed":
        return "unconfirmed" if told else ""
    return shown(told.value, line.row.digits) + (" (ours, earlier)" if told.status == "ours" else "")


def notes(judged: Judged, origin: bool) -> list[str]:
    sentences = [f"Paper: {judged.table.paper}."]
    seeds = ", ".join(map(str, judged.seeds))
    more = f"; on all runs also {' '.join(judged.overrides)}" if judged.overrides else ""
    sentences.append(f"Seeds {seeds}; intervals are Student's t over seeds{more}.")
    sentences += [f"{line[0].upper()}{line[1:]}" for line in outdated(judged.runs)]
    sentences += list(reasons(judged))
    if any(line.verdict in (HOLDS, FAILS) and not line.backed for line in judged.lines):
        sentences.append(f"Verdicts with n= beside them rest on fewer than {BACKED} seeds.")
    beside = [line.published for line in judged.lines if line.published]
    statuses = {one.status for one in beside}
    if judged.budget == "quick" and "confirmed" in statuses:
        sentences.append("The quick budget is smaller than the paper's, whose values stand for its own.")
    if "unconfirmed" in statuses:
        sentences.append(UNCONFIRMED)
    sentences += dict.fromkeys(f"Published: {one.source}." for one in beside if one.status == "confirmed")
    sentences += dict.fromkeys(f"Ours, earlier: {one.source}." for one in beside if one.status == "ours")
    sentences += [str(note) for note in judged.table.notes]
    sentences += [f"{row.name}: {row.note}" for row in (line.row for line in judged.lines) if row.note]
    if judged.mixed:
        sentences.append("mixed=allow: cells may mix data sources and codes.")
    return sentences + (list(origins(judged)) if origin else [])


def reasons(judged: Judged) -> Iterable[str]:
    """Why rows have no verdict, each reason once."""
    found: dict[tuple[str, str], list[str]] = {}
    for line in judged.lines:
        if line.reason:
            found.setdefault((line.verdict, line.reason), []).append(line.row.name)
    for (verdict, reason), names in found.items():
        mend = "; mixed=redo does those of other code anew, mixed=allow insists" if verdict == REFUSED else ""
        who = "all rows" if len(names) == len(judged.lines) else ", ".join(f"“{name}”" for name in names)
        yield f"{verdict.capitalize()}: {who}: {reason}{mend}."


def origins(judged: Judged) -> Iterable[str]:
    """Which run directories, data and code the numbers came from, one sentence for each set of runs."""
    for name, by_seed in judged.found.items():
        runs = [run for run in by_seed.values() if run]
        words = " ".join(judged.table.runs[name][judged.budget])
        if not runs:
            yield f"{name} ({words}): no finished run."
            continue
        sources = ", ".join(dict.fromkeys(str(run.source) for run in runs))
        codes = ", ".join(dict.fromkeys(origin(code, run) for run in runs for code in run.codes))
        yield f"{name} ({words}): {', '.join(run.name for run in runs)}; data from {sources}; code {codes}."
    if machines := dict.fromkeys(run.machine for run in judged.runs):
        yield f"Machine: {'; '.join(machines)}."


def origin(code: str, run: Run) -> str:
    """A code by its name, and the commit in which it can be looked up."""
    return f"{code} (commit {run.commit})" if run.modules and run.about.get("commit") else code


def comma(judged: Judged) -> str:
    """Every number in full precision, one line a row."""
    return comma_separated(CSV_HEAD, [_numbers(line) for line in judged.lines])


def _numbers(line: Line) -> list[object]:
    row, mean, gap = line.row, line.mean, statistics.mean(line.gaps) if line.gaps else None
    told = line.published
    beside = [None, None, None] if told is None else [told.value, told.status, told.source]
    if told and told.status == "unconfirmed":
        beside = [None, told.status, None]
    return [
        row.id, row.name, row.unit, len(line.values), " ".join(map(str, line.values)),
        " ".join(map(repr, line.values.values())) if mean else None, *([mean.mean, mean.low, mean.high] if mean else [None] * 3),
        *beside, line.difference, line.rule,
        *([gap.mean, gap.low, gap.high] if gap else [None] * 3), line.verdict, line.reason or None,
    ]  # fmt: skip


# ---- the scoreboard


SCORE_HEAD = ("system", "table", "rows that hold", "seeds", "verdict")
LEGEND = (
    "Rows that hold: of a table's rows with a rule; seeds: the fewest behind any of its rows. The tables follow below.",
    "n: seeds; ours: the mean over them; 95 % interval: of that mean, by Student's t over seeds, so that with three seeds it is "
    "wide and may reach beyond what is possible.",
    "published: what the paper reports. “ours, earlier”: no value of the paper, but what independent code gave before this "
    "program was written; conf/table says which code and how many seeds. “unconfirmed”: recalled and not read in the paper, so "
    "neither printed nor relied on. difference: ours minus published.",
    "rule: what is asked of the mean; “on every seed”: of each value; “paired”: of the differences to another row, seed by seed, "
    "whose mean follows the colon. A row without a rule is there to be read and has no verdict.",
    f"verdict: holds or fails, with (n=) beside it on fewer than {BACKED} seeds; incomplete: runs or numbers are missing; "
    "refused: the runs differ in data, budget or code.",
)


def scoreboard(all_judged: Sequence[Judged]) -> Sheet:
    """One line a table: how many of its rows hold, on how many seeds, and what that comes to."""
    rows = [score(judged) for judged in sorted(all_judged, key=lambda j: (j.table.system, j.table.name))]
    budget = all_judged[0].budget
    backed = {j.table.system for j in all_judged if any(line.backed for line in j.lines)}
    told = [f"{len(backed)} of {len({j.table.system for j in all_judged})} systems have a verdict on {BACKED} seeds or more."]
    failed = [
        f"{j.table.name}, {line.row.name}: {line.rule}; it does not hold"
        for j in all_judged
        for line in j.lines
        if line.verdict == FAILS
    ]
    codes = dict.fromkeys(run.commit if run.modules else code for j in all_judged for run in j.runs for code in run.codes)
    machines = dict.fromkeys(run.machine for j in all_judged for run in j.runs)
    told += [f"{text}." for text in failed]
    told += [f"Code: {', '.join(codes)}.", f"Machine: {'; '.join(machines)}."] if codes else []
    return Sheet(f"Scoreboard ({budget} budget)", SCORE_HEAD, rows, "llrrl", told, LEGEND)


def score(judged: Judged) -> list[str]:
    holds, fails, refused, incomplete = map(judged.count, (HOLDS, FAILS, REFUSED, INCOMPLETE))
    ruled = holds + fails + refused + incomplete
    seeds = min((len(line.values) for line in judged.lines), default=0)
    parts = [f"{n} of {ruled} {word}" for n, word in ((refused, REFUSED), (incomplete, INCOMPLETE), (fails, "fail")) if n]
    verdict = ", ".join(parts) or HOLDS
    return [judged.table.system, judged.table.name, f"{holds} of {ruled}", str(seeds), verdict]
