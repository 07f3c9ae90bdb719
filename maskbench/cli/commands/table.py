"""`maskbench table NAME`: run what is missing of a table (conf/table), judge it, and set ours beside the paper's."""

import os
import re
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from maskbench.cli import forks as warm
from maskbench.cli.commands.common import aligned, arguments
from maskbench.cli.jobs import Job
from maskbench.cli.jobs import run as run_jobs
from maskbench.common import identity, provenance
from maskbench.common.errors import UsageError
from maskbench.common.files import replace
from maskbench.common.foreign import printable
from maskbench.report import published, spec
from maskbench.report import runs as records
from maskbench.report.freshness import MIXED as MIXED_CODE
from maskbench.report.freshness import STALE
from maskbench.report.scoreboard import scoreboard
from maskbench.report.tables import Judged, comma, judge, sheet
from maskbench.report.writers import Sheet, latex, markdown

OPTIONS = ("budget", "seeds", "jobs", "mixed")  # KEY=VALUE words that are no overrides
MIXED = ("refuse", "allow", "redo")
WIDE = 160  # columns of text where there is no terminal to fit
LAUNCHES = ("hydra/launcher", "hydra.launcher", "sweep")  # overrides that hand runs to a launcher of Hydra
BITS = (  # of the keys that say how a run is done
    "trainer",
    *(f"trainer.{name}" for name in ("precision", "accelerator", "sync_batchnorm", "memory_format")),
)
MOST = 4  # jobs at a time unless the user says: each holds a gigabyte
ABOUT = """Run what is missing of a table, and set ours beside the paper's: n, mean, 95 % interval, difference, verdict.
A published value of another net, data, budget or number of stages is shown without a difference (`maskbench list published`).

NAME is a file of conf/table, several of them, or all: then a scoreboard follows. Without a name: what there is.
budget=quick or full. seeds=0,1,2: others than the table's own. jobs=N: processes at a time (default: cores, at most 4).
mixed=allow: put runs of different code or data sources into one cell, which is refused otherwise; mixed=redo: also do
runs anew whose record names only a commit, where it is another one. Runs whose code changed are done anew in any case,
unless stale=keep. Other KEY=VALUE words are overrides for all runs; with hydra/launcher=... each set of seeds goes to
that launcher in one sweep."""


def main(argv: list[str]) -> int:
    parser = arguments("table", ABOUT)
    parser.add_argument("words", nargs="*", metavar="NAME or KEY=VALUE")
    parser.add_argument("--config-dir", "-cd", type=Path, help="a folder with further tables, groups and choices")
    parser.add_argument("--only-print", action="store_true", help="run nothing: judge the runs that are there")
    parser.add_argument("--dry", action="store_true", help="only say which runs are there and which would be done")
    if (given := parser.read(argv)) is None:
        return 0
    folders = [identity.conf_dir(), *([given.config_dir] if given.config_dir else [])]
    if not folders[-1].is_dir():
        raise UsageError(f"--config-dir: there is no folder {folders[-1]}.")
    order = Order.read(given, folders)
    if not order.tables:
        files = spec.names(folders)
        values = published.load(folders)
        print(aligned([[name, spec.load(name, folders, values).title] for name in files] or [["no tables"]]))
        return 0
    plans = [Plan(table, order) for table in order.tables]
    jobs = unique(job for plan in plans for job in plan.jobs)
    if given.dry:
        places = [records.load(folder) for job in jobs for folder in job.folders]
        print(aligned([[str(run.folder), run.status, run.freshness] for run in places]))
        return 0
    failed = [] if given.only_print else run_jobs(jobs, order.jobs)
    output = plans[0].output / "tables"
    all_judged = [plan.judged() for plan in plans]
    shown = [(sheet(judged, origin=False), write(judged, output / judged.table.name)) for judged in all_judged]
    if len(all_judged) > 1:
        board = scoreboard(all_judged)
        shown.append((board, write_board(all_judged, board, output / "all") if order.all else []))
    for one, written in shown:  # after all is written: a reader such as head may leave before the last
        show(one, written)
    for job in failed:
        print(f"failed: {job.label}: {job.note}")
    return 1 if failed else 0


# ---- what was asked


