"""ExSSNeT: exclusive supermask subnetwork training (Yadav & Bansal 2022, arXiv 2210.10209).

Each stage first learns a mask over fixed weights, as SupSup does, and then trains the weights of its mask that no earlier mask
uses. Later masks may read what was trained and never change it. SSNeT trains all weights of its mask and forgets.
"""

import logging
import math
from collections.abc import Callable, Iterator
from typing import Literal, final

import torch
from torch import Tensor, nn

from maskbench import masks
from maskbench.backbones.per_stage import NormStatistics
from maskbench.common.errors import UsageError
from maskbench.common.knobs import Keep, NonNegative
from maskbench.data.stage import Stage
from maskbench.masks.capacity import capacity, stored_bytes, used
from maskbench.masks.stores import MaskBank, TensorStore
from maskbench.training.method import Method
from maskbench.training.stand_in import call

IMAGES, FITTED, NEIGHBOURS = 1000, 0.66, 10  # of a new stage, the part that others are told by, and by how many

log = logging.getLogger("maskbench")


@final
class ExSSNeT(Method):
    """A random net and a mask for each stage, which then trains what no other mask uses.

    Args:
        net: a backbone without biases and affine norms, its weights drawn once; its last layer is called `head`. Running norm
            statistics are kept per stage.
        keep: share of each layer's weights that a mask selects, the head's too: ceil(keep * n) of n, exactly.
        exclusive: false: a stage trains its whole mask (SSNeT), so that earlier stages forget.
        transfer: where a stage's scores start: `random`; or `kkt`, from those of the finished stage whose features tell the
            new stage's classes best, by k nearest neighbours, if any does better than chance.
        weights_share: share of the budget's steps that trains weights, after the mask; 0: none, which leaves SupSup.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        keep: Keep = 0.1,
        exclusive: bool = True,
        transfer: Literal["random", "kkt"] = "random",
        weights_share: NonNegative = 1.0,
    ) -> None:
        super().__init__(net)
        self.exclusive, self.transfer, self.weights_share = exclusive, transfer, weights_share
        self.w = {name: net.get_parameter(name) for name in masks.sites(net)}
        self.count = masks.kept_counts(keep, self.w)
        self.scores = nn.ParameterDict({name.replace(".", "|"): torch.empty_like(w) for name, w in self.w.items()})
        self.cutters = {name: masks.Cutter() for name in self.w}
        self.bank = MaskBank({name: w.shape for name, w in self.w.items()})
        self.learnt_scores = TensorStore()  # of every stage, where they are transferred
        self.statistics = NormStatistics(net)
        # a stage trains `moving` where `alive` and computes with `fixed` elsewhere: no other weight is in the optimiser's reach
        self.moving, self.alive, self.fixed = TensorStore(moving=True), TensorStore(), TensorStore()
        for name, w in self.w.items():
            self.moving.put(name, w)
            self.alive.put(name, torch.zeros_like(w))
            self.fixed.put(name, torch.zeros_like(w))
        self.trains_weights = False  # or scores; follows from where `learn` stands

    # ---- the algorithm

    def learn(self, stage: Stage, fit: Callable) -> None:
        self.trains_weights = False
        self.begin(stage)
        fit(self, stage)  # 1 the mask, weights fixed
        if self.weights_share:
            if self.exclusive and (left := 1 - used(self.bank)) < 0.01:
                log.warning("ExSSNeT: %.2f %% of the weights are left for stage %s", 100 * left, stage.name)
            self.open()
            self.trains_weights = True
            fit(self, stage, name="weights", share=self.weights_share)  # 2 the weights, the mask fixed
            self.close()
        self.bank.write(stage.index, self.drawn())  # 3
        self.statistics.keep(self.net, stage.index)
        if self.transfer == "kkt":
            for name in self.w:
                self.learnt_scores.put(f"{stage.index}/{name}", self.score(name))

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        if self.has_learned(stage):
            return self.answering(stage.index)
        if self.trains_weights:
            return {n: torch.addcmul(self.fixed[n], self.alive[n], self.moving[n]) for n in self.w}
        return masks.top_shares(self.w, {name: self.score(name) for name in self.w}, self.cuts(), magnitude=True)

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        if self.trains_weights:
            return (self.moving[name] for name in self.w)
        return iter(self.scores.values())

    @torch.no_grad()
    def begin(self, stage: Stage) -> None:
        """The scores and norm statistics that a stage starts from."""
        self.statistics.restart(self.net)
        for score in self.scores.values():
            nn.init.kaiming_uniform_(score, a=math.sqrt(5))
        if self.transfer == "kkt" and (nearest := self.nearest(stage)) is not None:
            for name in self.w:
                self.score(name).copy_(self.learnt_scores[f"{nearest}/{name}"])

    @torch.no_grad()
    def open(self) -> None:
        """Let the stage train the weights of its mask that no earlier mask uses, or with SSNeT all of its mask."""
        for name, m in self.drawn().items():
            own = m & (self.bank.store[f"count/{name}"] == 0) if self.exclusive else m
            self.alive[name].copy_(own)
            self.fixed[name].copy_(self.w[name] * (m & ~own))
            self.moving[name].copy_(self.w[name])

    @torch.no_grad()
    def close(self) -> None:
        """What the stage trained goes into the net."""
        for name, w in self.w.items():
            w.copy_(torch.where(self.alive[name].bool(), self.moving[name], w))

    # ---- forgetting a stage

    @torch.no_grad()
    def forget(self, stage: Stage) -> None:
        """Drop the stage's mask, scores and statistics, and the weights that it has trained."""
        trained = self.trained_by(stage.index)
        for other in self.bank.stages:
            shared = sum(int((m & trained[name]).sum()) for name, m in self.bank.read(other).items())
            if other != stage.index and shared:
                raise UsageError(f"stage {other} computes with {shared:,} weights {stage.name} has trained, so that it stays.")
        for name, w in self.w.items():
            w.masked_fill_(trained[name], 0)
            for store in (self.moving, self.alive, self.fixed):  # of the stage trained last
                store[name].zero_()
            self.score(name).zero_()
            if self.transfer == "kkt":
                self.learnt_scores.drop(f"{stage.index}/{name}")
        self.bank.drop(stage.index)
        self.statistics.drop(self.net, stage.index)

    def trained_by(self, stage: int) -> dict[str, Tensor]:
        """The weights that a finished stage has trained, bool: of its mask, and with `exclusive` of no earlier one."""
        if not self.weights_share:
            return {name: torch.zeros_like(w, dtype=torch.bool) for name, w in self.w.items()}
        trained = self.bank.read(stage)
        for earlier in self.bank.stages[: self.bank.stages.index(stage)] if self.exclusive else ():
            used = self.bank.read(earlier)
            trained = {name: m & ~used[name] for name, m in trained.items()}
        return trained

    # ---- where the scores start (KKT)

    def nearest(self, stage: Stage) -> int | None:
        """The finished stage whose features tell the classes of new images best, if they do better than chance."""
        count = min(IMAGES, len(stage.train))
        device = self.alive[next(iter(self.w))].device
        x, y = stage.train.pick(torch.randperm(len(stage.train))[:count], device)
        rates = {known: told_by_neighbours(self.features(known, x), y) for known in self.bank.stages}
        best = max(rates, key=rates.__getitem__, default=None)
        return best if best is not None and rates[best] > 1 / len(stage.classes) else None

    def features(self, stage: int, x: Tensor) -> Tensor:
        """What the head gets of inputs under a finished stage's mask: [images, features]."""
        self.eval()  # in training mode norms would move the statistics of the stage to come
        got: list[Tensor] = []
        hook = self.net.head.register_forward_pre_hook(lambda _, inputs: got.append(inputs[0].flatten(1)))
        try:
            call(self.net, self.answering(stage), x)
        finally:
            hook.remove()
        return got[0]

    # ---- its parts

    def score(self, name: str) -> nn.Parameter:
        return self.scores[name.replace(".", "|")]

    def cuts(self) -> dict[str, masks.Cut]:
        """Where the ranking of each layer's |scores| is cut now."""
        return {name: self.cutters[name].cut(self.score(name), n, magnitude=True) for name, n in self.count.items()}

    def drawn(self) -> dict[str, Tensor]:
        """The masks of the present scores, bool."""
        return {n: masks.kept(masks.ranked(self.score(n)), cut, magnitude=True) for n, cut in self.cuts().items()}

    def answering(self, stage: int) -> dict[str, Tensor]:
        """The tensors a finished stage computes with: its masked weights and its norm statistics."""
        weights = {name: self.w[name] * m for name, m in self.bank.read(stage).items()}
        return weights | self.statistics.of(stage)

    # ---- for the record

    def has_learned(self, stage: Stage) -> bool:
        return stage.index in self.bank

    def masked_weights(self) -> list[str]:
        return list(self.w)

    def masks(self) -> dict[str, Tensor]:
        return self.bank.named()

    def memory(self) -> dict[str, int]:
        """One net, since a seed no longer gives its weights; a stage is one bit a weight, its norm statistics and, where they
        are transferred, its scores."""
        net = sum(p.numel() * p.element_size() for p in self.net.parameters())
        scores = sum(w.numel() * w.element_size() for w in self.w.values()) if self.transfer == "kkt" else 0
        return {"shared": net, "stage": self.bank.bytes() + self.statistics.bytes + scores}

    def memory_after(self, stage: Stage) -> int:
        """As `memory`, the masks by the shorter of their codes (masks/coding.py)."""
        now = self.memory()
        return now["shared"] + (stage.index + 1) * (now["stage"] - self.bank.bytes()) + stored_bytes(self.bank)

    def extra_metrics(self) -> dict[str, float]:
        return capacity(self.bank)


def told_by_neighbours(features: Tensor, y: Tensor, k: int = NEIGHBOURS) -> float:
    """How many of the last third of these images their k nearest among the others tell right, by the majority of their classes.

    features [images, units]; of classes that are equally many the lowest counts.
    """
    fitted = int(FITTED * len(y))
    near = torch.cdist(features[fitted:], features[:fitted]).topk(min(k, fitted), largest=False).indices
    votes = torch.nn.functional.one_hot(y[:fitted][near], int(y.max()) + 1).sum(1)
    return (votes.argmax(1) == y[fitted:]).double().mean().item()
