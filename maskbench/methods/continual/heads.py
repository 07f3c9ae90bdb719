"""One trunk and a private head per stage: the baselines between fine-tuning and a net per stage.

A trunk that is trained on through all stages is the lower bound of the continual family (its heads are left behind by it);
one that is frozen forgets nothing and learns only what its features allow (SupSup's "separate heads", 2006.14769).
"""

from collections.abc import Callable, Iterator
from typing import ClassVar, Literal, Self, final

from torch import Tensor, nn

from maskbench.backbones.norm import freeze_batchnorm
from maskbench.backbones.per_stage import NormStatistics, PrivateHeads, in_head
from maskbench.common.knobs import NonNegative
from maskbench.data.stage import Stage
from maskbench.training import features
from maskbench.training.method import Method


@final
class Heads(Method):
    """One trunk for all stages and an output layer for each.

    Args:
        net: a backbone whose last layer is called `head`.
        trunk: all before the head: `shared`, trained on through all stages; `first`, trained with the first stage, then
            frozen; `random`, never trained; `given`, as `backbone.init` left it. A frozen trunk's norms are frozen too,
            statistics included.
        trunk_lr: times the learning rate, in the stages that train the trunk.
        statistics: of the trunk's norms: `trunk`, they go with it (null); or `per_stage`, each stage has its own, which follow
            its data under a frozen trunk too (SupSup's code).
    """

    keeps_given_stage: ClassVar = True
    drawn_by_rule: ClassVar = {"trunk": {"random": "given"}}  # cli/parts.py

    def __init__(
        self,
        net: nn.Module,
        *,
        trunk: Literal["shared", "first", "random", "given"],
        trunk_lr: NonNegative = 1.0,
        statistics: Literal["trunk", "per_stage"] | None = None,
    ) -> None:
        super().__init__(net)
        self.trunk, self.trunk_lr = trunk, trunk_lr
        self.heads = PrivateHeads(net.head)
        self.statistics = NormStatistics(net) if statistics == "per_stage" else None
        self.stage = 0  # in training; follows from the stage that learns

    def learn(self, stage: Stage, fit: Callable) -> None:
        self.stage = stage.index
        self.heads.open(stage.index, self.net.head, **stage.own_head)
        if self.statistics:
            self.statistics.restart(self.net)
        seen = features.cached(self, stage) if self.caches(stage) else stage
        fit(self, seen, lr=1.0 if self.frozen else self.trunk_lr)
        if self.statistics:
            self.statistics.keep(self.net, stage.index)

    def caches(self, stage: Stage) -> bool:
        """Whether the stage's head trains on features that the trunk computes once; a drawn trunk is run at each step."""
        return self.trunk == "given" and not self.statistics and features.can_cache(stage) and not stage.given

    def logits(self, x: Tensor, stage: Stage) -> Tensor:
        if isinstance(stage, features.Features) and stage.holds(x):
            return features.answer(x, self.heads.of(stage.index))
        return super().logits(x, stage)

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        own = self.statistics.of(stage.index) if self.statistics and stage.index in self.statistics else {}
        return self.heads.of(stage.index) | own

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        yield from self.heads.of(self.stage).values()
        if not self.frozen:
            yield from (p for name, p in self.net.named_parameters() if not in_head(name))

    @property
    def frozen(self) -> bool:
        """Whether the trunk is out of reach of the stage in training."""
        return self.trunk in ("random", "given") or (self.trunk == "first" and self.stage > 0)

    def train(self, mode: bool = True) -> Self:
        """A frozen trunk's norms stay in evaluation mode, their statistics frozen too, unless each stage has its own."""
        super().train(mode)
        if self.frozen and not self.statistics:
            freeze_batchnorm(self.net)
        return self

    def has_learned(self, stage: Stage) -> bool:
        return stage.index in self.heads

    def memory(self) -> dict[str, int]:
        """One trunk (a random one is a seed); per stage a head, and norm statistics where they are its own."""
        net = sum(value.numel() * value.element_size() for value in self.net.state_dict().values())
        own = self.heads.bytes + (self.statistics.bytes if self.statistics else 0)
        return {"shared": 8 if self.trunk == "random" else net - own, "stage": own}

    def memory_after(self, stage: Stage) -> int:
        """Bytes once a stage is learnt: heads have as many outputs as their stage."""
        statistics = self.statistics.bytes if self.statistics else 0
        return self.memory()["shared"] + self.heads.bytes_upto(stage.index) + (stage.index + 1) * statistics
