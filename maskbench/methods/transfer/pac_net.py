"""PAC-Net: Prune, Allocate, Calibrate for inductive transfer (Myung et al., ICML 2022, arXiv 2206.05703).

Train on the source, prune it by magnitude, let the survivors recover on the source (A), freeze them, and give the
target the rest, which starts from zero and is drawn back to it (C). The target's answer uses all weights; with the
target's weights unloaded the source's answer is back bit for bit. Without the penalty this is PackNet's second stage,
on the same ledger. A source that the net came trained on (Stage.given) is pruned untrained, and its survivors do not recover.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Literal, Self, final

import torch
from torch import Tensor, nn

from maskbench import masks
from maskbench.backbones.norm import BATCH_NORMS, freeze_batchnorm
from maskbench.backbones.per_stage import PrivateHeads, in_head
from maskbench.common.errors import UsageError
from maskbench.common.knobs import NonNegative, Share, mistake
from maskbench.data.stage import Stage
from maskbench.masks.owners import WeightOwners
from maskbench.masks.stores import TensorStore, number
from maskbench.methods.transfer import penalties
from maskbench.training.method import Method

log = logging.getLogger("maskbench")

CRITERIA = {"magnitude": torch.abs, "random": torch.rand_like}  # the highest stay
REFILLS = {"zero": nn.init.zeros_, "keep": lambda w: w}  # what the free weights start the target from
STEPS = {  # knobs of the three steps, a mapping each
    "prune": {"ratio": Share, "scope": Literal["global", "layerwise"], "criterion": Literal["magnitude", "random"]},
    "allocate": {"share": NonNegative},
    "calibrate": {"lam": NonNegative, "reset": Literal["zero", "keep"]},
}


@final
class PacNet(Method):
    """Prune the source's net, train the survivors on, and give the freed weights to the target.

    A target with other classes than the source gets a fresh head, which is neither masked nor penalised (beside the source's,
    where it has another number of outputs); else the head is pruned and shared like any layer.

    Args:
        net: a backbone whose last layer is called `head`.
        prune: `ratio` of all weights that goes, by one ranking of the whole net (`scope` global) or of each layer
            (layerwise); `criterion` magnitude or random.
        allocate: `share` of the budget's steps that the survivors train on the source again, without rewinding; 0 skips it.
        calibrate: `lam` times the sum of squares of the target's own weights is added to its loss; `reset` zero starts
            them at zero (the paper's figure), keep at the values they were pruned at.
        bias: after the source, all that is neither pruned nor a norm has to `freeze`, or is `free` to move.
        bn: gains, shifts and running statistics of batch norms have to `freeze`, or `train` with the target too.

    Raises:
        UsageError: a knob of a step is missing, unknown or of a value that does not work.
    """

    keeps_given_stage: ClassVar = True

    def __init__(
        self,
        net: nn.Module,
        *,
        prune: Mapping[str, Any],
        allocate: Mapping[str, Any],
        calibrate: Mapping[str, Any],
        bias: Literal["freeze", "free"] = "freeze",
        bn: Literal["freeze", "train"] = "freeze",
    ) -> None:
        super().__init__(net)
        check_steps({"prune": prune, "allocate": allocate, "calibrate": calibrate})
        self.ratio, self.scope, self.criterion = prune["ratio"], prune["scope"], prune["criterion"]
        self.allocate, self.lam = allocate["share"], calibrate["lam"]
        self.bias, self.bn, self.refill = bias, bn, REFILLS[calibrate["reset"]]
        self.trunk = {name: net.get_parameter(name) for name in masks.sites(net)}
        self.ledger = WeightOwners(self.trunk)
        self.rest = TensorStore()  # biases, norms and statistics as the source left them
        self.heads = PrivateHeads(getattr(net, "head", None), always=False)
        self.norms = {f"{n}.{k}" for n, m in net.named_modules() if isinstance(m, BATCH_NORMS) for k in m.state_dict()}
        self.register_buffer("asked", torch.tensor(0))  # label space of the source
        # in training; follow from the stage that learns and the phase it is in
        self.stage, self.dense, self.own_head = 0, True, False

    def learn(self, stage: Stage, fit: Callable) -> None:
        self.stage, self.dense, self.own_head = stage.index, stage.index == 0, self.fresh(stage)
        if stage.index == 0:
            self.learn_source(stage, fit)
        else:
            self.learn_target(stage, fit)
        self.ledger.claim(self.trunk, stage.index)

    def learn_source(self, stage: Stage, fit: Callable) -> None:
        """Train, prune, and train the survivors on; then remember the other tensors as the source left them."""
        self.asked.fill_(stage.label_space)
        fit(self, stage, shared=self.net)  # 0 train
        self.dense = False
        self.prune()  # P
        if self.allocate > 0:  # A: the survivors go on from where they are
            fit(self, stage, name="allocate", share=self.allocate, shared=self)
        for name, value in self.net.state_dict().items():
            if name not in self.trunk:
                self.rest.put(name, value)

    def learn_target(self, stage: Stage, fit: Callable) -> None:
        """Train what the source left free, from where `reset` puts it."""
        self.ledger.open(self.trunk, stage.index, self.refill)
        if stage.own_head["outputs"] is not None:
            self.heads.open(stage.index, self.net.head, **stage.own_head)
        elif self.own_head:
            self.net.head.reset_parameters()
        fit(self, stage)  # C

    @torch.no_grad()
    def prune(self) -> None:
        """Keep the n - round(ratio * n) best weights, exactly; ties go by their place."""
        scores = [CRITERIA[self.criterion](w.detach()) for w in self.trunk.values()]
        if self.scope == "global":
            cuts = masks.cuts(scores, self.kept(sum(score.numel() for score in scores)))
        else:
            cuts = [masks.cut(score, self.kept(score.numel())) for score in scores]
        for name, score, cut in zip(self.trunk, scores, cuts, strict=True):
            self.ledger.alive[name].copy_(masks.kept(score, cut))
            if not self.ledger.alive[name].any():
                log.warning("PAC-Net: prune.ratio=%s leaves nothing of %s, so nothing passes it", self.ratio, name)

    def kept(self, count: int) -> int:
        """How many of so many weights stay."""
        return count - round(self.ratio * count)

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        if stage.index == 0 and self.has_learned(stage):  # the target unloaded
            return self.ledger.finished(0) | {name: self.rest[name] for name in self.rest.names()}
        if self.dense and not self.ledger.stages:
            return {}
        tensors = self.ledger.finished(stage.index) if self.has_learned(stage) else self.ledger.present(self.trunk)
        if stage.index in self.heads:
            tensors |= self.heads.of(stage.index)
        elif self.fresh(stage):
            tensors |= {name: weight for name, weight in self.trunk.items() if in_head(name)}
        return tensors

    def loss(self, batch: tuple[Tensor, Tensor], stage: Stage) -> Tensor:
        return super().loss(batch, stage) + self.penalty(stage) if stage.index > 0 and self.lam else super().loss(batch, stage)

    def penalty(self, stage: Stage) -> Tensor:
        """lam * sum (1 - m) w^2: of the weights that are the target's, not of what the source keeps nor of a fresh head."""
        names = [name for name in self.trunk if not (in_head(name) and self.fresh(stage))]
        return self.lam * penalties.l2(self.ledger.alive[name] * self.trunk[name] for name in names)

    def fresh(self, stage: Stage) -> bool:
        """Whether the stage has a head of its own."""
        return stage.index > 0 and number(self, "asked") != stage.label_space

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        beside = self.stage in self.heads  # the source's head stays as it is
        if beside:
            yield from self.heads.of(self.stage).values()
        for name, p in self.net.named_parameters():
            if beside and in_head(name):
                continue
            free = self.bn == "train" if name in self.norms else self.bias == "free"
            head = self.own_head and in_head(name)
            if self.stage == 0 or name in self.trunk or head or free:
                yield p

    def train(self, mode: bool = True) -> Self:
        """Frozen norms are in evaluation mode while the target trains, so that their statistics are frozen too."""
        super().train(mode)
        if self.bn == "freeze" and self.stage > 0:
            freeze_batchnorm(self.net)
        return self

    def has_learned(self, stage: Stage) -> bool:
        return stage.index < self.ledger.stages

    def masked_weights(self) -> list[str]:
        return list(self.trunk)

    def masks(self) -> dict[str, Tensor]:
        return self.ledger.masks()

    def extra_metrics(self) -> dict[str, float]:
        """`density`: the share of the weights that the source keeps, over all and by layer."""
        kept = {name: self.ledger.mask(name, 0) for name in self.trunk}
        layers = {f"density/{name.removesuffix('.weight')}": masks.density([mask]) for name, mask in kept.items()}
        return {"density": masks.density(kept.values())} | layers


def check_steps(steps: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse the first knob of a step, by step and name, that is missing, unknown or of a wrong value."""
    for step, given in steps.items():
        kinds = STEPS[step]
        if set(given) != set(kinds):
            raise UsageError(f"method.{step} has {', '.join(given) or 'nothing'} and takes {', '.join(kinds)}.")
        for name, kind in kinds.items():
            if message := mistake(f"method.{step}.{name}", given[name], kind):
                raise UsageError(message)
