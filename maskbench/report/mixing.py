"""Which runs belong together: one source of data, one budget, one arithmetic and one code. Imports no torch."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from maskbench.report.freshness import MIXED, STALE, listed
from maskbench.report.runs import Run, plain

ASPECTS = ("source", "budget", "arithmetic", "code")
ARITHMETIC = {  # key: what it is, its usual value
    "precision": ("precisions", "32-true"),
    "memory_format": ("orders of memory", "contiguous"),
    "compile": ("loop.compile", False),
}
MADE = ("generated", "synthetic")  # sources whose data follows from the seed
DRAWN = "rows"  # what a checksum is called that is of rows chosen by the seed, behind the name of their set


def blend(runs: Sequence[Run], aspects: Sequence[str] = ASPECTS) -> list[str]:
    """Why these runs do not belong into one cell, in words; empty when they do.

    One cell has one data source (or equal checksums of the files), one budget, one precision and order of memory, and one
    code; files of one name and data set are equal wherever they came from.
    """
    reasons = []
    sources = _several(run.source for run in runs)
    sums = {tuple(sorted(run.checksums.items())) for run in runs}
    if "source" in aspects and len(sources) > 1 and (len(sums) > 1 or sums == {()}):
        reasons.append(f"data sources {_and(sources)}")
    elif "source" in aspects and (files := differing(runs)):
        reasons.append(f"different contents of {', '.join(files)}")
    if "budget" in aspects and len(budgets := _several(run.budget for run in runs)) > 1:
        reasons.append(f"budgets {_and(budgets)}")
    if "arithmetic" in aspects:
        reasons += [
            f"{words} {_and(values)}"
            for key, (words, usual) in ARITHMETIC.items()
            if len(values := _several(run.arithmetic.get(key, usual) for run in runs)) > 1
        ]
    return reasons + (list(versions(runs)) if "code" in aspects else [])


def versions(runs: Sequence[Run]) -> Iterator[str]:
    """Why these runs are not of one code: a module that several of them import is not the same in all. Runs that do not record
    their modules are compared by their commits."""
    known = [run for run in runs if run.modules]
    seen: dict[str, set[str]] = {}
    for modules in {id(one): one for one in (run.modules for run in known)}.values():  # runs of one code may hold one mapping
        for module, code in modules.items():
            seen.setdefault(module, set()).add(code)
    if several := sorted(module for module, codes in seen.items() if len(codes) > 1):
        yield f"versions of {listed(several)}"
    yield from (f"in {run.name} the codes {_and(run.codes)}" for run in known if len(run.codes) > 1)
    if len(known) < len(runs):
        codes = _several(code for run in runs for code in ([run.commit] if run.modules else run.codes))
        if len(codes) > 1:
            yield f"commits {_and(codes)}"


def outdated(runs: Iterable[Run]) -> Iterator[str]:
    """One sentence for each change since finished runs were made, with the runs it makes stale or mixed."""
    changes: dict[str, list[str]] = {}
    for run in runs:
        if run.freshness in (STALE, MIXED):
            stale = f"stale, as {listed(run.code_now.changed)} changed since"
            cause = stale if run.freshness == STALE else "mixed, made by several versions of the code"
            changes.setdefault(cause, []).append(run.name)
    yield from (f"{cause}: {listed(names)}." for cause, names in changes.items())


def differing(runs: Sequence[Run]) -> list[str]:
    """Names of data files whose checksums are not the same in all runs of a data set; data made by seed has none, and rows that
    the seed chooses are compared seed by seed."""
    seen: dict[tuple[str | None, str, Any], str] = {}
    names = {}  # in order
    for run in runs:
        for name, one in run.checksums.items() if run.source not in MADE else ():
            seed = run.seed if name.rpartition("/")[2] == DRAWN else None
            if seen.setdefault((run.data, name, seed), one) != one:
                names[name] = None
    return list(names)


def _several(values: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(plain(value) for value in values))


def _and(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"