@dataclass(frozen=True)
class Order:
    """The words of the command line, sorted."""

    tables: list[spec.Table]
    all: bool
    budget: str
    seeds: tuple[int, ...] | None
    jobs: int
    mixed: str
    overrides: tuple[str, ...]
    flags: tuple[str, ...]  # --config-dir, for the runs

    @classmethod
    def read(cls, given: Namespace, folders: Sequence[Path]) -> "Order":
        """What the words of `maskbench table` ask for.

        Raises:
            UsageError: no such table, budget or word.
        """
        names = [word for word in given.words if "=" not in word and not word.startswith("~")]
        options = {key: value for word in given.words for key, _, value in [word.partition("=")] if key in OPTIONS}
        overrides = [w for w in given.words if w not in names and w.partition("=")[0] not in OPTIONS]
        if any(key(word) == "seed" for word in overrides):
            raise UsageError("the seeds of a table are given with seeds=0,1,2.")
        if (budget := options.get("budget", "quick")) not in spec.BUDGETS:
            raise UsageError(f"budget={budget} is none of {', '.join(spec.BUDGETS)}.")
        if (mixed := options.get("mixed", "refuse")) not in MIXED:
            raise UsageError(f"mixed={mixed} is none of {', '.join(MIXED)}.")
        wanted = list(spec.names(folders)) if "all" in names else list(dict.fromkeys(names))
        values = published.load(folders)
        tables = [spec.load(name, folders, values) for name in wanted]
        return cls(
            tables=[table for table in tables if budget in table.budgets] if "all" in names else tables,
            all="all" in names,
            budget=budget,
            seeds=tuple(dict.fromkeys(numbers("seeds", options["seeds"]))) if "seeds" in options else None,
            jobs=(numbers("jobs", options["jobs"], 1) if "jobs" in options else (min(MOST, provenance.cores() or 1),))[0],
            mixed=mixed,
            overrides=tuple(overrides),
            flags=("--config-dir", str(given.config_dir)) if given.config_dir else (),
        )


def numbers(name: str, text: str, least: int = 0) -> tuple[int, ...]:
    words = text.strip("[]").split(",")
    if not all(word.strip().isdecimal() and int(word) >= least for word in words):
        raise UsageError(f"{name}={text} must be {'a whole number above 0' if least else 'whole numbers such as 0,1,2'}.")
    return tuple(map(int, words))


def key(word: str) -> str:
    return word.lstrip("+~").partition("=")[0]


# ---- the runs of a table


class Plan:
    """A table's runs under an order: the jobs that fill them, and the table judged once they are there.

    Raises:
        UsageError: the table has no such budget, or an override does not fit one of its runs.
    """

    def __init__(self, table: spec.Table, order: Order) -> None:
        self.table, self.order = table, order
        if order.budget not in table.budgets:
            raise UsageError(f"table {table.name} has no budget={order.budget}; it has {', '.join(table.budgets)}.")
        self.seeds = order.seeds or table.seeds.get(order.budget) or (0, 1, 2)
        self.folders: dict[str, dict[int, Path]] = {}
        self.jobs: list[Job] = []
        self.commit = provenance.committed(provenance.collect(), provenance.diff()) if order.mixed == "redo" else ""
        for name, specs in table.runs.items():
            if order.budget in specs:
                self.add(name, [*specs[order.budget], *order.overrides])

    def add(self, name: str, words: Sequence[str]) -> None:
        """The run directories and jobs of one of the table's sets of runs, one job a seed or, with a launcher, one in all."""
        from maskbench.cli import preflight

        words = list({key(word): word for word in words}.values())  # the last of two for one key stands
        command = preflight.check([*self.order.flags, *words, f"seed={self.seeds[0]}"])
        cfg = command.compose([override.input_line for override in command.overrides])
        self.output = Path(cfg.paths.output)
        self.keeps = cfg.stale == "keep"
        self.folders[name] = {}
        for seed in self.seeds:
            cfg.seed = seed
            self.folders[name][seed] = identity.run_dir(cfg)
        quiet = [] if any(key(word) == "logger" for word in words) else ["logger=none"]
        common = [*self.order.flags, *words, *quiet]
        places = self.folders[name]
        if any(key(word).startswith(LAUNCHES) for word in words):
            seeds = ",".join(map(str, self.seeds))
            label = f"{self.table.name}/{name} seeds {seeds}"
            self.jobs.append(self.job(label, ["-m", *common, f"seed={seeds}"], list(places.values())))
        else:
            for seed, place in places.items():
                self.jobs.append(self.job(f"{self.table.name}/{name} seed {seed}", [*common, f"seed={seed}"], [place]))

    def job(self, label: str, words: list[str], places: list[Path]) -> Job:
        forced = any(key(word) == "force" and word.endswith("true") for word in words)
        old = any(self.old(records.load(place)) for place in places)
        words = [*words, *(["force=true"] if old and not forced else [])]
        return Job(label, words, places, fresh=forced or old, warm=warm.able(words))

    def old(self, run: records.Run) -> bool:
        """Whether a run is done anew although it is finished; an older record names its commit only."""
        if self.order.mixed == "redo" and run.about and run.modules is None:
            return run.codes != (self.commit,)
        return run.freshness in (STALE, MIXED_CODE) and not self.keeps

    def judged(self) -> Judged:
        loaded = {name: {seed: records.load(place) for seed, place in at.items()} for name, at in self.folders.items()}
        records.undamaged(run for runs in loaded.values() for run in runs.values())  # says which are not there for being so
        runs = {
            name: {seed: run if run.status == "finished" else None for seed, run in seeds.items()}
            for name, seeds in loaded.items()
        }
        shown = [word for word in self.order.overrides if decides(key(word))]
        return judge(self.table, self.order.budget, self.seeds, runs, overrides=shown, mixed=self.order.mixed == "allow")


