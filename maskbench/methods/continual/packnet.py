"""PackNet: one net, stages packed one after another by pruning and freezing (Mallya & Lazebnik 2018, arXiv 1711.05769).

Train on every free weight, give back the smallest of them, retrain the rest, freeze it. By default each stage has a
private head, and biases and norms move in the first stage only, as in the paper.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, ClassVar, Literal, Self, final

import torch
from torch import Tensor, nn

from maskbench import masks
from maskbench.backbones.per_stage import PrivateHeads, Unmasked
from maskbench.common.errors import UsageError
from maskbench.common.knobs import Length, NonNegative, Share
from maskbench.data.stage import Stage
from maskbench.masks.owners import MOST, WeightOwners
from maskbench.training.method import Method

log = logging.getLogger("maskbench")

REFILLS = {  # what freed weights restart from
    "zero": nn.init.zeros_,  # the paper's code
    "kaiming": nn.init.kaiming_uniform_,
    "keep": lambda w: w,  # the pruned values
}


@final
class PackNet(Method):
    """One net whose weights are divided among stages: each keeps what it needs and frees the rest for those after it.

    Args:
        net: a backbone whose last layer is called `head`.
        prune: share of its own weights that a stage gives back, per layer: one value per stage, the last one goes on;
            or `equal_share`, (T - t) / (T - t + 1) for stage t of T. The last stage keeps all that is left.
        retrain_share: share of the budget's steps, after pruning.
        retrain_lr: times the learning rate, after pruning.
        bias: `first`: learnt with the first stage and frozen; `per_stage`: a copy for each stage; `none`: never learnt.
        norm: affine parameters and statistics: `first` or `per_stage`; or `given`, they stay as they came with the net.
        freed: freed weights restart at `zero`, from a `kaiming` draw, or `keep` the value they were pruned at.
        head: `private` to each stage, or `packed` into the net like any layer (one output layer for all).
    """

    most_stages: ClassVar = 254  # cli/clashes.py
    keeps_given_stage: ClassVar = True

    def __init__(
        self,
        net: nn.Module,
        *,
        prune: Annotated[Sequence[Share], Length(least=1)] | Literal["equal_share"],
        retrain_share: NonNegative = 0.5,
        retrain_lr: NonNegative = 0.1,
        bias: Literal["first", "per_stage", "none"] = "first",
        norm: Literal["first", "per_stage", "given"] = "first",
        freed: Literal["zero", "kaiming", "keep"] = "zero",
        head: Literal["private", "packed"] = "private",
    ) -> None:
        super().__init__(net)
        self.prune, self.retrain_share, self.retrain_lr = prune, retrain_share, retrain_lr
        self.refill = REFILLS[freed]
        private = head == "private"
        self.trunk = {name: net.get_parameter(name) for name in masks.sites(net, skip=["head"] if private else [])}
        self.ledger = WeightOwners(self.trunk)
        self.heads = PrivateHeads(net.head if private else None)
        self.head = [f"head.{part}" for part in self.heads.parts]
        self.copies = Unmasked(net, [*self.trunk, *self.head], bias=bias, norm=norm)
        self.stage = 0  # in training; follows from the stage that learns

    def learn(self, stage: Stage, fit: Callable) -> None:
        if stage.total > MOST:
            raise UsageError(f"data.stages={stage.total} is too many for PackNet: an owner is one byte, {MOST} stages at most")
        self.stage = stage.index
        self.heads.open(stage.index, self.net.head, **stage.own_head)
        if (left := self.ledger.share_free()) < 0.01:
            log.warning("PackNet: %.2f %% of the weights are left for stage %s", 100 * left, stage.name)
        self.ledger.open(self.trunk, stage.index, self.refill)  # 1 claim: every free weight
        fit(self, stage, shared=self if stage.index == 0 else None)  # 2 train; the first, whatever is pruned afterwards
        share = self.share(stage)
        if share > 0:
            for name, w in self.trunk.items():  # 3 prune, per layer, among its own
                alive = self.ledger.alive[name]
                alive.copy_(masks.prune(w, alive.bool(), share))
            fit(self, stage, name="retrain", share=self.retrain_share, lr=self.retrain_lr)  # 4
        self.ledger.claim(self.trunk, stage.index)  # 5 freeze
        self.copies.keep(self.net, stage.index)

    def share(self, stage: Stage) -> float:
        """The part of its own weights that `stage` gives back; the last stage gives nothing."""
        if stage.last:
            return 0.0
        if self.prune == "equal_share":
            left = stage.total - stage.index
            return (left - 1) / left
        return self.prune[min(stage.index, len(self.prune) - 1)]

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        head = self.heads.of(stage.index)
        if self.has_learned(stage):
            return self.ledger.finished(stage.index) | self.copies.of(stage.index) | head
        return self.ledger.present(self.trunk) | head

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        yield from self.trunk.values()
        yield from self.heads.of(self.stage).values()
        yield from self.copies.trainable(self.net, self.stage)

    @torch.no_grad()
    def forget(self, stage: Stage) -> None:
        """Drop the last stage's weights, head and copies; any other's weights are those that later stages compute with."""
        last = self.ledger.stages - 1
        if stage.index != last:
            raise UsageError(
                f"stages after {stage.name} compute with its weights: of PackNet only the last stage can be forgotten."
            )
        if last == 0:
            raise UsageError(f"stage {stage.name} is the only one, and there would be nothing left: remove the run's directory.")
        self.ledger.release(self.trunk, last)
        self.ledger.claimed.fill_(last)
        self.heads.drop(last)
        self.copies.forget(self.net, last, range(last))

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.copies.freeze(self.net, self.stage)
        return self

    def has_learned(self, stage: Stage) -> bool:
        return stage.index < self.ledger.stages

    def masked_weights(self) -> list[str]:
        return list(self.trunk)

    def masks(self) -> dict[str, Tensor]:
        return self.ledger.masks()

    def memory(self) -> dict[str, int]:
        """One net, one packed owner map of ceil(log2(T + 1)) bits a weight, and per stage a head and its copies."""
        state = self.net.state_dict()
        size = {name: value.numel() * value.element_size() for name, value in state.items()}
        own = sum(size[name] for name in {*self.head, *self.copies.copied})
        weights = sum(w.numel() for w in self.trunk.values())
        owners = -(-weights * math.ceil(math.log2(self.ledger.stages + 1)) // 8)
        return {"shared": sum(size.values()) - own + owners, "stage": own}

    def memory_after(self, stage: Stage) -> int:
        """Bytes once a stage is learnt: heads have as many outputs as their stage."""
        return self.memory()["shared"] + self.heads.bytes_upto(stage.index) + (stage.index + 1) * self.copies.bytes

    def extra_metrics(self) -> dict[str, float]:
        """The share of weights still free, and of hidden units that no stage's weights reach."""
        dead = [~(self.ledger.owner[name] > 0).flatten(1).any(1) for name in self.trunk]
        return {"free": self.ledger.share_free(), "dead_units": float(torch.cat(dead).double().mean())}
