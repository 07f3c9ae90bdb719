"""The one LightningModule, and the lean Trainer it runs under.

A Lightning batch is a block of `block` optimiser steps, each on an index into tensors that stay in memory: Lightning's
cost per batch is paid once a block, and nothing is logged inside it. block = 1 gives the same bits. Optimiser steps are
counted here (Lightning counts blocks); with several devices a block is one step, and Lightning synchronises gradients.
"""

import logging
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.utilities.exceptions import MisconfigurationException, SIGTERMException
from torch import Tensor

from maskbench.common.errors import UsageError
from maskbench.data.stage import Stage
from maskbench.training.method import Method


class Learner(pl.LightningModule):
    """Optimiser steps on one method and stage.

    Args:
        rates: learning rate of each of the optimiser's groups, before `factor`.
        take: what turns a batch of a block into (inputs, targets).
        factor: learning-rate factor of a step, or None for a constant rate.
        begin: called when everything is in place, before the first step.
        after: called with the learner after each block.
    """

    def __init__(
        self,
        method: Method,
        stage: Stage,
        *,
        optimizer: torch.optim.Optimizer,
        rates: list[float],
        take: Callable,
        factor: Callable[[int], float] | None,
        step: int,
        begin: Callable[[], None],
        after: Callable[["Learner"], None],
        stop: threading.Event,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.method, self.stage, self.optimizer, self.take, self.factor = method, stage, optimizer, take, factor
        self.step, self.begin, self.after, self.stop = step, begin, after, stop
        self.rates = rates
        self.losses: Tensor | None = None  # summed since last read
        self.counted = 0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimizer

    def on_train_start(self) -> None:
        self.begin()

    def training_step(self, block: list, _: int) -> None:
        if self.stop.is_set():
            return
        method, stage, take, factor = self.method, self.stage, self.take, self.factor
        plain = self.trainer.world_size == 1 and self.trainer.precision == "32-true"
        optimizer = self.optimizers(use_pl_optimizer=not plain)  # Lightning's wrapper carries scaling, at a cost
        rank, world = self.trainer.global_rank, self.trainer.world_size
        losses, step = self.losses, self.step
        for batch in block:
            if world > 1:
                batch = batch[rank::world]
            if factor is not None:
                self.set_rates(factor(step))
            loss = method.loss(take(batch), stage)
            optimizer.zero_grad(set_to_none=True)
            if plain:
                loss.backward()
            else:
                self.manual_backward(loss)
            optimizer.step()
            losses = loss.detach() if losses is None else losses + loss.detach()
            step += 1
        self.losses, self.step = losses, step
        self.counted += len(block)
        self.after(self)

    def set_rates(self, factor: float) -> None:
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor

    def mean_loss(self) -> float:
        """Mean training loss per step since the last call."""
        mean = float(self.losses) / self.counted
        self.losses, self.counted = None, 0
        return mean


def lean_trainer(keys: dict[str, Any]) -> pl.Trainer:
    """Lightning's Trainer without what this bench does itself (records, checkpoints, progress): some 10 ms a phase."""
    with quiet(), looking_for_gpus(keys.get("accelerator") != "cpu"):
        return pl.Trainer(
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            **keys,
        )


def check_trainer(keys: dict[str, Any]) -> None:
    """
    Raises:
        UsageError: Lightning refuses these settings on this machine.
    """
    try:
        lean_trainer(keys)
    except (MisconfigurationException, ValueError, TypeError, ImportError) as error:
        if keys["accelerator"] == "cpu":
            mend = "mend trainer.KEY=VALUE"
        else:
            mend = f"torch sees {torch.cuda.device_count()} CUDA GPUs: use trainer=cpu, or no more trainer.devices than there are"
        what = f"trainer.accelerator={keys['accelerator']}, devices={keys['devices']}"
        raise UsageError(f"{what}: {sentence(error)}; {mend}.") from error


def sentence(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".!")


def train(trainer: pl.Trainer, learner: Learner, loader: Iterable) -> None:
    """
    Raises:
        UsageError: Lightning's Trainer was given a key with which it does not train this learner.
    """
    try:
        with looking_for_gpus(not isinstance(trainer.accelerator, CPUAccelerator)):
            trainer.fit(learner, train_dataloaders=loader)
    except MisconfigurationException as error:
        raise UsageError(f"{sentence(error)}; mend trainer.KEY=VALUE.") from error
    except SIGTERMException:
        learner.stop.set()
    except SystemExit:  # Lightning's answer to a KeyboardInterrupt
        raise KeyboardInterrupt from None


@contextmanager
def on_signal(stop: threading.Event) -> Iterator[None]:
    """Ctrl-C or SIGTERM ends training after the block under way, so that nothing is lost; a second Ctrl-C ends it at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def looking_for_gpus(wanted: bool) -> Iterator[None]:
    """On the CPU, spare Lightning its five looks for GPUs a phase, each of which loads a driver library anew."""
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not wanted:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    try:
        yield
    finally:
        if not wanted:
            if before is None:
                del os.environ["CUDA_VISIBLE_DEVICES"]
            else:
                os.environ["CUDA_VISIBLE_DEVICES"] = before


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Lightning's advertisements and remarks on our unusual loader off the terminal; its warnings stay."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for message in (
            ".*LeafSpec.*",
            ".*in eval mode at the start of training.*",
            ".*does not have many workers.*",
            ".*smaller than the logging interval.*",
        ):
            warnings.filterwarnings("ignore", message=message)
        yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
