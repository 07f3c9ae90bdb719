"""From a config to a record: make the parts, let the task run, write down what came out.

The only file below the command line that sees the config tree.
"""

import contextlib
import json
import logging
import os
from collections.abc import Callable
from dataclasses import replace as replaced
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf
from safetensors.torch import save

from maskbench import masks
from maskbench.backbones import memory_format
from maskbench.common import closure, given, identity, provenance
from maskbench.common.errors import UsageError
from maskbench.common.files import replace
from maskbench.common.streams import seeded
from maskbench.data.stage import Stage, in_order
from maskbench.data.streams import plan
from maskbench.runs import debugging, early, machine, ranks, starting
from maskbench.runs.build import each_logger, make
from maskbench.runs.console import Console
from maskbench.runs.finished import anew, answer, main_process, shares_grid, standing, tell, title
from maskbench.runs.loggers import FailSafeLogger, Loggers, no_logger
from maskbench.runs.nets import hold_to, make_method, make_net
from maskbench.runs.record import History, Record
from maskbench.tasks.outcome import Outcome
from maskbench.training import evaluate, side_by_side
from maskbench.training.fit import Fit
from maskbench.training.journal import Journal, snapshot
from maskbench.training.lightning import check_callback, check_trainer
from maskbench.training.method import Method
from maskbench.training.phase_cache import PhaseCache

if TYPE_CHECKING:
    from maskbench.runs.source_run import Tensors

log = logging.getLogger("maskbench")
VALIDATION = "validation"


