"""`fit(method, stage, **phase)`: one phase of training, with a fresh Trainer and a fresh optimiser.

What a phase does around its steps is here: the order of the data, the learning rate, rows of the history, looks at the
validation split, and the checkpoint from which an interrupted phase goes on bit for bit.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from maskbench.common.errors import UsageError
from maskbench.common.streams import generator, seed_for, seeded
from maskbench.data.stage import Feed, Split, Stage, batches
from maskbench.training import evaluate
from maskbench.training.journal import Journal, snapshot
from maskbench.training.learner import Learner, lean_trainer, on_signal, quiet, train
from maskbench.training.method import Method
from maskbench.training.phase_cache import Shared

Curve = list[dict[str, float]]


class Fit:
    """`fit(method, stage)` trains; the task and the method see nothing of Lightning.

    Args:
        optimizer: movable parameters -> optimiser.
        schedule: (step, total) -> factor on the rate.
        budget: steps or epochs of one phase (steps win), batch_size, validate_every, test_curve.
        trainer: keywords of Lightning's Trainer.
        loop: block, log_every.
        journal: where phases are resumed from and saved to.
        log: told (part of the run, phase, step of the phase, step of the run, values) of each row of the history.
        watch: told (phase, step, total, values) after each block, for progress.
        shared: where phases that other runs have too are kept; None: every run trains its own.
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
        shared: Shared | None = None,
    ) -> None:
        alone = (trainer.get("devices"), trainer.get("num_nodes")) == (1, 1)  # ranks would wait for one another
        self.shared = shared if alone else None
        self.optimizer, self.schedule, self.budget, self.trainer, self.loop = optimizer, schedule, budget, trainer, loop
        self.seed, self.journal, self.log, self.watch = seed, journal, log, watch
        self.curve: Curve = []  # of the last phase
        self.held: tuple[Split, torch.device, Feed] | None = None

    @property
    def cpu_seconds(self) -> float:
        """CPU time spent in training so far, by all attempts at this run together."""
        return self.journal.tally["cpu_seconds"]

    def feed(self, split: Split, device: torch.device) -> Feed:
        """The split's feed, made once for phases that follow each other on the same split."""
        if self.held is None or self.held[0] is not split or self.held[1] != device:
            self.held = None  # before the next is made: two of them need not fit
            self.held = (split, device, split.feed(device))
        return self.held[2]

    def length(self, rows: int, share: float) -> int:
        """Optimiser steps of a phase on `rows` training rows."""
        steps = self.budget["steps"] or self.budget["epochs"] * -(-rows // self.budget["batch_size"])
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
        """Train what `method.movable()` yields on `stage.train`; returns the looks at the validation split.

        Args:
            name: of the phase, in the history. share: of the budget's steps. lr: times the learning rate.
            begin: the step of the schedule and of the data order to start from.
            order: phases that name the same order see the same batches at the same steps; None: an order of its own.
            orders: data orders side by side, each by its name, for nets that train together: inputs [batch, orders, ...].
            callbacks_at_steps: (steps, what to call after each of them); what it remembers must be in the method's state.
            shared: the module whose state is all that the phase reads and writes, so that another run's result may stand
                in for it (shared.py): the backbone, if what is minimised is the plain loss of its own output; or the
                method. Not together with `callbacks_at_steps`.
        """
        result, checkpoint = self.journal.resume(method)
        if result is None:
            total = self.length(len(stage.train), share)
            phase = Phase(self, method, stage, name, total, lr, begin, order, orders, callbacks_at_steps)
            if shared is None or self.shared is None or checkpoint:  # one that was begun here goes on here
                result = phase.run(checkpoint)
            else:
                result = self.shared.once(phase, shared)
            self.journal.end_phase(method, result)
        self.journal.tally["cpu_seconds"] += result["cpu_seconds"]
        self.journal.tally["steps"] += result["steps"]
        if "shared" in result:
            self.journal.tally["shared"] = [*self.journal.tally.get("shared", []), result["shared"]]
        self.curve = result["curve"]
        return self.curve


class Phase:
    """One call of fit, from its first or its checkpointed step to its last."""

    def __init__(
        self,
        fit: Fit,
        method: Method,
        stage: Stage,
        name: str,
        total: int,
        lr: float,
        begin: int = 0,
        order: str | None = None,
        orders: Sequence[str] | None = None,
        callbacks_at_steps: tuple[Collection[int], Callable[[], None]] | None = None,
    ) -> None:
        self.fit, self.method, self.stage, self.name, self.total, self.lr = fit, method, stage, name, total, lr
        self.begin, self.orders, self.callbacks_at_steps = begin, orders, callbacks_at_steps
        self.stream = (fit.seed, "train", fit.journal.name, len(fit.journal.phases))
        self.order = (*self.stream, "order") if order is None else (fit.seed, "order", order)
        self.stop = threading.Event()  # someone asked us to end after this block
        self.curve: Curve = []
        self.rows: list[tuple[int, dict[str, float]]] = []  # of the history, by this attempt: (step, values)
        self.earlier = 0.0  # CPU seconds of attempts before this one

    def run(self, checkpoint: dict | None) -> dict[str, Any]:
        trainer = lean_trainer(self.fit.trainer)
        device = trainer.strategy.root_device
        self.method.to(device).train()
        self.optimizer = self.make_optimizer()
        self.begun = time.process_time()
        begin = self.restore(checkpoint) if checkpoint else self.begin
        feed = self.fit.feed(self.stage.train, device)
        blocks = self.blocks(begin, 1 if trainer.world_size > 1 else self.fit.loop["block"])
        factors = [self.fit.schedule(step, self.total) for step in range(self.total)]
        learner = Learner(
            self.method,
            self.stage,
            optimizer=self.optimizer,
            rates=self.rates,
            take=feed.take,
            factor=None if set(factors) == {1.0} else factors.__getitem__,
            step=begin,
            begin=lambda: rng(checkpoint["rng"] if checkpoint else None, self.stream),
            after=self.after,
            stop=self.stop,
        )
        if checkpoint and checkpoint["losses"] is not None:
            learner.losses, learner.counted = checkpoint["losses"].to(device), checkpoint["counted"]
        if begin < self.total:
            with seeded(*self.stream):
                with on_signal(self.stop), quiet():
                    train(trainer, learner, feed.loader(blocks))
                if self.stop.is_set():  # saved here, where the generators are still those of the training
                    self.fit.journal.save(self.checkpoint(learner))
                    raise KeyboardInterrupt
            if learner.step < self.total:
                raise UsageError(
                    f"training ended after {learner.step} of {self.total} steps: a key of trainer cut it short, such as "
                    "limit_train_batches or max_time; say its length by budget.steps or budget.epochs instead."
                )
        learner.take = None  # Lightning's reference cycles outlive the phase; the data must not
        self.method.to(device)  # Lightning leaves it on the CPU
        self.optimizer.zero_grad(set_to_none=True)
        return {"curve": self.curve, "steps": self.total - self.begin, "cpu_seconds": self.seconds()}

    def make_optimizer(self) -> torch.optim.Optimizer:
        """A fresh optimiser over what may move; nothing else gets a gradient."""
        groups = [{"name": name, "params": params} for name, params in self.method.groups().items()]
        for p in self.method.parameters():
            p.requires_grad_(False)
        for p in self.method.trainable_parameters():
            p.requires_grad_(True)
        optimizer = self.fit.optimizer(groups)
        for group in optimizer.param_groups:
            group["lr"] *= self.lr
        self.rates = [group["lr"] for group in optimizer.param_groups]
        return optimizer

    def blocks(self, begin: int, size: int) -> Iterator[list[Tensor]]:
        """Index batches from step `begin` on, in lists of `size`; a list ends where a row of the history is due."""
        fit, rows = self.fit, len(self.stage.train)
        walk = batches(
            rows,
            fit.budget["batch_size"],
            range(begin, self.total),
            self.walk,
        )
        block: list[Tensor] = []
        for step, batch in enumerate(walk, start=begin + 1):
            block.append(batch)
            if len(block) == size or self.row_due(step) or self.validation_due(step) or self.called(step):
                if self.stop.is_set():
                    return
                yield block
                block = []

    def walk(self, epoch: int) -> Tensor:
        """The order of the rows in an epoch: [rows], or [rows, orders]."""
        rows = len(self.stage.train)
        if self.orders is None:
            return torch.randperm(rows, generator=generator(*self.order, epoch))
        side = [(self.fit.seed, "order", name) for name in self.orders]
        return torch.stack([torch.randperm(rows, generator=generator(*order, epoch)) for order in side], 1)

    def row_due(self, step: int) -> bool:
        return step % self.fit.loop["log_every"] == 0 or step == self.total

    def called(self, step: int) -> bool:
        return self.callbacks_at_steps is not None and step in self.callbacks_at_steps[0]

    def validation_due(self, step: int) -> bool:
        every = self.fit.budget["validate_every"]
        return bool(every) and (step % every == 0 or step == self.total)

    def after(self, learner: Learner) -> None:
        """After each block: rows of the history, looks at the validation split, progress, the open point."""
        fit, step, values = self.fit, learner.step, {}
        if self.called(step):
            self.callbacks_at_steps[1]()
        if self.row_due(step):
            values["loss"] = learner.mean_loss()
        if self.validation_due(step):
            values_now = self.validate()
            self.curve.append({"step": step} | values_now)
            values |= values_now
        if values:
            self.rows.append((step, values))
            self.write(step, values)
        fit.watch(self.name, step, self.total, values)
        if fit.journal.due():
            fit.journal.save(self.checkpoint(learner))

    def write(self, step: int, values: dict[str, float]) -> None:
        """One row of the history."""
        journal = self.fit.journal
        self.fit.log(journal.name, self.name, step, journal.tally["steps"] + step - self.begin, values)

    def validate(self) -> dict[str, float]:
        """Loss and accuracy on the validation split (and the test split, where its curve is asked for, to be reported
        and never chosen by), without disturbing the training's randomness."""
        splits = {"val": self.stage.val} | ({"test": self.stage.test} if self.fit.budget["test_curve"] else {})
        with seeded(*self.stream, "validate"):
            looks = {kind: evaluate.loss_and_accuracy(self.method, self.stage, split) for kind, split in splits.items()}
        self.method.train()
        return {f"{kind}_{name}": value for kind, values in looks.items() for name, value in values.items()}

    def seconds(self) -> float:
        return self.earlier + time.process_time() - self.begun

    def checkpoint(self, learner: Learner) -> dict[str, Any]:
        """All that the rest of this phase depends on, as tensors and plain containers."""
        return {
            "step": learner.step,
            "method": snapshot(self.method),
            "optimizer": self.optimizer.state_dict(),
            "rng": rng_state(),
            "curve": self.curve,
            "losses": None if learner.losses is None else learner.losses.cpu(),
            "counted": learner.counted,
            "cpu_seconds": self.seconds(),
        }

    def restore(self, checkpoint: dict) -> int:
        """Take up a checkpoint (the journal has set the method already); the step it stands at."""
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        self.curve, self.earlier = checkpoint["curve"], checkpoint["cpu_seconds"]
        return checkpoint["step"]


def rng_state() -> list[Tensor]:
    """States of torch's global generators: the CPU's first, then one per CUDA device."""
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])]


def rng(states: list[Tensor] | None, stream: tuple) -> None:
    """Set the global generators to `states`, or to the start of a named stream."""
    if states is None:
        torch.manual_seed(seed_for(*stream))
        return
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state_all(states[1:])
