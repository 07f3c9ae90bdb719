"""Ours beside the paper's: a table's rows judged on finished runs, and the sheets that show it. Imports no torch.

Nothing here looks at a clock or at a machine's paths, so the same runs and code give the same bytes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from maskbench.report import statistics
from maskbench.report.durations import HOUR, makespan, seconds, words
from maskbench.report.groups import number, splits
from maskbench.report.mixing import blend, outdated
from maskbench.report.published import Record, other_setting
from maskbench.report.runs import Run
from maskbench.report.spec import SUPPORT, TRANSFORMS, Quantity, Row, Table
from maskbench.report.verdicts import FAILS, HOLDS, RESTS, UNDECIDED, Rule
from maskbench.report.writers import Sheet, comma_separated

LIMITED = 2  # cores for which a table's limit of hours is meant
BACKED = 3  # seeds from which on a verdict counts as backed
INCOMPLETE, REFUSED, OTHER, NO_RULE = "incomplete", "refused", "other setting", ""
JUDGED = (HOLDS, FAILS, UNDECIDED)
HEAD = ("row", "n", "ours", "95 % interval", "published", "difference", "rule", "rests on", "verdict")
ALIGN = "lrrrrrlll"
CSV_HEAD = (
    "id", "row", "unit", "n", "seeds", "values", "mean", "low", "high", "published", "published_read", "published_source",
    "other_setting", "difference", "rule", "rests_on", "paired_mean", "paired_low", "paired_high", "verdict", "reason",
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
    rests_on: str = ""
    published: Record | None = None  # what stands beside it under this budget
    elsewhere: Sequence[str] = field(default_factory=tuple)  # in what its setting is another than the runs'

    @property
    def mean(self) -> statistics.Mean | None:
        shown = self.values and self.verdict != REFUSED
        return statistics.mean(list(self.values.values()), most=most(self.row)) if shown else None

    @property
    def backed(self) -> bool:
        return self.verdict in JUDGED and len(self.values) >= BACKED

    @property
    def difference(self) -> float | None:
        comparable = self.published and self.mean and not self.elsewhere
        return self.mean.mean - self.published.value if comparable else None


def most(row: Row) -> float | None:
    """100 of a row of shares in percent; None of one of differences, ratios or other numbers."""
    return 100.0 if row.unit == "%" and not (row.minus or row.over) else None


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
    choice: str = ""  # why there are so many seeds, where it was by the time they take

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
    lines = [judge.line(row) for row in rows]
    return Judged(table, budget, seeds, found, lines, overrides, mixed)


class _Judge:
    """Judges the rows of one table at one budget from the runs that are there."""

    def __init__(self, table: Table, budget: str, seeds: Sequence[int], found: Found, mixed: bool) -> None:
        self.table, self.budget, self.seeds, self.found, self.mixed = table, budget, seeds, found, mixed
        self.rows = {row.id: row for row in table.rows}
        self.names = {row.id: row.name for row in table.rows}

    def line(self, row: Row) -> Line:
        rule, beside = row.rules.get(self.budget), row.published.get(self.budget)
        elsewhere = other_setting(beside, self.runs([row])) if beside else []
        line = self.verdict(row, rule, beside, elsewhere)
        return replace(line, rests_on=rule.rests_on if rule else "", published=beside, elsewhere=elsewhere)

    def verdict(self, row: Row, rule: Rule | None, beside: Record | None, elsewhere: Sequence[str]) -> Line:
        values = self.values(row)
        words = rule.words(self.names) if rule else ""
        other = self.rows[rule.other] if rule and rule.other else None
        if reasons := self.reasons([row, other] if other else [row]):
            return Line(row, values, REFUSED, words, f"it would mix {'; '.join(reasons)}")
        if lacking := [seed for seed in self.seeds if seed not in values]:
            return Line(row, values, INCOMPLETE, words, self.lacking(row, lacking))
        if rule is None:
            return Line(row, values, NO_RULE)
        if elsewhere and (rule.within is not None or rule.rests_on in SUPPORT):
            return Line(row, values, OTHER, words, f"the rule rests on a value of another setting: {'; '.join(elsewhere)}")
        gaps: list[float] = []
        if other:
            others = self.values(other)
            if lacking := [seed for seed in self.seeds if seed not in others]:
                return Line(row, values, INCOMPLETE, words, self.lacking(other, lacking))
            gaps = rule.differences([values[s] for s in self.seeds], [others[s] for s in self.seeds])
        elif rule.paired:
            if not (gaps := self.gaps(row, beside)):
                divisions = f"{row.first.metric} of {len(beside.values)} divisions"
                return Line(row, values, INCOMPLETE, words, f"not every run has {divisions}")
        judged = gaps or list(values.values())
        verdict = rule.verdict(judged, beside.value if beside else None, None if gaps else most(row))
        return Line(row, values, verdict, words, gaps=gaps)

    def gaps(self, row: Row, record: Record) -> list[float]:
        """The differences to a record of several values, division by division, each a mean over the seeds."""
        runs = [self.found[row.first.run][seed] for seed in self.seeds]
        ours = [splits(run, row.first.metric) for run in runs]
        if any(one is None or len(one) != len(record.values) for one in ours):
            return []
        by_division = zip(*ours, strict=True)
        change = TRANSFORMS[row.transform]
        return [fmean(map(change, one)) - value for one, value in zip(by_division, record.values, strict=True)]

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

    def groups(self, rows: Iterable[Row]) -> list[list[Run]]:
        """The runs behind the rows, by their names in the table."""
        groups = {q.run: self.found.get(q.run, {}) for row in rows for q in row.quantities}
        return [[run for seed in self.seeds if (run := by_seed.get(seed))] for by_seed in groups.values()]

    def runs(self, rows: Iterable[Row]) -> list[Run]:
        return [run for group in self.groups(rows) for run in group]

    def reasons(self, rows: Iterable[Row]) -> list[str]:
        """Why the runs behind the rows do not belong into one cell."""
        runs = self.groups(rows)
        every = [run for group in runs for run in group]
        strangers = [run for run in every if run.folder.name != f"s{run.seed}-{run.key}"]
        found = [f"in {run.name} the record of another run (seed {run.seed}, key {run.key})" for run in strangers]
        if self.mixed:
            return found
        sets = [[run for run in every if run.data == data] for data in dict.fromkeys(run.data for run in every)]
        found += [reason for one in sets for reason in blend(one, ["source"])]
        found += [reason for group in runs for reason in blend(group, ["budget", "arithmetic"])]
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
    gap = gap or (f"other setting: {'; '.join(line.elsewhere)}" if line.elsewhere else "")
    rule = f"{line.rule}: {shown(fmean(line.gaps), row.digits)}" if line.gaps else line.rule
    verdict = f"{line.verdict} (n={len(line.values)})" if few(line) else line.verdict
    ours = "" if mean is None else f"{shown(mean.mean, row.digits)}{unit}"
    return [row.name, str(len(line.values)), ours, band, published(line.published), gap, rule, rests(line), verdict]


def uneven(mean: statistics.Mean | None) -> bool:
    """Whether an interval reaches further to one side of its mean, as one on the arcsine scale does."""
    return mean is not None and mean.low is not None and abs(mean.high - 2 * mean.mean + mean.low) > 1e-9 * (1 + abs(mean.mean))


def few(line: Line) -> bool:
    """Whether there is a verdict, on fewer seeds than one should have."""
    return line.verdict in JUDGED and len(line.values) < BACKED


def rests(line: Line) -> str:
    return RESTS[line.rests_on][0] if line.rests_on else ""


def shown(value: float, digits: int, sign: str = "") -> str:
    """So many decimals; two significant digits where they would hide a number that is not 0; no minus before a 0."""
    text = f"{value:{sign}.{digits}f}"
    if float(text) == 0:
        return f"{value:{sign}.2g}" if abs(value) > 1e-12 else f"{0:{sign}.{digits}f}"
    return text


def published(record: Record | None) -> str:
    """The value with the decimals it was published with, and whose it is unless the paper's."""
    return "" if record is None else record.text + (f" ({record.origin})" if record.origin else "")


