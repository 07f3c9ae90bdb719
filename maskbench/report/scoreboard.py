"""All tables in one: how many rows of each hold, on how many seeds, and on what kind of reference their rules rest.

A budget has its scoreboard, the page of `maskbench table all budget=...`; `overview` sets those of several budgets side by side.
"""

import re
from collections.abc import Mapping, Sequence

from maskbench.report.spec import Table
from maskbench.report.tables import BACKED, INCOMPLETE, OTHER, REFUSED, Judged, Line
from maskbench.report.verdicts import FAILS, HOLDS, RESTS, UNDECIDED
from maskbench.report.writers import Sheet

HEAD = ("system", "table", "rows that hold", "rules rest on", "seeds", "verdict")
BESIDE = {"hours": "the papers' own data", "quick": "MNIST-scale"}  # budgets side by side, and how their columns are called
NOT_RUN = "not run"
LEGEND = (
    "Rows that hold: of a table's rows with a rule; rules rest on: so many on each kind of reference; seeds: the fewest behind "
    "any of its rows. The tables follow below.",
    "n: seeds; ours: the mean over them; 95 % interval: of that mean, by Student's t over seeds, so that with three seeds it is "
    "wide and may reach beyond what is possible.",
    "published: a record of conf/published, the paper's own unless something stands behind it: “authors' code”, measured with it "
    "in our setting; “quoted by”, read in another's paper; “ours, earlier”, what independent code of ours gave before.",
    "difference: ours minus published, where net, data, stages and budget are those of the record; “other setting” says which "
    "of them are not.",
    "rule: what is asked of the mean; “on every seed”: of each value; “paired”: of the differences to another row, seed by seed, "
    "and “division by division”: to the published ones; their mean follows the colon. A row without a rule is there to be read.",
    f"rests on: {'; '.join(f'“{short}”: {told}' for short, told in RESTS.values())}.",
    f"verdict: holds or fails where the whole 95 % interval keeps to the bounds of the rule, or misses them; undecided where it "
    f"straddles one; with (n=) beside it on fewer than {BACKED} seeds; incomplete: runs or numbers are missing; refused: the "
    "runs differ in data, budget or code; other setting: the rule rests on a value of another one.",
)


def scoreboard(all_judged: Sequence[Judged]) -> Sheet:
    """One line a table, above them what the rules rest on, below them the rows that do not hold."""
    rows = [score(judged) for judged in sorted(all_judged, key=lambda j: (j.table.system, j.table.name))]
    budget = all_judged[0].budget
    lines = [line for judged in all_judged for line in judged.lines]
    backed = {j.table.system for j in all_judged if any(line.backed for line in j.lines)}
    told = [f"{len(backed)} of {len({j.table.system for j in all_judged})} systems have a verdict on {BACKED} seeds or more."]
    told += [f"{text}; it does not hold." for text in named(all_judged, FAILS)]
    told += [f"{text}; undecided." for text in named(all_judged, UNDECIDED)]
    codes = dict.fromkeys(run.commit if run.modules else code for j in all_judged for run in j.runs for code in run.codes)
    machines = dict.fromkeys(run.machine for j in all_judged for run in j.runs)
    told += [f"Code: {', '.join(codes)}.", f"Machine: {'; '.join(machines)}."] if codes else []
    return Sheet(f"Scoreboard ({budget} budget)", HEAD, rows, "llrlrl", told, (references(lines), *LEGEND))


def named(all_judged: Sequence[Judged], verdict: str) -> list[str]:
    """The rows of this verdict, each with its table and rule."""
    return [f"{j.table.name}, {line.row.name}: {line.rule}" for j in all_judged for line in j.lines if line.verdict == verdict]


def references(lines: Sequence[Line]) -> str:
    """How many rules rest on each kind of reference, and how many of them hold."""
    parts = []
    for kind, (_, told) in RESTS.items():
        held = [line.verdict == HOLDS for line in lines if line.rests_on == kind]
        parts.append(f"{len(held)} on {told} ({sum(held)} hold)")
    ruled = sum(bool(line.rests_on) for line in lines)
    return f"Of {ruled} rows with a rule, {', '.join(parts[:-1])} and {parts[-1]}."


def score(judged: Judged) -> list[str]:
    """The line of a table."""
    words = {REFUSED: REFUSED, INCOMPLETE: INCOMPLETE, OTHER: f"of {OTHER}", FAILS: "fail", UNDECIDED: UNDECIDED}
    counts = {verdict: judged.count(verdict) for verdict in (HOLDS, *words)}
    ruled = sum(counts.values())
    seeds = min((len(line.values) for line in judged.lines), default=0)
    verdict = ", ".join(f"{counts[v]} of {ruled} {word}" for v, word in words.items() if counts[v]) or HOLDS
    kinds = [line.rests_on for line in judged.lines]
    rests = ", ".join(f"{kinds.count(kind)} {short}" for kind, (short, _) in RESTS.items() if kind in kinds)
    return [judged.table.system, judged.table.name, f"{counts[HOLDS]} of {ruled}", rests, str(seeds), verdict]


# ---- several budgets side by side


def scores(page: str) -> dict[str, dict[str, str]]:
    """Table -> column -> cell of the first table of a page, which is its scoreboard."""
    lines = re.search(r"(?:^\|.*\|\n)+", page, re.MULTILINE)[0].splitlines()
    head, _, *rows = [line[2:-2].split(" | ") for line in lines]
    return {row[head.index("table")]: dict(zip(head, row, strict=True)) for row in rows}


def overview(tables: Sequence[Table], pages: Mapping[str, Sequence[str]]) -> Sheet:
    """All tables, one line each, with what came out under each of the budgets; `pages`: by budget, of those that were run,
    a later one of which stands above those before it."""
    columns = ("rows that hold", "seeds", "verdict")
    found = [{name: line for one in pages.get(budget, ()) for name, line in scores(one).items()} for budget in BESIDE]
    rows = []
    for table in sorted(tables, key=lambda table: (table.system, table.name)):
        there = [one.get(table.name, {columns[0]: NOT_RUN}) for one in found]
        rows.append([table.system, table.name, *(one.get(column, "") for one in there for column in columns)])
    head = [f"{name}: {column}" for name in BESIDE.values() for column in columns]
    return Sheet("Scoreboard", ("system", "table", *head), rows, "ll" + "rrl" * len(BESIDE))


def summary(tables: Sequence[Table], pages: Mapping[str, Sequence[str]]) -> Sheet:
    """The overview in short: a line a table, a cell a budget."""
    rows = []
    for _, name, *cells in overview(tables, pages).rows:
        three = [cells[at : at + 3] for at in range(0, len(cells), 3)]
        rows.append([name, *(f"{held} hold{rest(verdict)}, {seeds} seeds" if seeds else held for held, seeds, verdict in three)])
    return Sheet("", ("table", *(f"{name} (`budget={budget}`)" for budget, name in BESIDE.items())), rows)


def rest(verdict: str) -> str:
    """What became of the rows that do not hold, in a few words behind a comma: no row fails silently."""
    return "" if verdict == HOLDS else ", " + re.sub(r"(\d+) of \d+", r"\1", verdict)
