"""What a method is: five verbs over one backbone, of which each paper overrides the one to four that make it itself, and hooks
into the training step for those that act at every step.

Every paper here is y = f(x; w * m): a mask is a tensor that stands beside a named tensor of the backbone, and masks meet the
network in one place, `call(net, effective_weights, x)` (stand_in.py). The backbone stays a plain module with plain keys.

What a method keeps are buffers; what moves is what `trainable_parameters()` yields, and only that reaches an optimiser. All
of a method's memory is its `state_dict()`: attributes set in `learn` must follow from the stage alone, and what a hook
remembers from one step to the next must be a buffer.

    verb                    question                                           plain training
    effective_weights       which tensors stand in for the backbone's own?     none
    trainable_parameters    what may the optimiser move?                       all of the backbone's
    loss                    what is minimised?                                 the stage's criterion
    learn                   what happens around training, in what order?       one phase of training
    predict                 what do the members answer?                        one member

    hook                    called in each optimiser step, with a `Progress`
    before_step             before the loss is computed: anneal a temperature, redraw a mask
    wants_weight_gradients  whether this step's gradient of the effective weights is wanted, masked-out entries included
    after_backward          gradients are there, averaged over devices, and may be changed in place
    after_step              weights have moved; the optimiser and its moments are at hand

A hook that is not overridden is not called, so it costs nothing. Hooks run without autograd, on every device alike, and give
the same bits at every block size and after an interruption.
"""

from collections.abc import Callable, Iterator
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from maskbench.backbones.norm import keep_still
from maskbench.backbones.per_stage import PrivateHeads
from maskbench.common import knobs
from maskbench.common.errors import UsageError
from maskbench.common.streams import generator
from maskbench.data.stage import Stage
from maskbench.training.stand_in import call

EARLIER = {  # names of verbs before they were the field's own words
    "effective": "effective_weights",
    "movable": "trainable_parameters",
    "readings": "prediction_modes",
    "knows": "has_learned",
    "facts": "extra_metrics",
    "marks": "fingerprints",
}


class Progress(NamedTuple):
    """Where in a phase of training a hook is called.

    Attributes:
        step: the optimiser step under way, from 0 to total - 1 (from `begin` in a phase that starts later).
        total: optimiser steps of the phase.
        phase: its name in the history, such as "train".
        stage: what is trained on.
        stream: the name of the phase's random stream.
        batch_size: rows of a batch, of all devices together; an epoch's last batch may be shorter.
    """

    step: int
    total: int
    phase: str
    stage: Stage
    stream: tuple
    batch_size: int = 1

    @property
    def fraction(self) -> float:
        """0 at the phase's first step, 1 at its last."""
        return self.step / max(1, self.total - 1)

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.stage.train) // self.batch_size)

    @property
    def row(self) -> int:
        """How many rows of the epoch came before this step's batch."""
        return self.step % self.steps_per_epoch * self.batch_size

    def generator(self, *names: object) -> torch.Generator:
        """A CPU generator for what a hook draws in this step: the same on every device, without touching the training's own."""
        return generator(*self.stream, "hook", self.step, *names)


