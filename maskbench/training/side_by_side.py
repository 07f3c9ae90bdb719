"""Runs side by side: phases of training of several runs, each a process of its own, whose steps one more process makes as one
wide net (wide.py, group.py).

A run brings its net to each phase, waits until every run that is at work has come to one, and from then on hands over the
batches of a block and gets values, moments and losses back; all else (data order, history, evaluations, checkpoints) is its own,
as if it trained alone. Runs that are at the same step of phases that fit each other train together; the others train alone, and
whoever is ahead waits. When one leaves in the middle, the rest come together anew. Nothing is kept in the process that
trains: a run holds its whole state after each block, and goes on alone where that process ends.

    a run says                        it is answered
    Arrival, at a phase, or again     its place among the nets and the names of all; None: train alone
    Block: how many rows, rates       Done; None: somebody has left, arrive again
"""

import copy
import io
import logging
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from multiprocessing.connection import Connection
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from maskbench.common.streams import seeded
from maskbench.training.method import Method
from maskbench.training.wide import ELEMENTWISE, Moments, Own, Part, Values, Wide

log = logging.getLogger("maskbench")
CLOSE = 1e-4  # of the nets' outputs in the trial, relative to the largest
link: Connection | None = None  # of this process, if it is a run beside others (cli/forks.py)


@dataclass(frozen=True)
class Arrival:
    """A run has come to a phase of training.

    Attributes:
        name: of the run.
        place: how far it is: parts of its task, phases of that part.
        fits: what must be equal for training together; None: this phase it trains alone, and waits for no answer.
    """

    name: str
    place: tuple[int, int]
    fits: str | None = None
    net: nn.Module | None = None
    part: Part | None = None
    optimizer: tuple[type, dict[str, Any]] | None = None
    criterion: Callable | None = None
    steps: tuple[int, int] = (0, 0)  # next, and of the phase
    inputs: tuple[int, int, int] = (0, 0, 0)  # steps of a block, rows of a batch, inputs of a row
    targets: tuple[tuple[int, ...], torch.dtype] = ((), torch.int64)


@dataclass(frozen=True)
class Block:
    """The batches of a block lie in the shared memory: the rows of each, the learning rates, and whether to save after it."""

    rows: list[int]
    rates: list[float]
    due: bool


@dataclass(frozen=True)
class Done:
    """What a block made of one net: its losses, values and moments, its part of the CPU time; whether a run has to save."""

    losses: Tensor
    values: Values
    moments: Moments
    seconds: float
    due: bool


class Training(Protocol):
    """What a run hands over of a phase under way (loop.py)."""

    fit: Any
    phase: Any
    hooks: Any
    step: int
    trainer: Any
    optimizer: torch.optim.Optimizer
    rates: list[float]
    factors: list[float] | None
    take: Callable[[Tensor], tuple[Tensor, Tensor]]


class Packer(pickle.Pickler):
    """Tensors by their numbers: torch's own way takes ten times as long for small ones, and keeps all that they are views of."""

    def reducer_override(self, value: Any) -> Any:
        if type(value) in (Tensor, nn.Parameter) and value.device.type == "cpu":
            return torch.from_numpy, (value.detach().contiguous().numpy(),)
        return NotImplemented


def packed(message: object) -> bytes:
    """What the other end of a link unpickles."""
    buffer = io.BytesIO()
    Packer(buffer, pickle.HIGHEST_PROTOCOL).dump(message)
    return buffer.getvalue()


# ---- in a run


def here(name: str) -> "Beside | None":
    """The side of this process, if it is a run that was started beside others; its name among them."""
    return None if link is None else Beside(link, name)