def run(cfg: DictConfig) -> float:
    """Do the experiment of `cfg` in its run directory, or take it up where it was interrupted; the objective."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    return Run(cfg, folder).go()


class Run:
    """One experiment in one directory: `home`, or the folder in it where a finished run is done anew."""

    def __init__(self, cfg: DictConfig, folder: Path) -> None:
        self.cfg, self.home, self.folder = cfg, folder, folder
        self.title, self.main = title(cfg), main_process()
        self.record = Record(folder)
        self.given: dict[str, Any] | None = None  # what a file gave the net
        self.beside = side_by_side.here(folder.name)

    def go(self) -> float:
        """Run, or take up, the experiment; returns its objective. However it ends, loggers are closed and the record says how."""
        if os.environ.get("LOCAL_RANK", "0") != "0":
            machine.end_with_parent()
        check_trainer(OmegaConf.to_container(self.cfg.trainer, resolve=True))
        early.judge(self.cfg)
        if self.main:
            with contextlib.closing(Console("", live=False)):  # a wait for another process is said while it lasts
                self.record.acquire(wait=not shares_grid())
        there = standing(self.cfg, self.home)
        self.folder = there.place
        if self.main:
            if (known := answer(self.cfg, self.home, there)) is not None:
                self.record.release()
                return known
            self.record.open(self.about(), fresh=anew(self.cfg, there), beside=there.result is not None)
        console, logger, status = Console(self.title, self.cfg.loop.progress, mute=not self.main), no_logger(), "failed"
        try:
            if self.main and self.emulates():
                log.warning(provenance.EMULATED)
            stages = self.stages()
            method = self.method(stages)
            logger = self.logger()
            self.describe(stages, logger)
            with debugging.looked_at(self.cfg, self.folder) if self.main else contextlib.nullcontext():
                outcome = self.work(method, stages, logger, console)
            console.close()
            result, objective = self.finish(method, stages, outcome, logger)
            status = "finished"
            return tell(result, self.title, self.home) if self.main else objective
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        finally:
            console.close()
            logger.finish({"finished": 0, "interrupted": 130}.get(status, 1))
            if status != "finished" and self.main:
                self.record.fail(status)
            self.record.release()

    def emulates(self) -> bool:
        """Whether the run asks this machine's CPU for bf16, which it has no instructions for."""
        on_cpu = self.cfg.trainer.accelerator == "cpu" and str(self.cfg.trainer.precision).startswith("bf16")
        return on_cpu and provenance.bf16_instructions() == []

    # ---- parts

    def stages(self) -> list[Stage]:
        """The data.

        Raises:
            UsageError: validation is to choose, and a stage holds no rows out for it; or epochs are listed for other stages.
        """
        stages = make(self.cfg.data, root=Path(self.cfg.paths.data).expanduser(), seed=self.cfg.seed)
        if OmegaConf.select(self.cfg, "loss"):  # an older record has none
            stages = [replaced(stage, criterion=make(self.cfg.loss)) for stage in stages]
        epochs = self.cfg.budget.epochs
        if wrong := plan.epochs_mistake(list(epochs) if isinstance(epochs, ListConfig) else epochs, len(stages)):
            raise UsageError(wrong)
        if self.cfg.objective == VALIDATION and not all(stage.holds_out for stage in stages):
            raise UsageError("objective=validation needs rows held out of training, and this data holds none out: set data.val")
        if rows := OmegaConf.select(self.cfg, "debug.rows"):
            stages = [debugging.few(stage, rows) for stage in stages]
        return in_order(starting.first_given(self.cfg, stages))

    def method(self, stages: list[Stage], filled: bool = False) -> Method:
        """The method over a fresh backbone that fits the stages, its weights drawn from the stream (seed, "init"), or those that
        `backbone.init` names.

        filled: those are left alone: all values come from elsewhere later.
        """
        outputs = self.cfg.backbone.get("outputs") or stages[0].outputs
        if outputs < stages[0].outputs:
            raise UsageError(f"backbone.outputs={outputs} is too few: the data has {stages[0].outputs} classes a stage")
        machine.prepare(self.cfg.loop.threads)
        starts = not filled and given.gives(self.cfg.backbone.get("init"))
        with seeded(self.cfg.seed, "init"):
            net = make_net(self.cfg.backbone, stages[0].shape, outputs, self.cfg.data.get("normalize"))
            hold_to(net, stages[0])
            if starts:
                starting.take(self.cfg, net, stages[0].shape, outputs, self.source)
            memory_format.arrange(net, OmegaConf.select(self.cfg, "trainer.memory_format"))  # an older record has none
            method = make_method(self.cfg.method, net)
        if starts:
            starting.tell_head(self.cfg, method, stages)
            self.given = net.given
        return method

    def source(self, folder: Path, stage: int | str | None) -> "Tensors":
        """What the net of a finished run computes with, for a run that starts from it."""
        from maskbench.runs import source_run  # few runs start from another, and it brings what reads a net's graph

        def untrained(cfg: DictConfig) -> tuple[Method, list[Stage]]:
            run = Run(cfg, folder)
            stages = run.stages()
            return run.method(stages, filled=True), stages

        return source_run.tensors(folder, stage, untrained)

    def fit(self, journal: Journal, log: Callable, watch: Callable) -> Fit:
        """What trains a phase, with the optimiser, budget and trainer of the config."""
        cfg = self.cfg
        return Fit(
            optimizer=make(cfg.optimizer),
            schedule=make(cfg.schedule),
            budget=OmegaConf.to_container(cfg.budget, resolve=True),
            trainer=OmegaConf.to_container(cfg.trainer, resolve=True),
            loop=OmegaConf.to_container(cfg.loop),
            seed=cfg.seed,
            journal=journal,
            log=log,
            watch=watch,
            shared=self.shared(),
            head_start=cfg.method.get("head_start"),
            beside=self.beside,
            callbacks=self.callbacks(),
        )

    def callbacks(self) -> list[Any]:
        """Lightning's callbacks that the config names.

        Raises:
            UsageError: one is made by what makes no callback.
        """
        nodes = OmegaConf.select(self.cfg, "callbacks") or {}  # an older record has none
        made = {name: make(node) for name, node in nodes.items()}
        for name, one in made.items():
            check_callback(f"callbacks.{name}._target_={nodes[name]._target_}", one)
        return list(made.values())

    def shared(self) -> PhaseCache | None:
        """Where this run leaves and finds the phases of training that others have too."""
        if self.cfg.paths.shared is None:
            return None
        parts = {name: self.plain()[name] for name in ("backbone", "optimizer", "schedule", "budget", "trainer")}
        parts["loop"] = {name: self.cfg.loop[name] for name in ("log_every", "threads")}
        if OmegaConf.select(self.cfg, "loop.compile"):  # an older record has none
            parts["loop"]["compile"] = True
        return PhaseCache(Path(self.cfg.paths.shared).expanduser(), self.home, parts)

    def logger(self) -> FailSafeLogger | Loggers:
        """The logger of the config, or all of several; of the other processes of a distributed run, none."""
        cfg = self.cfg
        if not self.main:
            return no_logger()
        handed = dict(
            run_dir=self.home,  # whose logs tell of every attempt
            run_id=f"{identity.key(cfg)}-s{cfg.seed}",
            name=f"{self.home.parent.name}/{self.home.name}",
            group=choices().get("experiment") or f"{cfg.method.name}-{cfg.data.name}",
            job_type=cfg.method.name,
            tags=[cfg.task.name, cfg.data.name, *cfg.logger.get("tags", []), *debugging.tags(cfg)],
            config=self.plain(),
        )
        if notes := OmegaConf.select(cfg, "notes"):
            handed["notes"] = notes  # a logger of one's own need not know of them
        loggers = [make(OmegaConf.create({"logger": node}).logger, **handed) for node in each_logger(self.plain()["logger"])]
        return loggers[0] if len(loggers) == 1 else Loggers(loggers)

    # ---- work

    def work(self, method: Method, stages: list[Stage], logger: FailSafeLogger | Loggers, console: Console) -> Outcome:
        """Let the task run the method, writing the history and showing progress on the way."""
        cfg = self.cfg
        history = History(self.folder / "metrics.csv", write=self.main)
        journal = Journal(self.folder, method, seed=cfg.seed, every=cfg.loop.checkpoint_seconds, history=history, write=self.main)
        if journal.resumed:
            log.info("taking up an interrupted run: %s", journal.resumed)

        def row(part: str, phase: str, step: int, run_step: int, values: dict[str, float]) -> None:
            history.add(part, phase, step, values)
            logger.log({f"{phase}/{name}": value for name, value in values.items()} | {"part": len(journal.done)}, run_step)

        def part(name: str, value: dict[str, Any]) -> None:
            headline = value.get("headline", {})
            console.part(name, headline, len(journal.done), journal.expected)
            if headline:
                logger.log({f"part/{k}": v for k, v in headline.items()}, journal.tally["steps"])

        def watch(phase: str, step: int, total: int, values: dict[str, float]) -> None:
            console.begin(journal.name, len(journal.done), journal.expected)
            console.watch(phase, step, total, values)

        journal.on_part = part
        console.stages = [stage.name for stage in stages]
        fit = self.fit(journal, row, watch)
        try:
            outcome = make(cfg.task, method, stages, fit, journal)
        finally:
            history.close()
            self.record.elsewhere = self.beside.seconds if self.beside is not None else 0.0
        if self.main and (
            with_others := {name: journal.tally[name] for name in ("shared", "side_by_side") if name in journal.tally}
        ):
            self.record.add(**with_others)
        return outcome

    def finish(
        self, method: Method, stages: list[Stage], outcome: Outcome, logger: FailSafeLogger
    ) -> tuple[dict[str, Any], float]:
        """Write weights, masks and the result, in that order, and tell the loggers; (the result, its objective)."""
        name, objective = outcome.objective, outcome.metrics[outcome.objective]
        notes = [
            *outcome.notes,
            *ranks.notes(method, self.cfg.trainer),
            *(debugging.notes(self.cfg, self.folder) if self.main else []),
        ]
        if self.cfg.objective == VALIDATION:
            chosen = stages if outcome.chosen_on is None else [stages[i] for i in outcome.chosen_on]
            name, objective = VALIDATION, evaluate.validation(method, chosen)
        result = {
            "status": "finished",
            "objective": objective,
            "objective_name": name,
            "metrics": outcome.metrics,
            "table": outcome.table,
            "matrices": outcome.matrices,
            "notes": notes,
            "fingerprints": method.fingerprints(),
            "method": self.cfg.method.name,
            "data": self.cfg.data.name,
            "source": stages[0].origin.source,
            "task": self.cfg.task.name,
            "seed": self.cfg.seed,
            "key": identity.key(self.cfg),
        }
        if not self.main:
            return result, objective
        replace(self.folder / "weights.safetensors", lambda path: path.write_bytes(save(snapshot(method))))
        if outcome.curves:
            replace(self.folder / "curves.json", lambda path: path.write_text(json.dumps(outcome.curves)))
        if ticket := method.ticket():
            replace(self.folder / "ticket.safetensors", lambda path: path.write_bytes(save(ticket)))
        final_masks = {name: mask.cpu() for name, mask in method.masks().items()}
        if final_masks:
            replace(self.folder / "masks.safetensors", lambda path: masks.save(path, final_masks))
        numbers = {name: value for name, value in outcome.metrics.items() if value is not None}
        logger.summary(numbers | {name: mark for name, mark in result["fingerprints"].items() if isinstance(mark, str)})
        logger.table("result", outcome.table)
        self.draw(result, logger)
        self.record.finish(result)
        self.record.settle()
        if final_masks:
            logger.artifact(self.home / "masks.safetensors", "masks")  # referred to by its place, which is final now
        return result, objective

    def draw(self, result: dict[str, Any], logger: FailSafeLogger | Loggers) -> None:
        """Figures in the run directory and in the loggers; failing to draw is a warning line, not a failed run."""
        from maskbench.report import figures  # not before the first step

        try:
            for name, path in figures.of_run(self.folder, result).items():
                logger.image(f"figure/{name}", path)  # by itself, `accuracy` would hide the number of that name
        except Exception as error:
            log.warning("no figures (%s: %s); maskbench figure RUN draws them from the record", type(error).__name__, error)

    # ---- record

    def about(self) -> dict[str, Any]:
        """What run.json says before anything ran: question, overrides, config, code and machine."""
        hydra = HydraConfig.get()
        code = closure.of(self.plain())
        closure.hold(code)
        return {
            "key": identity.key(self.cfg),
            "seed": self.cfg.seed,
            "choices": choices(),
            "overrides": list(hydra.overrides.task),
            "config": self.plain(),
            "threads": self.cfg.loop.threads,
            "code": code.record,
        } | provenance.collect()

    def describe(self, stages: list[Stage], logger: FailSafeLogger | Loggers) -> None:
        """Say and record which data this is and where it came from."""
        origin = stages[0].origin
        about_data = f"{origin.name} with {stages[0].amount} ({origin.source})"
        if rows := OmegaConf.select(self.cfg, "debug.rows"):
            about_data += f", at most {rows} rows of each split"
        log.info("%s: %d stage%s, %s", self.title, len(stages), "s" * (len(stages) > 1), about_data)
        if self.main:
            data = {"source": origin.source, "checksums": origin.checksums, "fingerprints": [s.fingerprint for s in stages]}
            self.record.learns(origin.facts | data)
            self.record.add(logger=logger.about, **({"init": self.given} if self.given else {}))

    def plain(self) -> dict[str, Any]:
        return OmegaConf.to_container(self.cfg, resolve=True)


def choices() -> dict[str, str]:
    """The choice of each group; an optional one that named no file is left out."""
    hydra = HydraConfig.get()
    folders = [Path(source.path) for source in hydra.runtime.config_sources if source.schema == "file"]
    made = {group: choice for group, choice in hydra.runtime.choices.items() if choice and not group.startswith("hydra/")}
    return {g: c for g, c in made.items() if any((folder / g / f"{c}.yaml").exists() for folder in folders)}
