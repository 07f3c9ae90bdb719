"""Plain training of one dense net: the baseline, and with stages one after another the net that forgets (fine-tuning).

Started from a lottery ticket, the ticket's mask stays on: what it prunes is zero throughout.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from maskbench.backbones import pretrained
from maskbench.backbones.per_stage import PrivateHeads, in_head
from maskbench.common.errors import UsageError
from maskbench.data.stage import Stage
from maskbench.masks import densities, sites
from maskbench.masks.stores import TensorStore
from maskbench.methods.continual import outputs as over
from maskbench.methods.continual.outputs import Outputs
from maskbench.training.method import Method


@final
class Dense(Method):
    """A dense net trained plainly, or under the fixed mask of a lottery ticket. A stage with another number of outputs than the
    net's has a head of its own.

    Args:
        net: any backbone.
        init: null, or `ticket:FILE`, whose initial values and mask are taken: the ticket.safetensors in a finished run's
            directory, what `maskbench export` wrote with masks, or the state dict of a net that torch.nn.utils.prune has pruned.
        outputs: with stages one after another, which outputs of a head over all classes the loss sees: those of the classes
            `seen` so far, `all`, or the `stage`'s own; null: all that the data's labels ask for.
        moves: `all` that the net has (null), or `sites`: the head and the weights that masks may stand on, as mask methods move
            them (masks/sites.py); biases, norms and, of a net that has such, depthwise convolutions and the stem stay.
    """

    keeps_given_stage: ClassVar = True

    def __init__(
        self,
        net: nn.Module,
        *,
        init: str | None = None,
        outputs: Outputs | None = None,
        moves: Literal["all", "sites"] | None = None,
    ) -> None:
        super().__init__(net)
        self.moving = sites(net, skip=["head"] if hasattr(net, "head") else []) if moves == "sites" else []
        self.outputs = outputs
        self.mask = TensorStore()
        self.masked = init is not None
        self.heads = PrivateHeads(getattr(net, "head", None), always=False)
        self.stage = 0  # in training; follows from the stage that learns
        if init is not None:
            self.start(init)

    def learn(self, stage: Stage, fit: Callable) -> None:
        self.stage = stage.index
        if stage.own_head["outputs"] is not None:
            self.heads.open(stage.index, self.net.head, **stage.own_head)
        fit(self, stage)

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        moving = self.heads.trainable(self.net, self.stage)
        if not self.moving:
            return moving
        fixed = {id(w) for name, w in self.net.named_parameters() if not (name in self.moving or in_head(name))}
        return (w for w in moving if id(w) not in fixed)

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        own = self.heads.kept.names() and stage.index in self.heads  # most nets have none, and answer alike for any stage
        head = self.heads.of(stage.index) if own else {}
        return {name: self.net.get_parameter(name) * self.mask[name] for name in self.mask.names() if name not in head} | head

    def loss(self, batch: tuple[Tensor, Tensor], stage: Stage) -> Tensor:
        if self.outputs is None:
            return super().loss(batch, stage)
        x, y = batch
        return over.loss(self.logits(x, stage), y, stage, self.outputs)

    def has_learned(self, stage: Stage) -> bool:
        """A stage with a head of its own has no answer before it."""
        return stage.own_head["outputs"] is None or stage.index in self.heads

    def memory(self) -> dict[str, int]:
        """One net, norm statistics too; heads that stages have of their own come with them (`memory_after`)."""
        return {"shared": sum(value.numel() * value.element_size() for value in self.net.state_dict().values()), "stage": 0}

    def memory_after(self, stage: Stage) -> int:
        """Bytes once a stage is learnt: the net, and heads that stages have of their own."""
        return self.memory()["shared"] + self.heads.bytes_upto(stage.index)

    def predict(self, x: Tensor, stage: Stage) -> Tensor:
        """One member's; of a net that answers for several itself (backbones/foreign.py), theirs: [members, batch, classes]."""
        answer = stage.link(self.logits(x, stage))
        return answer if answer.ndim == 3 and not stage.regression else answer[None]

    def masked_weights(self) -> list[str]:
        return self.mask.names()

    def masks(self) -> dict[str, Tensor]:
        return {f"0/{name}": self.mask[name].bool() for name in self.mask.names()}

    def extra_metrics(self) -> dict[str, float]:
        kept = {name: self.mask[name] for name in self.mask.names()}
        return {"density": densities(self.net, kept)["density"]} if self.masked else {}

    @torch.no_grad()
    def start(self, init: str) -> None:
        """Take initial values and mask from a ticket.

        Raises:
            UsageError: `init` names no ticket, or one of another backbone.
        """
        kind, _, path = init.partition(":")
        if kind != "ticket" or not Path(path).is_file():
            raise UsageError(f"init={init} must be ticket:FILE, the ticket.safetensors in a finished run's directory")
        values, kept = pretrained.ticket(Path(path), f"init={init}")
        own = self.net.state_dict()
        values, kept = pretrained.match(self.net, values), pretrained.match(self.net, kept)
        lacking = [n for n, v in own.items() if n not in values.taken or values.taken[n].shape != v.shape]
        strange = [*values.unexpected, *kept.unexpected, *(n for n, m in kept.taken.items() if m.shape != own[n].shape)]
        if any(not n.endswith(pretrained.COUNTER) for n in [*lacking, *strange]):
            raise UsageError(f"the ticket {path} is of another backbone or number of classes than this run's")
        self.net.load_state_dict(own | values.taken)
        for name, mask in kept.taken.items():
            self.mask.put(name, mask.float())