class Method(nn.Module):
    """Plain training of a dense net: the default of every verb; the module's docstring lists verbs and hooks.

    Subclasses are final: what two methods share is a function or a small object, never a parent.

    Attributes:
        keeps_given_stage: whether `learn` leaves a first stage that the net came trained on (Stage.given) answered by the net,
            though nothing is trained on it.
    """

    keeps_given_stage: ClassVar = False

    def __init_subclass__(cls, **more: Any) -> None:
        """Let the constructor refuse knobs of a wrong type or outside their range (knobs.py).

        Raises:
            UsageError: a verb is written under its earlier name, where nobody would call it.
        """
        super().__init_subclass__(**more)
        if "__init__" in vars(cls):
            cls.__init__ = knobs.checked(cls.__init__)
        for old, new in EARLIER.items():
            if old in vars(cls):
                raise UsageError(f"{cls.__module__}.{cls.__qualname__}: {old}() is now called {new}(); rename it")

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.weight_gradients: dict[str, Tensor] = {}  # see wants_weight_gradients

    # ---- the five verbs

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        """Which tensors stand in for the backbone's own? By the backbone's parameter or buffer name; none: dense."""
        return {}

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        """What may the optimiser move? Asked at the start of each phase; the rest gets no gradient."""
        return self.net.parameters()

    def loss(self, batch: tuple[Tensor, Tensor], stage: Stage) -> Tensor:
        """What is minimised? A scalar from (inputs [batch, ...], targets [batch])."""
        x, y = batch
        return stage.criterion(self.logits(x, stage), y)

    def learn(self, stage: Stage, fit: Callable) -> None:
        """What happens around training, in what order? `fit(self, stage, **phase)` is one phase of training."""
        fit(self, stage)

    def predict(self, x: Tensor, stage: Stage) -> Tensor:
        """Members' predictions [members, batch, outputs]: probabilities for classes, values for reals.

        `stage.link` makes them of a net's outputs. Apply it to each member's outputs and to nothing else: under a link that
        takes logarithms the same function gives log-probabilities, which scores are made of (training/evaluate.py).
        """
        return stage.link(self.logits(x, stage))[None]

    # ---- hooks into an optimiser step: called only where overridden, without autograd

    def before_step(self, progress: Progress) -> None:
        """Before the loss of this step is computed; its learning rate is set."""

    def wants_weight_gradients(self, progress: Progress) -> bool:
        """Whether `after_backward` and `after_step` of this step find `weight_gradients`.

        They hold the gradient of the loss with respect to each tensor that `effective_weights` returned for one of the
        backbone's parameters, by name and of that tensor's shape: dense, so entries that a mask holds at 0 have theirs
        too. Calls within one loss add up; devices are averaged. What the method leaves to the backbone itself is not among
        them: its gradient is `.grad`. Costs one copy of these tensors, at the steps that want it.
        """
        return False

    def after_backward(self, progress: Progress) -> None:
        """Gradients are in `.grad` of what may move (None: none reached it), averaged over devices: change them in place.

        Under trainer.precision=16-mixed they are unscaled, and not finite in steps that the scaler will skip.
        """

    def after_step(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        """The weights have moved; `optimizers.moments(optimizer, parameter)` yields what must be masked or reset with them."""

    # ---- what every method has

    def train(self, mode: bool = True) -> Self:
        """Norms that stay as they came with the net's weights (backbone.init_norm=still) never are in training mode."""
        super().train(mode)
        if mode:
            keep_still(self)
        return self

    def logits(self, x: Tensor, stage: Stage) -> Tensor:
        """The backbone's output [batch, outputs] under the tensors of `stage`."""
        tensors = self.effective_weights(x, stage)
        return call(self.net, tensors, x) if tensors else self.net(x)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """What is movable, by the name of the part that an optimiser may move by a rule of its own (optimizers.py)."""
        return {"": list(self.trainable_parameters())}

    def head_apart(self) -> dict[str, list[nn.Parameter]]:
        """What is movable in two groups: `head`, output layers, the net's own or a stage's, and `trunk`, all else."""
        layers = [self.net.head] if hasattr(self.net, "head") else []
        layers += [module for module in self.modules() if isinstance(module, PrivateHeads)]
        heads = {id(p) for layer in layers for p in layer.parameters()}
        moving = list(self.trainable_parameters())
        parts = {"trunk": [p for p in moving if id(p) not in heads], "head": [p for p in moving if id(p) in heads]}
        return {name: those for name, those in parts.items() if those}

    # ---- what a method may add to the record

    def prediction_modes(self) -> dict[str, Callable[[Tensor, Stage], Tensor]]:
        """Ways to read the method's answer, as `predict` is one: by name, "" the one that counts."""
        return {"": self.predict}

    def has_learned(self, stage: Stage) -> bool:
        """Whether an answer on `stage` is defined now; a mask method has none before it drew that stage's mask."""
        return True

    def masked_weights(self) -> list[str]:
        """Names of what this method's masks stand on: the backbone's parameters, or the gains of its gates (masks over units)."""
        return []

    def masks(self) -> dict[str, Tensor]:
        """The finished masks as bool tensors, named `<stage>/<weight>`; they are saved one bit a weight."""
        return {}

    def ticket(self) -> dict[str, Tensor]:
        """Tensors of a winning ticket: initial values by the backbone's own names, and a uint8 `mask|<name>` each."""
        return {}

    def memory(self) -> dict[str, int]:
        """Bytes that must be stored: `shared` by all stages, and for each further `stage`. A dense net stores itself."""
        return {"shared": sum(p.numel() * p.element_size() for p in self.net.parameters()), "stage": 0}

    def memory_after(self, stage: Stage) -> int:
        """Bytes that must be stored once `stage` has been learnt, for it and those before it; asked right then.

        For a method whose stages take unequal bytes: those of the codes of its masks, of the images it replays.
        """
        memory = self.memory()
        return memory["shared"] + (stage.index + 1) * memory["stage"]

    def progress_metrics(self) -> dict[str, float]:
        """Numbers of the method that move while a phase trains, for each row of the history: densities of layers, ..."""
        return {}

    def extra_metrics(self) -> dict[str, float]:
        """Numbers of the method itself for the record: density, share still free, ..."""
        return {}

    def fingerprints(self) -> dict[str, Any]:
        """What tells this draw from another, for the record: seeds, hashes; no numbers to average."""
        return {}