def decides(key: str) -> bool:
    """Whether what the key says can change an answer, and so belongs beside the table; where and by whom it is run does not."""
    return re.split("[./]", key)[0] not in identity.ELSEWHERE or key in BITS


def unique(jobs: "Sequence[Job]") -> list[Job]:
    """Tables may share runs: each set of run directories once."""
    return list({tuple(job.folders): job for job in reversed(list(jobs))}.values())[::-1]


# ---- what is written and shown


def write(judged: Judged, folder: Path) -> list[Path]:
    """BUDGET.md, .csv, .tex and the figure as .png and .svg into the table's folder."""
    from maskbench.report import dots, style

    whole, stem = sheet(judged), judged.budget
    texts = {".md": markdown(whole), ".csv": comma(judged), ".tex": latex(whole, f"{judged.table.name}-{stem}")}
    written = save(folder, {f"{stem}{suffix}": text for suffix, text in texts.items()})
    if figure := dots.draw(judged):
        written += style.save({stem: figure}, folder, f"{judged.table.title}; {', '.join(run.name for run in judged.runs)}")
    return written


def write_board(all_judged: Sequence[Judged], board: Sheet, folder: Path) -> list[Path]:
    """The scoreboard and below it all tables, BUDGET.md; the scoreboard alone as .csv and .tex."""
    from maskbench.report.writers import comma_separated

    stem = all_judged[0].budget
    whole = "\n".join([markdown(board), *(markdown(sheet(judged), level=2) for judged in all_judged)])
    texts = {".md": whole, ".csv": comma_separated(board.head, board.rows), ".tex": latex(board, f"scoreboard-{stem}")}
    return save(folder, {f"{stem}{suffix}": text for suffix, text in texts.items()})


def save(folder: Path, texts: dict[str, str]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        replace(folder / name, lambda path, text=text: path.write_text(text))
    return [folder / name for name in texts]


COLOURS = {"holds": "green", "fails": "red", **dict.fromkeys(("undecided", "incomplete", "refused", "other"), "yellow")}


def show(table: Sheet, written: Sequence[Path]) -> None:
    """The sheet on standard output, and which files hold it."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    out = Console(highlight=False)
    if not out.is_terminal and "COLUMNS" not in os.environ:
        out = Console(highlight=False, width=WIDE)
    grid = Table(title=escape(printable(table.title)), title_justify="left", title_style="bold")
    for name, side in zip(table.head, table.sides, strict=True):
        grid.add_column(escape(printable(name)), justify="right" if side == "r" else "left")
    for row in table.rows:
        colour = COLOURS.get(row[-1].split()[0], "default") if row[-1] else "default"
        grid.add_row(*map(escape, map(printable, row[:-1])), f"[{colour}]{escape(printable(row[-1]))}")
    out.print(grid)
    for note in table.notes:
        out.print(printable(note), markup=False, soft_wrap=True)
    if written:
        out.print(f"written: {', '.join(map(str, written))}\n", markup=False, soft_wrap=True)