class Beside:
    """A run's side of it.

    Args:
        link: to the process that trains.
        name: of the run, by which others record it.
    """

    def __init__(self, link: Connection, name: str) -> None:
        self.link: Connection | None = link
        self.name = name
        self.together = False  # with others, in the phase under way
        self.companions: list[str] = []  # in it
        self.seconds = 0.0  # of CPU time that the other process spent on this run
        self.due = False  # whether a run beside this one saves now, so that after a crash all go on at the same step

    def join(self, training: Training) -> None:
        """Come to a phase, as it begins or goes on."""
        journal = training.fit.journal
        place = (len(journal.done), len(journal.phases))
        self.together = self.due = False
        self.own = own(training)
        if self.own is None:
            self.say(Arrival(self.name, place))
            return
        phase, fit = training.phase, training.fit
        self.say(arrival(self.name, place, training, self.own))
        if (answer := self.hear()) is None:
            return
        self.number, names = answer
        try:
            self.x, self.y = self.link.recv()
        except (EOFError, OSError):
            self.lose()
            return
        self.together, self.companions = True, [name for name in names if name != self.name]
        log.debug("%s %s side by side with %s, %s", fit.journal.name, phase.name, ", ".join(self.companions), place)

    def steps(self, training: Training, batches: Sequence[Tensor]) -> Done | None:
        """Have the steps on these index batches made, and take what they made of the net; None: train them here."""
        drawn = torch.get_rng_state()  # augmentations draw from it: each batch is to be drawn once, whoever trains on it
        while self.together:
            if (done := self.ask(training, batches)) is not None:
                self.own.take(done.values, done.moments, training.optimizer)
                self.due = done.due
                self.seconds += done.seconds
                return done
            torch.set_rng_state(drawn)
            self.together = False
            if self.link is not None:
                self.join(training)
        self.due = False
        return None

    def ask(self, training: Training, batches: Sequence[Tensor]) -> Done | None:
        """Hand over the batches of a block; None where it was not trained."""
        for number, batch in enumerate(batches):
            x, y = training.take(batch)
            self.x[number, self.number, :, : len(batch)].copy_(x.flatten(1).t())
            self.y[number, : len(batch), self.number].copy_(y)
        factors = training.factors[training.step : training.step + len(batches)] if training.factors else [1.0] * len(batches)
        rates = [training.rates[0] * factor for factor in factors]
        self.say(Block([len(batch) for batch in batches], rates, training.fit.journal.due()))
        return self.hear()

    def say(self, message: object) -> None:
        if self.link is not None:
            try:
                self.link.send_bytes(packed(message))
            except OSError:
                self.lose()

    def hear(self) -> Any:
        """The answer; None too where nobody is left to give it."""
        if self.link is not None:
            try:
                return pickle.loads(self.link.recv_bytes())
            except (EOFError, OSError):
                self.lose()
        return None

    def lose(self) -> None:
        log.warning("the process that trains runs side by side has ended: this one goes on alone")
        self.link = None


def own(training: Training) -> Own | None:
    """The net of a phase, as it can train beside others; None if it cannot.

    Its masks stand still, its net is Linear layers with nothing between them but what acts on each unit by itself, which is
    tried, and some layer trains its kept values alone: where none does, dense products are cheaper.
    """
    phase, trainer, optimizer = training.phase, training.trainer, training.optimizer
    method, stage = phase.method, phase.stage
    plain = trainer.world_size == 1 and trainer.precision == "32-true" and trainer.strategy.root_device.type == "cpu"
    usual = type(method).loss is Method.loss and type(method).logits is Method.logits and not training.hooks.any
    still = hasattr(method, "fixed_masks") and phase.cached is None and phase.orders is None and stage.folds == 1
    if not (plain and usual and still and type(optimizer) in ELEMENTWISE and len(optimizer.param_groups) == 1):
        return None
    linear = {id(p) for module in method.net.modules() if type(module) is nn.Linear for p in module.parameters(recurse=False)}
    if {id(p) for p in method.net.parameters()} != linear:
        return None
    with torch.no_grad(), seeded("trial"):
        x = torch.randn(2, *stage.shape)
        stands_in, masks = method.effective_weights(x, stage), method.fixed_masks()
        found = Own(method.net, stands_in, masks)
        moving = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if not found.thin or not stands_in.keys() <= masks.keys() or {id(p) for p in found.held.values()} != moving:
            return None
        return found if agrees(found, method, stage, x) else None


def agrees(found: Own, method: Method, stage: Any, x: Tensor) -> bool:
    """Whether twice the net, as one, answers what it answers itself."""
    alone = method.logits(x, stage)
    try:
        twice = Wide(method.net, [found.part(torch.optim.SGD([nn.Parameter(x)]))] * 2, torch.optim.SGD)
        outputs = twice.logits(torch.cat([x.flatten(1), x.flatten(1).flip(0)], 1))
    except (RuntimeError, IndexError, TypeError, ValueError):  # shapes that do not fit: its layers are not all in a row
        return False
    expected = torch.stack([alone, alone.flip(0)], 1)
    return outputs.shape == expected.shape and bool((outputs - expected).abs().max() <= CLOSE * (1 + expected.abs().max()))


def arrival(name: str, place: tuple[int, int], training: Training, net: Own) -> Arrival:
    """What a run brings to a phase."""
    phase, fit, optimizer = training.phase, training.fit, training.optimizer
    y = phase.stage.train.y
    options = {key: value for key, value in optimizer.param_groups[0].items() if key not in ("params", "name", "lr")}
    steps, inputs = (training.step, phase.total), (fit.loop["block"], fit.budget["batch_size"], prod(phase.stage.shape))
    part, targets = net.part(optimizer), (tuple(y.shape[1:]), y.dtype)
    fits = (phase.name, phase.begin, phase.lr, steps, inputs, targets, len(y), part.shapes, list(part.values), type(optimizer),
            options, phase.stage.criterion, fit.loop["log_every"], fit.budget["validate_every"])  # fmt: skip
    outline = copy.deepcopy(phase.method.net).to("meta")
    return Arrival(
        name, place, repr(fits), outline, part, (type(optimizer), options), phase.stage.criterion, steps, inputs, targets
    )
