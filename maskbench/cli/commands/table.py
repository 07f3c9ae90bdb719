"""`maskbench table NAME`: run what is missing of a table (conf/table), judge it, and set ours beside the paper's."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from maskbench.cli.commands.common import aligned, arguments
from maskbench.cli.estimates import Estimates
from maskbench.cli.jobs import Job, ahead, settle
from maskbench.cli.jobs import run as run_jobs
from maskbench.cli.screen import show
from maskbench.cli.table_runs import Order, Plan, together
from maskbench.common import identity
from maskbench.common.errors import UsageError
from maskbench.common.files import replace
from maskbench.common.foreign import printable
from maskbench.report import paper_table, published, spec
from maskbench.report import runs as records
from maskbench.report.scoreboard import scoreboard
from maskbench.report.tables import Judged, comma, sheet
from maskbench.report.writers import Sheet, latex, markdown

ABOUT = """Run what is missing of a table, and set ours beside the paper's: n, mean, 95 % interval, difference, verdict.
A published value of another net, data, budget or number of stages is shown without a difference (`maskbench list published`).

NAME is a file of conf/table, several of them, or all: then a scoreboard follows. Without a name: what there is.
budget=quick, full or hours (the paper's own data and nets). seeds=0,1,2: others than the table's own. jobs=N: processes
at a time (default: cores, at most 4). hours=2: as many of the seeds as fit into so many hours a table, one at least.
Runs begin seed by seed, so that soon every row has one; stop whenever you like: the same command goes on, and --partial
shows what is there.
mixed=allow: put runs of different code or data sources into one cell, which is refused otherwise; mixed=redo: also do
runs anew whose record names only a commit, where it is another one. Runs whose code changed are done anew in any case,
unless stale=keep. Other KEY=VALUE words are overrides for all runs; with hydra/launcher=... each set of seeds goes to
that launcher in one sweep. With hydra/launcher=submitit_slurm all runs go to Slurm at once, as one array; --submit does not
wait for them, and the same command without it does."""


def main(argv: list[str]) -> int:
    parser = arguments("table", ABOUT)
    parser.add_argument("words", nargs="*", metavar="NAME or KEY=VALUE")
    parser.add_argument("--config-dir", "-cd", type=Path, help="a folder with further tables, groups and choices")
    parser.add_argument("--only-print", "--partial", action="store_true", help="run nothing: judge the runs that are there")
    parser.add_argument(
        "--dry", action="store_true", help="only say which runs are there, which would be done, how long it takes"
    )
    parser.add_argument("--submit", action="store_true", help="hand the runs to Slurm and do not wait for them")
    parser.add_argument("--hours", metavar="N", help="the same as hours=N")
    parser.add_argument("--latex", action="store_true", help="print it as a paper does: means, intervals, the best in bold")
    if (given := parser.read(argv)) is None:
        return 0
    if given.latex and given.dry:
        raise UsageError("--latex prints what --dry does not have: leave one of them out.")
    folders = [identity.conf_dir(), *([given.config_dir] if given.config_dir else [])]
    if not folders[-1].is_dir():
        raise UsageError(f"--config-dir: there is no folder {folders[-1]}.")
    order = Order.read(given, folders)
    if not order.tables:
        files = spec.names(folders)
        values = published.load(folders)
        print(aligned([[name, titles(spec.load(name, folders, values))] for name in files] or [["no tables"]]))
        return 0
    plans = [Plan(table, order) for table in order.tables]
    if given.submit and not all(plan.slurm for plan in plans):
        raise UsageError("--submit needs hydra/launcher=submitit_slurm: only a cluster goes on without this command.")
    if given.submit and order.hours is not None:
        raise UsageError("--submit hands in all seeds at once: name them (seeds=0,1,2) in the place of hours=.")
    times = Estimates({one: seconds for plan in plans for one, seconds in plan.told.items()})
    failed: list[Job] = []
    if given.dry or given.only_print:
        choose(plans, order, times)
        jobs = together(plan.jobs(plan.seeds) for plan in plans)
        announce(jobs, order, times)
    if given.dry:
        places = [records.load(folder) for job in jobs for folder in job.folders]
        print(aligned([[str(run.folder), run.status, run.freshness] for run in places]))
        return 0
    if not given.only_print:
        failed = fill(plans, order, times, wait=not given.submit)
    output = plans[0].output / "tables"
    all_judged = [plan.judged() for plan in plans]
    shown = [(sheet(judged, origin=False), write(judged, output / judged.table.name)) for judged in all_judged]
    if len(all_judged) > 1:
        board = scoreboard(all_judged)
        shown.append((board, write_board(all_judged, board, output / "all") if order.all else []))
    if given.latex:
        print("\n".join(map(paper_table.latex, all_judged)), end="")
        for job in failed:
            say(f"failed: {job.label}: {job.note}")
        return 1 if failed else 0
    for one, written in shown:  # after all is written: a reader such as head may leave before the last
        show(one, written)
    for job in failed:
        print(f"failed: {job.label}: {job.note}")
    return 1 if failed else 0


def titles(table: spec.Table) -> str:
    """What a table is, under each of its budgets."""
    return "; ".join([table.title, *([f"budget=hours: {table.hours.title}"] if table.hours else [])])


# ---- what is run


def choose(plans: Sequence[Plan], order: Order, times: Estimates) -> None:
    """Take as many seeds as fit into the hours that were asked for, of tables whose runs' lengths are known; run nothing."""
    for plan in plans:
        if order.hours is not None and plan.known(times.of):
            plan.fit(times)


def fill(plans: Sequence[Plan], order: Order, times: Estimates, *, wait: bool = True) -> list[Job]:
    """Do what is missing; those that failed. How many seeds fit into some hours the first one shows, or runs of before."""
    failed, done = [], 0
    if order.hours is not None:
        if not all(plan.known(times.measured_of) for plan in plans):
            say(f"the first seed shows how many fit into {order.hours:g} h:")
            failed, done = work(plans, [plan.jobs(plan.seeds[:1]) for plan in plans], order, times), 1
        for plan in plans:
            plan.fit(times)
            say(f"{plan.table.name}: {plan.choice}")
    for plan in plans:
        if too_long := plan.beyond(times):
            say(f"{plan.table.name}: {too_long}")
    return failed + work(plans, [plan.jobs(plan.seeds[done:]) for plan in plans if plan.seeds[done:]], order, times, wait=wait)


def work(plans: Sequence[Plan], many: Sequence[Sequence[Job]], order: Order, times: Estimates, *, wait: bool = True) -> list[Job]:
    """Do these jobs, having said how long that takes; those that failed. `wait`: for Slurm, if that does them."""
    jobs = together(many)
    announce(jobs, order, times)
    if plans[0].slurm is None:
        return run_jobs(jobs, order.jobs, times)
    from maskbench.cli import slurm_table

    return slurm_table.run(jobs, plans[0].slurm, wait=wait)


def announce(jobs: Sequence[Job], order: Order, times: Estimates) -> None:
    """Say how many runs are to be done, how long that takes, and how far those are that another process is at."""
    settle(jobs)
    if missing := sum(len(job.missing) for job in jobs):
        there = sum(len(job.folders) for job in jobs) - missing
        done = f" ({there} done before)" if there else ""
        cores = f"{order.workers} cores" if order.workers > 1 else "one core"
        left = ahead(jobs, order.workers, times)
        say(f"{missing} run{'s' * (missing > 1)} to do{done}: {left.told(f' on {cores}')}")
    for job in jobs:
        if job.taken:
            say(f"{job.label}: another process is at work on it{f' ({job.standing})' if job.standing else ''}")


def say(text: str) -> None:
    print(printable(text), file=sys.stderr)


# ---- what is written


def write(judged: Judged, folder: Path) -> list[Path]:
    """BUDGET.md, .csv, .tex and the figures as .png and .svg into the table's folder; below its line, scoreboard-BUDGET.md."""
    from maskbench.report import dots, style

    whole, stem = sheet(judged), judged.budget
    texts = {".md": markdown(whole), ".csv": comma(judged), ".tex": latex(whole, f"{judged.table.name}-{stem}")}
    written = save(folder, {f"{stem}{suffix}": text for suffix, text in texts.items()})
    save(folder, {f"scoreboard-{stem}.md": page(scoreboard([judged]), [judged])})
    if figure := dots.draw(judged):
        written += style.save({stem: figure}, folder, f"{judged.table.title}; {', '.join(run.name for run in judged.runs)}")
    return written + compared(judged, folder)


def compared(judged: Judged, folder: Path) -> list[Path]:
    """The figures that the table names, of all its experiments on the same stages of a data set: BUDGET-DATA-FIGURE.png and
    .svg, with the number of stages behind the name of data that the table divides in several ways."""
    from maskbench.report import figures, style

    sets: dict[tuple[str, int], list] = {}
    for by_seed in judged.found.values() if judged.table.figures else ():
        if runs := [figures.read(run.folder) for run in by_seed.values() if run]:
            stages = len((runs[0].result.get("matrices") or {}).get("accuracy") or ())
            sets.setdefault((runs[0].result["data"], stages), []).append(runs)
    divided = Counter(data for data, _ in sets)
    written = []
    for (data, stages), groups in sets.items():
        data = data if divided[data] == 1 else f"{data}{stages}"
        drawn = {name: figure for name, figure in figures.compare(groups).items() if name in judged.table.figures}
        about = f"{judged.table.title}; {', '.join(run.name for group in groups for run in group)}"
        written += style.save({f"{judged.budget}-{data}-{name}": figure for name, figure in drawn.items()}, folder, about)
    return written


def page(board: Sheet, all_judged: Sequence[Judged]) -> str:
    return "\n".join([markdown(board), *(markdown(sheet(judged), level=2) for judged in all_judged)])


def write_board(all_judged: Sequence[Judged], board: Sheet, folder: Path) -> list[Path]:
    """The scoreboard and below it all tables, BUDGET.md; the scoreboard alone as .csv and .tex."""
    from maskbench.report.writers import comma_separated

    stem = all_judged[0].budget
    texts = {
        ".md": page(board, all_judged),
        ".csv": comma_separated(board.head, board.rows),
        ".tex": latex(board, f"scoreboard-{stem}"),
    }
    return save(folder, {f"{stem}{suffix}": text for suffix, text in texts.items()})


def save(folder: Path, texts: dict[str, str]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        replace(folder / name, lambda path, text=text: path.write_text(text))
    return [folder / name for name in texts]
