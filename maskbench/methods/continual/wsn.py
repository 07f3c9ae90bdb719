"""WSN, winning subnetworks: weights and the scores that select them, learnt together (Kang et al. 2022, ICML, PMLR 162).

Each stage computes with the weights of the highest |scores| of every layer. What its final mask selects it keeps: later stages
may use these values and never change them, while all other weights go on moving. A stage's mask is a choice of its own among
what it and the stages before it own, so masks are no nested sets (PackNet's are), and a stage may leave out what others own.
"""

import logging
import math
from collections.abc import Callable, Iterator
from typing import ClassVar, Literal, Self, final

import torch
from torch import Tensor, nn

from maskbench import masks
from maskbench.backbones.per_stage import PrivateHeads, Unmasked
from maskbench.common.errors import UsageError
from maskbench.common.knobs import Keep
from maskbench.data.stage import Stage
from maskbench.masks.capacity import capacity, stored_bytes
from maskbench.masks.owners import MOST, WeightOwners
from maskbench.masks.stores import MaskBank
from maskbench.training.method import Method

log = logging.getLogger("maskbench")


@final
class WSN(Method):
    """One net whose weights are owned by the stage that first selected them, and a mask and a head for each stage.

    Args:
        net: a backbone whose last layer is called `head`.
        keep: share of each layer's weights that a mask selects: ceil(keep * n) of n, exactly.
        scores: drawn once and trained on by every stage (`kept`), or drawn anew for each (`redrawn`).
        bias: `first`: learnt with the first stage and frozen; `per_stage`: a copy for each stage; `none`: never learnt.
        norm: affine parameters and statistics, `first` or `per_stage`; or `given`: never learnt, statistics included.
    """

    most_stages: ClassVar = 254  # cli/clashes.py

    def __init__(
        self,
        net: nn.Module,
        *,
        keep: Keep = 0.5,
        scores: Literal["kept", "redrawn"] = "kept",
        bias: Literal["first", "per_stage", "none"] = "first",
        norm: Literal["first", "per_stage", "given"] = "first",
    ) -> None:
        super().__init__(net)
        self.redraws = scores == "redrawn"
        self.heads = PrivateHeads(net.head)
        self.trunk = {name: net.get_parameter(name) for name in masks.sites(net, skip=["head"])}
        self.count = masks.kept_counts(keep, self.trunk)
        self.scores = nn.ParameterDict({name.replace(".", "|"): torch.empty_like(w) for name, w in self.trunk.items()})
        self.cutters = {name: masks.Cutter() for name in self.trunk}
        self.owners = WeightOwners(self.trunk)
        self.bank = MaskBank({name: w.shape for name, w in self.trunk.items()})
        self.unmasked = Unmasked(net, [*self.trunk, *(f"head.{part}" for part in self.heads.parts)], bias=bias, norm=norm)
        self.stage = 0  # in training; follows from the stage that learns
        self.draw()

    # ---- the algorithm

    def learn(self, stage: Stage, fit: Callable) -> None:
        if stage.total > MOST:
            raise UsageError(f"data.stages={stage.total} is too many for WSN: an owner is one byte, {MOST} stages at most")
        self.stage = stage.index
        self.heads.open(stage.index, self.net.head, **stage.own_head)
        if (left := self.owners.share_free()) < 0.01:
            log.warning("WSN: %.2f %% of the weights are left for stage %s", 100 * left, stage.name)
        if self.redraws and stage.index:
            self.draw()
        self.owners.open(self.trunk, stage.index, refill=lambda w: w)  # what is free goes on from where it is
        fit(self, stage)
        self.finish()

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        head = self.heads.of(stage.index)
        if self.has_learned(stage):
            kept = {name: self.owners.kept[name] * m for name, m in self.bank.read(stage.index).items()}
            return kept | self.unmasked.of(stage.index) | head
        scores = {name: self.score(name) for name in self.trunk}
        # kept values are no parameters; every score has a gradient, a free weight has one where it is selected
        owned = self.owners.fixed() if self.owners.stages else None
        return masks.top_shares(self.trunk, scores, self.cuts(), magnitude=True, owned=owned) | head

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        yield from self.trunk.values()
        yield from self.scores.values()
        yield from self.heads.of(self.stage).values()
        yield from self.unmasked.trainable(self.net, self.stage)

    @torch.no_grad()
    def finish(self) -> None:
        """The final scores draw the stage's mask, and what is free of it is the stage's for good."""
        cuts = self.cuts()
        drawn = {name: masks.kept(masks.ranked(self.score(name)), cut, magnitude=True) for name, cut in cuts.items()}
        for name, m in drawn.items():
            self.owners.alive[name].mul_(m)
        self.owners.claim(self.trunk, self.stage)
        self.bank.write(self.stage, drawn)
        self.unmasked.keep(self.net, self.stage)

    # ---- forgetting a stage

    @torch.no_grad()
    def forget(self, stage: Stage) -> None:
        """Drop the stage's mask, its head and the weights that it alone computes with."""
        if self.unmasked.shares_first and stage.index == 0 and len(self.bank.stages) > 1:
            raise UsageError(f"all stages compute with the biases and norms that {stage.name} has learnt, so that it stays.")
        for other in self.bank.stages:
            read = self.bank.read(other)
            shared = sum(int((m & (self.owners.owner[name] == stage.index + 1)).sum()) for name, m in read.items())
            if other != stage.index and shared:
                raise UsageError(f"stage {other} computes with {shared:,} weights {stage.name} has learnt, so that it stays.")
        self.owners.release(self.trunk, stage.index)
        self.bank.drop(stage.index)
        self.heads.drop(stage.index)
        self.unmasked.forget(self.net, stage.index, self.bank.stages)
        for score in self.scores.values():  # of the stage trained last
            score.zero_()

    # ---- its parts

    def draw(self) -> None:
        for score in self.scores.values():
            nn.init.kaiming_uniform_(score, a=math.sqrt(5))

    def score(self, name: str) -> nn.Parameter:
        return self.scores[name.replace(".", "|")]

    def cuts(self) -> dict[str, masks.Cut]:
        """Where the ranking of each layer's |scores| is cut now."""
        return {name: self.cutters[name].cut(self.score(name), n, magnitude=True) for name, n in self.count.items()}

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.unmasked.freeze(self.net, self.stage)
        return self

    # ---- for the record

    def has_learned(self, stage: Stage) -> bool:
        return stage.index in self.bank

    def masked_weights(self) -> list[str]:
        return list(self.trunk)

    def masks(self) -> dict[str, Tensor]:
        return self.bank.named()

    def memory(self) -> dict[str, int]:
        """One net; a stage is one bit a weight, its head and its copies of biases and norms."""
        state = self.net.state_dict()
        net = sum(value.numel() * value.element_size() for value in state.values())
        own = self.heads.bytes + self.unmasked.bytes
        return {"shared": net - own, "stage": self.bank.bytes() + own}

    def memory_after(self, stage: Stage) -> int:
        """As `memory`, the masks by the shorter of their codes (masks/coding.py)."""
        own = self.heads.bytes_upto(stage.index) + (stage.index + 1) * self.unmasked.bytes
        return self.memory()["shared"] + own + stored_bytes(self.bank)

    def extra_metrics(self) -> dict[str, float]:
        return capacity(self.bank)
