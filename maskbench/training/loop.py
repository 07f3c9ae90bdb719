"""The training of a phase, from its first step to its last.

`Phase` describes it once; `Training` does it: a fresh optimiser and a fresh Trainer, blocks of steps on index batches
(`steps`, where the hooks of a method are called), and after each block what falls due: a row of the history, an evaluation
on the validation split, the checkpoint from which an interrupted phase goes on bit for bit. What a method calls is `fit`
(fit.py); Lightning's part is in lightning.py.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from maskbench.backbones.norm import BATCH_NORMS
from maskbench.common import devices
from maskbench.common.errors import UsageError
from maskbench.common.streams import generator, seed_for, seeded
from maskbench.data.stage import Feed, Split, Stage, batches
from maskbench.training import compiled, evaluate, optimizers
from maskbench.training.across_devices import AcrossDevices
from maskbench.training.hooks import Hooks, WeightGradients
from maskbench.training.journal import Journal, generator_states, set_generators, snapshot
from maskbench.training.lightning import Learner, lean_trainer, on_signal, quiet, train
from maskbench.training.method import Method, Progress
from maskbench.training.side_by_side import Beside

Curve = list[dict[str, float]]  # evaluations on the validation split: step, val_loss, ...


@dataclass(frozen=True)
class Phase:
    """One phase of training, described: what is trained on what, for how long, on which batches, at which rates.

    Attributes:
        name: in the history.
        total: optimiser steps, counted from the start of the schedule.
        begin: the step of the schedule and of the data order at which training starts.
        lr: times the learning rates.
        stream: the name of the random stream that the phase draws from.
        order: the name of its data order; without a name of its own it follows from the stream.
        orders: names of data orders side by side, for nets that train together: inputs [batch, orders, ...].
        callbacks_at_steps: (steps, what to call after each of them).
        cached: the module whose state is all that the phase reads and writes, where other runs may have its result.
    """

    method: Method
    stage: Stage
    name: str
    total: int
    begin: int
    lr: float
    stream: tuple
    order: tuple
    orders: Sequence[str] | None
    callbacks_at_steps: tuple[Collection[int], Callable[[], None]] | None
    cached: nn.Module | None

    def calls_back(self, step: int) -> bool:
        return self.callbacks_at_steps is not None and step in self.callbacks_at_steps[0]


class Setup(Protocol):
    """What all phases of a run are trained with (fit.py)."""

    optimizer: Callable  # groups of parameters -> optimiser
    schedule: Callable[[int, int], float]  # (step, total) -> factor on the rates
    budget: dict[str, Any]
    trainer: dict[str, Any]
    loop: dict[str, Any]
    seed: int
    journal: Journal
    beside: Beside | None  # other runs, whose nets train with this one's
    compiled: compiled.Compiled | None  # what compiles the net's pass, where that is asked for
    log: Callable[[str, str, int, int, dict[str, float]], None]
    watch: Callable[[str, int, int, dict[str, float]], None]

    def feed(self, split: Split, device: torch.device) -> Feed: ...


class Training:
    """A phase under way: `run` takes it from its first or its checkpointed step to its last."""

    def __init__(self, fit: Setup, phase: Phase) -> None:
        self.fit, self.phase, self.step = fit, phase, phase.begin
        self.hooks, self.weight_gradients = Hooks(phase.method), WeightGradients(phase.method)
        self.stop = threading.Event()  # someone asked us to end after this block
        self.losses: Tensor | None = None  # summed since the last row of the history
        self.counted = 0  # steps in that sum
        self.curve: Curve = []
        self.rows: list[tuple[int, dict[str, float]]] = []  # of the history, by this attempt: (step, values)
        self.earlier = 0.0  # CPU seconds of attempts before this one, and of another process for this one
        self.companions: set[str] = set()  # runs that trained side by side with this one
        self.weight: float | None = None  # of this device's part of the batch, where there are several devices

    # ---- from the first step to the last

    def run(self, checkpoint: dict | None) -> dict[str, Any]:
        fit, phase, method = self.fit, self.phase, self.phase.method
        self.trainer = lean_trainer(fit.trainer, fit.callbacks)
        device = self.trainer.strategy.root_device
        method.to(device).train()
        self.optimizer, self.rates = self.make_optimizer()
        self.begun = time.process_time()
        factors = [fit.schedule(step, phase.total) for step in range(phase.total)]
        self.factors = None if set(factors) == {1.0} else factors
        if checkpoint:
            self.restore(checkpoint, device)
        feed = fit.feed(phase.stage.train, device)
        self.take = feed.take
        self.learner = Learner(method, self.optimizer, start=lambda: self.set_generators(checkpoint), block=self.block)
        if self.step < phase.total:
            if fit.beside is not None:
                fit.beside.join(self)
            with seeded(*phase.stream):
                with on_signal(self.stop, self.trainer.is_global_zero), quiet():
                    train(self.trainer, self.learner, feed.loader(self.blocks()), self.stop)
                if self.stop.is_set():  # saved here, where the generators are still those of the training
                    fit.journal.save(self.checkpoint())
                    raise KeyboardInterrupt
            if self.step < phase.total:
                raise UsageError(
                    f"training ended after {self.step} of {phase.total} steps: a key of trainer cut it short, such as "
                    "limit_train_batches or max_time; say its length by budget.steps or budget.epochs instead."
                )
        self.settle_norms()
        del self.take, self.learner, self.trainer  # Lightning's reference cycles outlive the phase; the data must not
        method.to(device)  # Lightning leaves it on the CPU
        self.optimizer.zero_grad(set_to_none=True)
        beside = {"side_by_side": sorted(self.companions)} if self.companions else {}
        return {"curve": self.curve, "steps": phase.total - phase.begin, "cpu_seconds": self.seconds()} | beside

    def make_optimizer(self) -> tuple[torch.optim.Optimizer, list[float]]:
        """A fresh optimiser over what may move, and the rate of each of its groups; nothing else gets a gradient.

        Raises:
            UsageError: torch refuses the settings, alone or together.
        """
        method = self.phase.method
        groups = [{"name": name, "params": params} for name, params in optimizers.groups(self.fit.optimizer, method).items()]
        for p in method.parameters():
            p.requires_grad_(False)
        for p in method.trainable_parameters():
            p.requires_grad_(True)
        try:
            optimizer = self.fit.optimizer(groups)
        except (ValueError, TypeError, RuntimeError) as error:
            raise UsageError(f"torch refuses these settings of optimizer.KEY=VALUE: {' '.join(str(error).split())}") from error
        for group in optimizer.param_groups:
            group["lr"] *= self.phase.lr
        return optimizer, [group["lr"] for group in optimizer.param_groups]

    def blocks(self) -> Iterator[list[Tensor]]:
        """Index batches from this step on, in lists of at most a block; a list ends where something falls due."""
        size = 1 if self.trainer.world_size > 1 else self.fit.loop["block"]
        rows, steps = len(self.phase.stage.train), range(self.step, self.phase.total)
        block: list[Tensor] = []
        for step, batch in enumerate(batches(rows, self.fit.budget["batch_size"], steps, self.epoch_order), self.step + 1):
            block.append(batch)
            if len(block) == size or self.row_due(step) or self.validation_due(step) or self.phase.calls_back(step):
                if self.stop.is_set():
                    return
                yield block
                block = []

    def epoch_order(self, epoch: int) -> Tensor:
        """The order of the rows in an epoch: [rows], or [rows, orders]."""
        rows, phase = len(self.phase.stage.train), self.phase
        if phase.orders is None:
            return torch.randperm(rows, generator=generator(*phase.order, epoch))
        side = [(self.fit.seed, "order", name) for name in phase.orders]
        return torch.stack([torch.randperm(rows, generator=generator(*order, epoch)) for order in side], 1)

    def block(self, batches: list[Tensor]) -> None:
        """The optimiser steps on these batches, and what falls due after them."""
        if self.stop.is_set():
            return
        if not self.trained_beside(batches):
            with self.quick_pass(), self.on_this_device(batches) as part:
                self.steps(part)
        self.counted += len(batches)
        with self.learner.full_precision():
            self.after_block()

    def quick_pass(self) -> AbstractContextManager:
        """Inside, the net's pass is compiled, if that is asked for (compiled.py)."""
        if self.fit.compiled is None:
            return nullcontext()
        return self.fit.compiled.steps(self.phase.method.net, self.trainer.strategy.root_device)

    def trained_beside(self, batches: list[Tensor]) -> bool:
        """Have the steps made where this net trains together with those of other runs; False: it trains alone now."""
        beside = self.fit.beside
        if beside is None or (done := beside.steps(self, batches)) is None:
            return False
        self.losses = done.losses if self.losses is None else self.losses + done.losses
        self.step += len(batches)
        self.earlier += done.seconds
        self.companions.update(beside.companions)
        return True

    @contextmanager
    def on_this_device(self, batches: list) -> Iterator[list]:
        """This device's part of a block's batches: of several devices, whose blocks are of one batch, each has every n-th row."""
        if self.learner.world == 1:
            yield batches
            return
        (batch,) = batches
        rows = len(batch)
        self.weight = devices.weight(rows)
        with devices.batch(rows, norms=bool(self.fit.trainer.get("sync_batchnorm"))):
            yield [batch[devices.share(rows)]]

    def steps(self, batches: list[Tensor]) -> None:
        """The optimiser steps on these batches."""
        phase, hooks, learner, optimizer, take = self.phase, self.hooks, self.learner, self.optimizer, self.take
        method, stage, factors = phase.method, phase.stage, self.factors
        plain = learner.plain
        update = learner.stepper(unscaled=hooks.after_backward is not None)
        losses, step, progress, watched = self.losses, self.step, None, False
        batch_size, weight = self.fit.budget["batch_size"], self.weight
        across = nullcontext() if weight is None else AcrossDevices()
        for batch in batches:
            if self.fit.compiled is not None:
                compiled.begin_step(self.trainer.strategy.root_device)
            if factors is not None:
                self.set_rates(factors[step])
            if hooks.any:
                progress = Progress(step, phase.total, phase.name, stage, phase.stream, batch_size)
                watched = hooks.wants_weight_gradients is not None and hooks.wants_weight_gradients(progress)
            if hooks.before_step is not None:
                hooks.before_step(progress)
            with across:
                loss = self.weight_gradients.loss(take(batch), stage) if watched else method.loss(take(batch), stage)
            loss = loss if weight in (None, 1.0) else loss * weight
            optimizer.zero_grad(set_to_none=True)
            if plain:
                loss.backward()
            else:
                learner.manual_backward(loss)
            if watched:
                method.weight_gradients = self.weight_gradients.taken(learner.averaged)
            if hooks.after_backward is not None:
                learner.unscale()
                hooks.after_backward(progress)
            update()
            if hooks.after_step is not None:
                hooks.after_step(progress, optimizer)
            if watched:
                method.weight_gradients = {}
            seen = loss.detach() if weight is None else devices.mean_over_devices(loss)
            losses = seen if losses is None else losses + seen
            step += 1
        self.losses, self.step = losses, step

    def set_rates(self, factor: float) -> None:
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor

    # ---- what falls due between blocks

    def after_block(self) -> None:
        """Callbacks, rows of the history, evaluations on the validation split, progress, the checkpoint."""
        fit, phase, step, values = self.fit, self.phase, self.step, {}
        if phase.calls_back(step) or self.validation_due(step):
            self.settle_norms()
        if phase.calls_back(step):
            phase.callbacks_at_steps[1]()
        if self.row_due(step):
            values["loss"] = self.mean_loss()
        if self.validation_due(step):
            validation = self.validate()
            self.curve.append({"step": step} | validation)
            values |= validation
        if self.row_due(step):
            values |= phase.method.progress_metrics()
        if values:
            self.rows.append((step, values))
            self.write(step, values)
        fit.watch(phase.name, step, phase.total, values)
        if fit.journal.due() or (fit.beside is not None and fit.beside.due):
            fit.journal.save(self.checkpoint())

    def settle_norms(self) -> None:
        """Let the running statistics of batch norms be those of the first device wherever anything looks at them: unless
        trainer.sync_batchnorm is asked for, each device has gathered them from its own rows."""
        norms = [module for module in self.phase.method.modules() if isinstance(module, BATCH_NORMS)]
        devices.as_on_first([tensor for norm in norms for tensor in norm.buffers(recurse=False)])

    def row_due(self, step: int) -> bool:
        return step % self.fit.loop["log_every"] == 0 or step == self.phase.total

    def validation_due(self, step: int) -> bool:
        every = self.fit.budget["validate_every"]
        return bool(every) and (step % every == 0 or step == self.phase.total)

    def mean_loss(self) -> float:
        """Mean training loss per step since the last call."""
        mean = float(self.losses) / self.counted
        self.losses, self.counted = None, 0
        return mean

    def write(self, step: int, values: dict[str, float]) -> None:
        """One row of the history."""
        journal = self.fit.journal
        self.fit.log(journal.name, self.phase.name, step, journal.tally["steps"] + step - self.phase.begin, values)

    def validate(self) -> dict[str, float]:
        """Loss and accuracy on the validation split (and the test split, where its curve is asked for, to be reported
        and never chosen by), without disturbing the training's randomness."""
        method, stage = self.phase.method, self.phase.stage
        splits = {"val": stage.val} | ({"test": stage.test} if self.fit.budget["test_curve"] else {})
        with seeded(*self.phase.stream, "validate"):
            values = {kind: evaluate.loss_and_accuracy(method, stage, split) for kind, split in splits.items()}
        method.train()
        return {f"{kind}_{name}": value for kind, numbers in values.items() for name, value in numbers.items()}

    def seconds(self) -> float:
        return self.earlier + time.process_time() - self.begun

    # ---- interruptions

    def checkpoint(self) -> dict[str, Any]:
        """All that the rest of this phase depends on, as tensors and plain containers."""
        return {
            "step": self.step,
            "method": snapshot(self.phase.method),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.trainer.precision_plugin.state_dict(),
            "rng": generator_states(),
            "curve": self.curve,
            "losses": None if self.losses is None else self.losses.cpu(),
            "counted": self.counted,
            "cpu_seconds": self.seconds(),
            "side_by_side": sorted(self.companions),
        }

    def restore(self, checkpoint: dict, device: torch.device) -> None:
        """Take up a checkpoint; the journal has set the method already, and generators are set when training starts."""
        self.step = checkpoint["step"]
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        if checkpoint.get("scaler"):  # 16-mixed precision has one
            self.trainer.precision_plugin.load_state_dict(checkpoint["scaler"])
        self.curve, self.earlier = checkpoint["curve"], checkpoint["cpu_seconds"]
        self.companions.update(checkpoint.get("side_by_side", ()))
        if checkpoint["losses"] is not None:
            self.losses, self.counted = checkpoint["losses"].to(device), checkpoint["counted"]

    def set_generators(self, checkpoint: dict | None) -> None:
        """The global generators, as they stood at the checkpoint or at the start of the phase's stream."""
        if checkpoint:
            set_generators(checkpoint["rng"])
        else:
            torch.manual_seed(seed_for(*self.phase.stream))
