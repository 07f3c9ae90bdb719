"""What a reader must know before comparing numbers of the page: sources, budgets, code and machines that differ."""

from collections.abc import Iterable, Iterator, Sequence

from maskbench.report.html.groups import Group, code
from maskbench.report.mixing import outdated, versions
from maskbench.report.runs import Run

TOLD = 4  # names that a warning lists


def warnings(runs: Sequence[Run], groups: Sequence[Group], twice: Sequence[Run]) -> list[str]:
    """One sentence each, the gravest first."""
    of_groups = (sources, budgets, codes, surroundings, singles)
    of_runs = (stale, uncommitted, unfinished)
    sentences = [sentence for judge in of_groups for sentence in judge(groups)]
    return sentences + [sentence for judge in of_runs for sentence in judge(runs)] + list(repeated(twice))


def sources(groups: Sequence[Group]) -> Iterator[str]:
    """Data of one name that came from different places."""
    for data in dict.fromkeys(group.board[1] for group in groups):
        origins = dict.fromkeys(group.source for group in groups if group.board[1] == data)
        if len(origins) > 1:
            yield f"{data} is not the same data in all runs (from {listed(origins)}): each has groups and plots of its own."


def budgets(groups: Sequence[Group]) -> Iterator[str]:
    """Groups that stand side by side although they were trained for a different time."""
    for board in dict.fromkeys(group.board for group in groups):
        lengths = dict.fromkeys(group.first.budget or "none recorded" for group in groups if group.board == board)
        if len(lengths) > 1:
            yield f"{board[0]} on {board[1]}: groups side by side have different training budgets ({listed(lengths)})."


def codes(groups: Sequence[Group]) -> Iterator[str]:
    """Equal configs run by different versions of the code."""
    questions = {(*group.board, group.first.method, group.first.key) for group in groups}
    if len(groups) > len(questions):
        yield (
            f"Some questions were answered by several versions of the code, so that {len(questions)} questions "
            f"make {len(groups)} groups; none is averaged over versions."
        )
    runs = [run for group in groups for run in group.runs]
    if all(run.modules for run in runs):
        yield from (f"The runs are not of one code: {reason}." for reason in versions(runs))
        return
    commits = dict.fromkeys(group.first.commit if group.first.modules else group.code for group in groups)
    if len(commits) > 1:
        yield f"The runs come from {len(commits)} versions of the code ({listed(commits)})."


def stale(runs: Sequence[Run]) -> Iterator[str]:
    """Runs that the code that is here now did not make."""
    yield from (f"{line[0].upper()}{line[1:]}" for line in outdated(runs))


def surroundings(groups: Sequence[Group]) -> Iterator[str]:
    """Seeds of one group on different machines or libraries: their bits may differ for that reason."""
    for what, of_run in (("machines", machine), ("versions of Python or PyTorch", libraries)):
        mixed = sum(len({of_run(run) for run in group.runs}) > 1 for group in groups)
        if mixed:
            yield f"The seeds of {plural(mixed, 'group')} ran on different {what}."


def machine(run: Run) -> str:
    return f"{run.machine}, {run.about.get('platform')}"


def libraries(run: Run) -> str:
    return f"{run.about.get('python')}, {(run.about.get('versions') or {}).get('torch')}"


def singles(groups: Sequence[Group]) -> Iterator[str]:
    """Groups of one seed."""
    single = sum(len(group.runs) == 1 for group in groups)
    if single:
        yield f"{single} of {plural(len(groups), 'group')} {'has' if single == 1 else 'have'} one seed only, so no interval."


def uncommitted(runs: Sequence[Run]) -> Iterator[str]:
    count = sum(bool(run.about.get("dirty")) for run in runs)
    if count:
        yield f"{plural(count, 'run')} came from a working tree with uncommitted changes (uncommitted.patch beside the record)."


def unfinished(runs: Sequence[Run]) -> Iterator[str]:
    left = [run for run in runs if run.status != "finished"]
    if left:
        yield f"{plural(len(left), 'run')} not finished: {listed(f'{run.name} ({run.status})' for run in left)}."
    several = [run for run in runs if len(run.codes) > 1]
    if several:
        names = listed(f"{run.name} ({code(run)})" for run in several)
        yield f"{plural(len(several), 'run')} taken up after a change of the code: {names}."


def repeated(twice: Sequence[Run]) -> Iterator[str]:
    if twice:
        yield f"Left out of the means, as their seed is there already: {listed(run.name for run in twice)}."


def listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - TOLD} more" if len(names) > TOLD else ""
    return ", ".join(names[:TOLD]) + more


def plural(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"
