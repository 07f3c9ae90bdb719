"""Deep ensembles: M nets that differ in their start and in the order of their data (Lakshminarayanan 2017, arXiv 1612.01474).

Each is trained on a proper scoring rule (cross-entropy; the Gaussian likelihood where the net has two outputs per value),
optionally also on inputs moved against it. The prediction is the uniform mixture of the members.
"""

from collections.abc import Callable, Iterator
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from maskbench.backbones.initial import fresh
from maskbench.backbones.norm import BATCH_NORMS
from maskbench.common import devices
from maskbench.common.knobs import Count, NonNegative
from maskbench.common.streams import seed_for, seeded, under_way
from maskbench.data.stage import Stage
from maskbench.masks.stores import TensorStore
from maskbench.training.method import Method

SMALL = 20_000  # weights; beyond that a batched product is no faster than one after another, on a core at batch 128
APART = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Dropout, BATCH_NORMS)  # slower side by side, or not possible


@final
class DeepEnsembles(Method):
    """M independently trained nets, averaged, with or without adversarial training.

    Args:
        net: the backbone whose shape all members have.
        members: M, how many nets.
        together: whether members train side by side as one batched net. `auto`: where that pays, which on a CPU is fully
            connected nets of few weights (convolutions are slower so). Apart, each member is a phase of training of its own.
        adversarial: `none`; `sign`: loss(x) + loss(x'), x' = x + reach * sign(d loss / d x), the sum as in the paper;
            `random`: random signs, the paper's control.
        reach: size of the adversary's move, as a share of each input's range in training.
    """

    drawn_by_rule: ClassVar = "its nets differ in their start, each a draw of its own"  # cli/parts.py

    def __init__(
        self,
        net: nn.Module,
        *,
        members: Count = 5,
        together: bool | Literal["auto"] = "auto",
        adversarial: Literal["none", "sign", "random"] = "none",
        reach: NonNegative = 0.01,
    ) -> None:
        super().__init__(net)
        self.members, self.adversarial, self.reach = members, adversarial, reach
        self.step: Tensor | None = None  # how far an adversary moves each input
        self.together = small(net) if together == "auto" else bool(together)
        self.alone: int | None = None  # the member that trains by itself just now, in `net`
        # of 52 bits, which every reader of JSON holds exactly
        self.seeds = {kind: [seed_for(under_way(), kind, m) >> 11 for m in range(members)] for kind in ("init", "order")}
        starts = [self.start(m) for m in range(members)]
        self.names = [name for name, _ in net.named_parameters()]
        self.w = nn.ParameterDict({key(name): torch.stack([start[name] for start in starts]) for name in self.names})
        self.still = TensorStore()  # norm statistics, [members, ...]
        for name in starts[0].keys() - set(self.names):
            self.still.put(name, torch.stack([start[name] for start in starts]))

    def start(self, member: int) -> dict[str, Tensor]:
        """Initial values of a member, which its own seed alone decides."""
        with seeded(self.seeds["init"][member]):
            return fresh(self.net)

    # ---- the algorithm

    def learn(self, stage: Stage, fit: Callable) -> None:
        """All members side by side in one phase, or each in a phase of its own."""
        if self.adversarial != "none":
            x, _ = stage.train.tensors()
            self.step = self.reach * (x.amax(0) - x.amin(0))  # follows from the stage
        orders = [f"member {seed}" for seed in self.seeds["order"]]
        if self.together:
            fit(self, stage, name="members", orders=orders)
            return
        for member, order in enumerate(orders):
            own = self.net.state_dict()
            for name, value in self.member(member).items():
                own[name].copy_(value)
            self.alone = member
            fit(self, stage, name=f"member {member}", order=order)
            self.alone = None
            with torch.no_grad():
                for name, value in self.member(member).items():
                    value.copy_(self.net.state_dict()[name])

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        return iter(self.w.values()) if self.together else self.net.parameters()

    def loss(self, batch: tuple[Tensor, Tensor], stage: Stage) -> Tensor:
        """Summed over members that train together; with an adversary, over the inputs and the moved ones."""
        x, y = batch
        if self.step is None:
            return self.plain_loss(x, y, stage)
        x = x.requires_grad_(self.adversarial == "sign")
        loss = self.plain_loss(x, y, stage)
        if self.adversarial == "sign":
            (slope,) = torch.autograd.grad(loss, x, retain_graph=True)  # not differentiated through
            sign = slope.sign()
        else:
            signs = torch.randint(2, (devices.whole(len(x)), *x.shape[1:]), dtype=x.dtype, device=x.device)
            sign = devices.own(signs) * 2 - 1
        return loss + self.plain_loss(x.detach() + self.step.to(x) * sign, y, stage)

    def plain_loss(self, x: Tensor, y: Tensor, stage: Stage) -> Tensor:
        if not self.together:
            return stage.criterion(self.net(x), y)

        def one(tensors: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
            return stage.criterion(functional_call(self.net, tensors, (x,)), y)

        return vmap(one, in_dims=(0, 1, 1), randomness="different")(self.stacked(), x, y).sum()

    def predict(self, x: Tensor, stage: Stage) -> Tensor:
        """[members, batch, outputs]; while a member trains by itself, validation sees it alone: [1, batch, outputs]."""
        if self.alone is not None:
            return stage.link(self.net(x))[None]
        return torch.stack([stage.link(functional_call(self.net, self.member(m), (x,))) for m in range(self.members)])

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        """The first member's, for what takes a single net."""
        return self.member(0)

    def stacked(self) -> dict[str, Tensor]:
        """Tensors of all members by the backbone's names, [members, ...]."""
        return {name: self.w[key(name)] for name in self.names} | {name: self.still[name] for name in self.still.names()}

    def member(self, number: int) -> dict[str, Tensor]:
        """Tensors of one member by the backbone's names."""
        return {name: value[number] for name, value in self.stacked().items()}

    # ---- for the record

    def memory(self) -> dict[str, int]:
        return {"shared": sum(value.numel() * value.element_size() for value in self.stacked().values()), "stage": 0}

    def extra_metrics(self) -> dict[str, float]:
        """M, and whether members trained together."""
        return {"members": self.members, "trained_together": float(self.together)}

    def fingerprints(self) -> dict[str, list[int]]:
        """The seeds of each member's start and of its data order."""
        return {f"seeds_{kind}": list(own) for kind, own in self.seeds.items()}


def key(name: str) -> str:
    """A parameter's name without dots, which a dict of parameters refuses."""
    return name.replace(".", "|")


def small(net: nn.Module) -> bool:
    """Whether nets like this one train faster side by side: fully connected, and so small that a step is mostly overhead."""
    weights = sum(p.numel() for p in net.parameters())
    return weights <= SMALL and not any(isinstance(module, APART) for module in net.modules())
