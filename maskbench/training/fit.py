"""`fit(method, stage, **phase)`: what a method's `learn` calls for one phase of training.

It describes the phase and has it trained (loop.py), unless an earlier attempt at this run finished it or another run has its
result.
"""

import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal

import torch
from torch import nn

from maskbench.backbones.per_stage import PrivateHeads
from maskbench.data.stage import Feed, Split, Stage
from maskbench.training.compiled import Compiled
from maskbench.training.features import probe, untouched
from maskbench.training.journal import Journal
from maskbench.training.lightning import lean_trainer
from maskbench.training.loop import Curve, Phase, Training
from maskbench.training.method import Method
from maskbench.training.phase_cache import PhaseCache
from maskbench.training.side_by_side import Beside


class Fit:
    """`fit(method, stage)` trains one phase; the task and the method see nothing of Lightning.

    Args:
        optimizer: groups of trainable parameters -> optimiser.
        schedule: (step, total) -> factor on the rate.
        budget: steps or epochs of one phase (steps win; a list of epochs has an entry for each stage), batch_size,
            validate_every, test_curve.
        trainer: keywords of Lightning's Trainer.
        loop: block, log_every, compile.
        journal: where phases are resumed from and saved to.
        log: called with (part of the run, phase, step of the phase, step of the run, values) for each row of the history.
        watch: called with (phase, step, total, values) after each block, for progress.
        shared: where phases that other runs have too are kept; None: every run trains its own.
        head_start: what a stage's own head starts from: `random` (None), as it was drawn; `probe` (features.py).
        beside: other runs at work now, whose nets may train together with this one's.
        callbacks: Lightning's, which see every phase; a batch of theirs is a block of steps. Phases are then shared with nobody.
    """

    def __init__(
        self,
        *,
        optimizer: Callable,
        schedule: Callable,
        budget: dict,
        trainer: dict,
        loop: dict,
        seed: int,
        journal: Journal,
        log: Callable[[str, str, int, int, dict[str, float]], None],
        watch: Callable[[str, int, int, dict[str, float]], None],
        shared: PhaseCache | None = None,
        head_start: Literal["probe", "random"] | None = None,
        beside: Beside | None = None,
        callbacks: Sequence[Any] = (),
    ) -> None:
        alone = (trainer.get("devices"), trainer.get("num_nodes")) == (1, 1)  # ranks would wait for one another
        self.shared = shared if alone and not callbacks else None
        self.callbacks = list(callbacks)
        self.optimizer, self.schedule, self.budget, self.trainer, self.loop = optimizer, schedule, budget, trainer, loop
        self.head_start = head_start
        self.seed, self.journal, self.log, self.watch, self.beside = seed, journal, log, watch, beside
        self.compiled = Compiled() if loop.get("compile") else None
        self.curve: Curve = []  # of the last phase
        self.held: tuple[Split, torch.device, Feed] | None = None

    @property
    def cpu_seconds(self) -> float:
        """CPU time spent in training so far, by all attempts at this run together."""
        return self.journal.tally["cpu_seconds"]

    @property
    def steps(self) -> int:
        """Optimiser steps of training so far, by all attempts at this run together."""
        return self.journal.tally["steps"]

    def feed(self, split: Split, device: torch.device) -> Feed:
        """The split's feed, made once for phases that follow each other on the same split."""
        if self.held is None or self.held[0] is not split or self.held[1] != device:
            self.held = None  # before the next is made: two of them need not fit
            self.held = (split, device, split.feed(device))
        return self.held[2]

    def length(self, rows: int, share: float, stage: int = 0) -> int:
        """Optimiser steps of a phase on `rows` training rows; `stage` is the index of its stage, whose epochs may be its own."""
        epochs = self.budget["epochs"]
        epochs = epochs[stage] if isinstance(epochs, Sequence) else epochs
        steps = self.budget["steps"] or epochs * -(-rows // self.budget["batch_size"])
        return max(1, round(share * steps))

    def __call__(
        self,
        method: Method,
        stage: Stage,
        *,
        name: str = "train",
        share: float = 1.0,
        lr: float = 1.0,
        begin: int = 0,
        order: str | None = None,
        orders: Sequence[str] | None = None,
        callbacks_at_steps: tuple[Collection[int], Callable[[], None]] | None = None,
        shared: nn.Module | None = None,
    ) -> Curve:
        """Train what `method.trainable_parameters()` yields on `stage.train`; returns the evaluations on the validation split.

        Args:
            name: of the phase, in the history. share: of the budget's steps. lr: times the learning rate.
            begin: the step of the schedule and of the data order to start from.
            order: phases that name the same order see the same batches at the same steps; None: an order of its own.
            orders: data orders side by side, each by its name, for nets that train together: inputs [batch, orders, ...].
            callbacks_at_steps: (steps, what to call after each of them); what it remembers must be in the method's state.
            shared: the module whose state is all that the phase reads and writes, so that another run's result may stand
                in for it (phase_cache.py): the backbone, if what is minimised is the plain loss of its own output and the
                method has no hooks; or the method. With `callbacks_at_steps` the method, what they remember being its state.
        """
        if stage.given:
            return []  # the net came trained on it
        heads = untouched(method)
        stream = (self.seed, "train", self.journal.name, len(self.journal.phases))
        phase = Phase(
            method,
            stage,
            name,
            total=self.length(len(stage.train), share, stage.index),
            begin=begin,
            lr=lr,
            stream=stream,
            order=(*stream, "order") if order is None else (self.seed, "order", order),
            orders=orders,
            callbacks_at_steps=callbacks_at_steps,
            cached=shared,
        )
        result, checkpoint = self.journal.resume(method)
        if result is None:
            if self.head_start == "probe" and checkpoint is None:
                self.probe(method, stage, heads)
            result = self.result(Training(self, phase), checkpoint)
            self.journal.end_phase(method, result)
        self.journal.tally["cpu_seconds"] += result["cpu_seconds"]
        self.journal.tally["steps"] += result["steps"]
        if "shared" in result:
            self.journal.tally["shared"] = [*self.journal.tally.get("shared", []), result["shared"]]
        if "side_by_side" in result:
            self.journal.tally["side_by_side"] = sorted({*self.journal.tally.get("side_by_side", []), *result["side_by_side"]})
        self.curve = result["curve"]
        return self.curve

    def probe(self, method: Method, stage: Stage, heads: Sequence[PrivateHeads]) -> None:
        """Let heads that no training has moved yet start from the stage's features."""
        begun = time.process_time()
        method.to(lean_trainer(self.trainer).strategy.root_device)
        for one in heads:
            probe(method, stage, one)
        self.journal.tally["cpu_seconds"] += time.process_time() - begun

    def result(self, training: Training, checkpoint: dict | None) -> dict[str, Any]:
        """Trained here, from the checkpoint if there is one, or taken from another run."""
        cached = training.phase.cached
        beyond = training.hooks.any and cached is not training.phase.method  # hooks may do what the module's name does not say
        if cached is None or self.shared is None or checkpoint or beyond:
            return training.run(checkpoint)
        return self.shared.once(training, cached)
