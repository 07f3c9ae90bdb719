"""What `maskbench table` was asked for, and the runs of a table that this takes."""

import re
from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from maskbench.cli import forks as warm
from maskbench.cli import slurm
from maskbench.cli.estimates import Estimates, fitting, question, told
from maskbench.cli.jobs import Job
from maskbench.common import identity, provenance
from maskbench.common.errors import UsageError
from maskbench.report import durations, published, spec
from maskbench.report import runs as records
from maskbench.report.freshness import MIXED as MIXED_CODE
from maskbench.report.freshness import STALE
from maskbench.report.tables import Judged, judge

OPTIONS = ("budget", "seeds", "hours", "jobs", "mixed")  # KEY=VALUE words that are no overrides
MIXED = ("refuse", "allow", "redo")
LAUNCHES = ("hydra/launcher", "hydra.launcher", "sweep")  # overrides that hand runs to a launcher of Hydra
BITS = (  # of the keys that say how a run is done
    "trainer",
    *(f"trainer.{name}" for name in ("precision", "accelerator", "sync_batchnorm", "memory_format")),
)
MOST = 4  # jobs at a time unless the user says: each holds a gigabyte


@dataclass(frozen=True)
class Order:
    """The words of the command line, sorted."""

    tables: list[spec.Table]
    all: bool
    budget: str
    seeds: tuple[int, ...] | None
    hours: float | None  # into which a table is to fit
    jobs: int
    mixed: str
    overrides: tuple[str, ...]
    flags: tuple[str, ...]  # --config-dir, for the runs

    @property
    def workers(self) -> int:
        """How many runs go on side by side at their full pace."""
        return min(self.jobs, provenance.cores() or self.jobs)

    @classmethod
    def read(cls, given: Namespace, folders: Sequence[Path]) -> "Order":
        """What the words of `maskbench table` ask for.

        Raises:
            UsageError: no such table, budget or word; a table without this budget.
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
        if "all" in names and not (tables := [table for table in tables if budget in table.budgets]):
            raise UsageError(f"no table has budget={budget}.")
        return cls(
            tables=[table.at(budget) for table in tables],
            all="all" in names,
            budget=budget,
            seeds=tuple(dict.fromkeys(numbers("seeds", options["seeds"]))) if "seeds" in options else None,
            hours=amount(options.get("hours", given.hours)),
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


def amount(text: str | None) -> float | None:
    """A number of hours."""
    try:
        hours = None if text is None else float(text)
    except ValueError:
        hours = 0.0
    if hours is not None and not 0 < hours < float("inf"):
        raise UsageError(f"hours={text} must be a number above 0, such as 2 or 0.5.")
    return hours


def key(word: str) -> str:
    return word.lstrip("+~").partition("=")[0]


# ---- the runs of a table


class Plan:
    """A table's runs under an order: the jobs that fill them, and the table judged once they are there.

    Raises:
        UsageError: an override does not fit one of its runs.
    """

    def __init__(self, table: spec.Table, order: Order) -> None:
        self.table, self.order = table, order
        self.seeds = order.seeds or table.seeds.get(order.budget) or (0, 1, 2)
        self.choice = ""  # why they are fewer than asked for
        self.words: dict[str, list[str]] = {}
        self.folders: dict[str, dict[int, Path]] = {}
        self.told: dict[Path, float | None] = {}  # question -> seconds a run takes by its preset
        self.steps: dict[str, int | None] = {}  # of a phase
        self.groups: dict[str, str] = {}  # of runs that train side by side
        self.slurm: dict[str, Any] | None = None  # settings of hydra.launcher, where Slurm is to do the runs
        self.commit = provenance.committed(provenance.collect(), provenance.diff()) if order.mixed == "redo" else ""
        for name, specs in table.runs.items():
            if order.budget in specs:
                self.add(name, [*specs[order.budget], *order.overrides])

    def add(self, name: str, words: Sequence[str]) -> None:
        """One of the table's sets of runs: its words, and the directories of its seeds."""
        from maskbench.cli import preflight, side_by_side

        words = list({key(word): word for word in words}.values())  # the last of two for one key stands
        command = preflight.check([*self.order.flags, *words, f"seed={self.seeds[0]}"])
        cfg = command.compose([override.input_line for override in command.overrides])
        self.output = Path(cfg.paths.output)
        self.keeps = cfg.stale == "keep"
        if cfg.hydra.launcher.get("_target_") == slurm.LAUNCHER:
            self.slurm = {k: v for k, v in OmegaConf.to_container(cfg.hydra.launcher, resolve=True).items() if k != "_target_"}
        self.folders[name] = {}
        for seed in self.seeds:
            cfg.seed = seed
            self.folders[name][seed] = identity.run_dir(cfg)
        quiet = [] if any(key(word) == "logger" for word in words) else ["logger=none"]
        self.words[name] = [*self.order.flags, *words, *quiet]
        self.steps[name] = cfg.budget.steps
        self.groups[name] = side_by_side.group(cfg)
        self.told[question(self.folders[name][self.seeds[0]])] = told(cfg.experiment or {}, words)

    def jobs(self, seeds: Sequence[int]) -> list[Job]:
        """What fills the runs of these seeds: a job a run, in turn by their seeds; with a launcher that keeps the command waiting
        (not Slurm's) one for all of them."""
        made = []
        for name, words in self.words.items():
            places = [self.folders[name][seed] for seed in seeds]
            if self.slurm is not None:
                words = [word for word in words if not key(word).startswith(LAUNCHES)]
            if any(key(word).startswith(LAUNCHES) for word in words):
                many = ",".join(map(str, seeds))
                made.append(self.job(name, f"seeds {many}", ["-m", *words, f"seed={many}"], places))
            else:
                each = enumerate(zip(seeds, places, strict=True))
                made += [self.job(name, f"seed {s}", [*words, f"seed={s}"], [place], turn) for turn, (s, place) in each]
        return made

    def job(self, name: str, which: str, words: list[str], places: list[Path], turn: int = 0) -> Job:
        forced = any(key(word) == "force" and word.endswith("true") for word in words)
        old = any(self.old(records.load(place)) for place in places)
        words = [*words, *(["force=true"] if old and not forced else [])]
        label = f"{self.table.name}/{name} {which}"
        return Job(
            label, words, places, forced or old, warm=warm.able(words), group=self.groups[name], turn=turn, steps=self.steps[name]
        )

    def old(self, run: records.Run) -> bool:
        """Whether a run is done anew although it is finished; an older record names its commit only."""
        if self.order.mixed == "redo" and run.about and run.modules is None:
            return run.codes != (self.commit,)
        return run.freshness in (STALE, MIXED_CODE) and not self.keeps

    def known(self, length: Callable[[Path], float | None]) -> bool:
        """Whether the length of every run is known."""
        return all(length(at[self.seeds[0]]) is not None for at in self.folders.values())

    def fit(self, times: Estimates) -> None:
        """Of the seeds take as many as fit into the hours that were asked for."""
        self.seeds, self.choice = fitting(self.seeds, self.order.hours, lambda seeds: self.takes(seeds, times))

    def takes(self, seeds: Sequence[int], times: Estimates) -> float:
        """Seconds for all runs of these seeds, done or not."""
        return times.whole([at[seed] for seed in seeds for at in self.folders.values()], self.order.workers)

    def beyond(self, times: Estimates) -> str:
        """That the table takes longer than it may; empty where it does not, or nobody knows."""
        limit, length = self.table.limit, self.takes(self.seeds, times)
        if limit is None or length <= limit * durations.HOUR:
            return ""
        whole = f"{len(self.seeds)} seeds take about {durations.words(length)}"
        return f"{whole}, more than its {limit:g} h; hours={limit:g}: as many as fit."

    def judged(self) -> Judged:
        loaded = {name: {seed: records.load(at[seed]) for seed in self.seeds} for name, at in self.folders.items()}
        records.undamaged(run for runs in loaded.values() for run in runs.values())  # says which are not there for being so
        runs = {
            name: {seed: run if run.status == "finished" else None for seed, run in seeds.items()}
            for name, seeds in loaded.items()
        }
        shown = [word for word in self.order.overrides if decides(key(word))]
        judged = judge(self.table, self.order.budget, self.seeds, runs, overrides=shown, mixed=self.order.mixed == "allow")
        return replace(judged, choice=self.choice)


def decides(key: str) -> bool:
    """Whether what the key says can change an answer, and so belongs beside the table; where and by whom it is run does not."""
    return re.split("[./]", key)[0] not in identity.ELSEWHERE or key in BITS


def together(many: Iterable[Sequence[Job]]) -> list[Job]:
    """The jobs of several tables, the first seeds of all before the second ones; runs that tables share once."""
    first: dict[tuple[Path, ...], Job] = {}
    for job in sorted((job for jobs in many for job in jobs), key=lambda job: job.turn):
        first.setdefault(tuple(job.folders), job)
    return list(first.values())