def notes(judged: Judged, origin: bool) -> list[str]:
    sentences = [f"Paper: {judged.table.paper}."]
    seeds = ", ".join(map(str, judged.seeds))
    more = f"; on all runs also {' '.join(judged.overrides)}" if judged.overrides else ""
    bounded = ", of shares that it would leave on the arcsine scale" if any(uneven(line.mean) for line in judged.lines) else ""
    sentences.append(f"Seeds {seeds}; intervals are Student's t over seeds{bounded}{more}.")
    sentences += [sentence for sentence in (judged.choice, took(judged)) if sentence]
    sentences += [f"{line[0].upper()}{line[1:]}" for line in outdated(judged.runs)]
    sentences += list(reasons(judged))
    if any(map(few, judged.lines)):
        sentences.append(f"Verdicts with n= beside them rest on fewer than {BACKED} seeds.")
    sentences += dict.fromkeys(f"{line.published.sentence}." for line in judged.lines if line.published)
    sentences += [f"Differs from the paper: {text}." for text in judged.table.differs]
    sentences += [str(note) for note in judged.table.notes]
    sentences += [f"{row.name}: {row.note}" for row in (line.row for line in judged.lines) if row.note]
    if judged.mixed:
        sentences.append("mixed=allow: cells may mix data sources and codes.")
    return sentences + (list(origins(judged)) if origin else [])


def took(judged: Judged) -> str:
    """How long the runs of a table took that may take so long only; empty for one that may take any time."""
    if judged.table.limit is None:
        return ""
    runs = [at[seed] for seed in judged.seeds for at in judged.found.values() if at.get(seed)]
    lengths = [seconds(run) or 0.0 for run in runs]
    whole = makespan(lengths, LIMITED)
    kept = "within" if whole <= judged.table.limit * HOUR else "more than"
    time = f"{words(sum(lengths))} on one core, {words(whole)} on {LIMITED}: {kept} its {judged.table.limit:g} h"
    return f"{len(runs)} of {len(judged.seeds) * len(judged.found)} runs are there, which took {time}."


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
    return [
        row.id, row.name, row.unit, len(line.values), " ".join(map(str, line.values)),
        " ".join(map(repr, line.values.values())) if mean else None, *([mean.mean, mean.low, mean.high] if mean else [None] * 3),
        *([told.value, told.read, told.sentence] if told else [None] * 3), "; ".join(line.elsewhere) or None,
        line.difference, line.rule, rests(line),
        *([gap.mean, gap.low, gap.high] if gap else [None] * 3), line.verdict, line.reason or None,
    ]  # fmt: skip
