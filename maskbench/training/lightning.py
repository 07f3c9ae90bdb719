"""All that the training loop (loop.py) needs of Lightning: the one LightningModule, a lean Trainer, signals, silence.

A Lightning batch is a block of optimiser steps, each on an index into tensors that stay in memory: Lightning's cost per batch
is paid once a block, and nothing is logged inside it. Steps are counted by the loop (Lightning counts blocks); with several
devices a block is one step, and Lightning averages gradients over them.
"""

import inspect
import logging
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities.exceptions import MisconfigurationException, SIGTERMException
from torch import Tensor
from torch.distributed import DistError
from torch.nn.parallel import DistributedDataParallel

from maskbench.common.errors import Alone, UsageError
from maskbench.training.method import Method

# keys of trainer that Lightning is not told: backbones/memory_format.py, training/across_devices.py
OURS = {"memory_format", "sync_batchnorm"}

# torch's key for handing buffers from the first device to the others at every step
AT_EVERY_STEP = "forward_sync_buffers"
if AT_EVERY_STEP not in inspect.signature(DistributedDataParallel).parameters:  # before torch 2.14
    AT_EVERY_STEP = "broadcast_buffers"


class Learner(pl.LightningModule):
    """What Lightning sees of a training, and what the training's loop needs of Lightning.

    Args:
        method: whose parameters Lightning moves to devices and keeps equal on them.
        optimizer: over what may move.
        start: called when everything is in place, before the first step.
        block: called with each block, a list of index batches; it makes the steps.
    """

    def __init__(
        self, method: Method, optimizer: torch.optim.Optimizer, *, start: Callable[[], None], block: Callable[[list], None]
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.method, self.optimizer, self.start, self.block = method, optimizer, start, block
        self.plain = False  # one device and full precision: backward and step are torch's own
        self.world = 1  # devices that train together

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimizer

    def on_train_start(self) -> None:
        self.world = self.trainer.world_size
        self.plain = self.world == 1 and self.trainer.precision == "32-true"
        self.start()

    def training_step(self, block: list, _: int) -> None:
        self.block(block)

    # ---- for the loop

    @property
    def scaler(self) -> torch.amp.GradScaler | None:
        """What multiplies the loss under 16-mixed precision, so that small gradients do not vanish."""
        return getattr(self.trainer.precision_plugin, "scaler", None)

    def stepper(self, *, unscaled: bool) -> Callable[[], Any]:
        """What makes the optimiser's step: torch's own, or Lightning's, which carries precision and strategy at a cost.

        `unscaled`: gradients were unscaled before, which Lightning would do again.
        """
        if self.plain:
            return self.optimizer.step
        if unscaled and self.scaler is not None:
            return self.scaled_step
        return self.optimizers().step

    def scaled_step(self) -> None:
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def unscale(self) -> None:
        """Gradients as if the loss had not been multiplied."""
        if not self.plain and self.scaler is not None:
            self.scaler.unscale_(self.optimizer)

    def full_precision(self) -> AbstractContextManager:
        """Inside, mixed precision is off: a net that trains in bf16 is evaluated in float32, on the way as at the end."""
        return nullcontext() if self.plain else torch.autocast(self.device.type, enabled=False)

    def averaged(self, gradient: Tensor) -> Tensor:
        """A gradient that is no parameter's, in its true size and averaged over devices as those of parameters are."""
        if self.plain:
            return gradient
        if self.scaler is not None:  # its factor as a tensor: nothing waits for the accelerator
            gradient = gradient / self.scaler.scale(torch.ones((), device=gradient.device))
        return self.trainer.strategy.reduce(gradient, reduce_op="mean")


def lean_trainer(keys: dict[str, Any], callbacks: Sequence[pl.Callback] = ()) -> pl.Trainer:
    """Lightning's Trainer without what this bench does itself (records, checkpoints, progress): some 10 ms a phase."""
    with quiet(), looking_for_gpus(keys.get("accelerator") != "cpu"):
        trainer = pl.Trainer(
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            callbacks=list(callbacks) or None,
            **{name: value for name, value in keys.items() if name not in OURS},
        )
    if isinstance(trainer.strategy, DDPStrategy):  # masks agree by themselves, and are many; running statistics: loop.py
        trainer.strategy._ddp_kwargs[AT_EVERY_STEP] = False
    return trainer


def check_trainer(keys: dict[str, Any]) -> None:
    """See whether a Trainer of these keys can be made here.

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


def check_callback(key: str, made: Any) -> None:
    """See whether what a config names is a callback.

    Raises:
        UsageError: Lightning would not take it.
    """
    if not isinstance(made, pl.Callback):
        raise UsageError(f"{key} makes no pytorch_lightning.Callback; name a class that is one.")


def sentence(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".!")


def train(trainer: pl.Trainer, learner: Learner, blocks: Iterable, stop: threading.Event) -> None:
    """Let the learner have all blocks; `stop` is set where Lightning was asked to end.

    Raises:
        UsageError: Lightning's Trainer was given a key with which it does not train this learner.
        Alone: one of several processes that train together has ended.
    """
    try:
        with looking_for_gpus(not isinstance(trainer.accelerator, CPUAccelerator)):
            trainer.fit(learner, train_dataloaders=blocks)
    except MisconfigurationException as error:
        raise UsageError(f"{sentence(error)}; mend trainer.KEY=VALUE, or callbacks where there are some.") from error
    except SIGTERMException:
        stop.set()
    except RuntimeError as error:
        if not (trainer.world_size > 1 and (isinstance(error, DistError) or "gloo" in str(error))):
            raise
        raise Alone(
            "a process that trained together with this one has ended (killed, perhaps as memory ran out): the same command goes "
            "on from the last checkpoint."
        ) from error
    except SystemExit:  # Lightning's answer to a KeyboardInterrupt
        raise KeyboardInterrupt from None


@contextmanager
def on_signal(stop: threading.Event, main: bool = True) -> Iterator[None]:
    """Ctrl-C or SIGTERM ends training after the block under way, so that nothing is lost; a second Ctrl-C ends it at once.

    Of several processes that train together only the `main` one listens: if each stopped by itself, they would not stop at the
    same step. The others end as it does.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def set_stop(number: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, set_stop if main else signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
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
    """Keep Lightning's advertisements, its remarks on our unusual loader and, on a machine of a Slurm cluster, its hint to start
    every run by srun off the terminal; its warnings stay."""
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
            "The `srun` command is available on your system but is not used",
        ):
            warnings.filterwarnings("ignore", message=message)
        yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
