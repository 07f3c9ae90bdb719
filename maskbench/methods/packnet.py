"""PackNet: one net, stages packed one after another by pruning and freezing (Mallya & Lazebnik 2018, arXiv 1711.05769).

Train on every free weight, give back the smallest of them, retrain the rest, freeze it. Each stage has a private head.
Biases move in the first stage only (the paper's default), norms likewise.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Self, final

from torch import Tensor, nn

from maskbench import masks
from maskbench.data.stage import Stage
from maskbench.errors import UsageError
from maskbench.ledger import Ledger
from maskbench.method import Method
from maskbench.shelf import Shelf


@final
class PackNet(Method):
    """Args:
    net: a backbone whose last layer is called `head`.
    prune: share of its own weights that a stage gives back, per layer: one value per stage, the last one goes on;
        or `equal_share`, (T - t) / (T - t + 1) for stage t of T. The last stage keeps all that is left.
    retrain_share: of the budget's steps, after pruning.
    retrain_lr: times the learning rate, after pruning.
    """

    def __init__(
        self, net: nn.Module, *, prune: Sequence[float] | str, retrain_share: float = 0.5, retrain_lr: float = 0.1
    ) -> None:
        super().__init__(net)
        listed = isinstance(prune, Sequence) and not isinstance(prune, str) and len(prune) > 0
        if prune != "equal_share" and not (listed and all(isinstance(p, int | float) and 0 <= p < 1 for p in prune)):
            raise UsageError(f"method.prune is a list of shares from 0 to below 1, or equal_share; not {prune}")
        self.prune, self.retrain_share, self.retrain_lr = prune, retrain_share, retrain_lr
        self.trunk = {name: net.get_parameter(name) for name in masks.sites(net, skip=["head"])}
        self.ledger = Ledger(self.trunk)
        self.heads = Shelf(moving=True)
        self.stage = 0  # in training; follows from the stage that learns

    def learn(self, stage: Stage, fit: Callable) -> None:
        self.stage = stage.index
        self.open_head()
        self.ledger.open(self.trunk, stage.index)  # 1 claim: every free weight, restarting from 0
        fit(self, stage)  # 2 train
        share = self.share(stage)
        if share > 0:
            for name, w in self.trunk.items():  # 3 prune, per layer, among its own
                alive = self.ledger.alive[name]
                alive.copy_(masks.prune(w, alive.bool(), share))
            fit(self, stage, name="retrain", share=self.retrain_share, lr=self.retrain_lr)  # 4
        self.ledger.claim(self.trunk, stage.index)  # 5 freeze

    def share(self, stage: Stage) -> float:
        """The part of its own weights that `stage` gives back; the last stage gives nothing."""
        if stage.last:
            return 0.0
        if self.prune == "equal_share":
            left = stage.total - stage.index
            return (left - 1) / left
        return self.prune[min(stage.index, len(self.prune) - 1)]

    def effective(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        trunk = self.ledger.finished(stage.index) if self.knows(stage) else self.ledger.present(self.trunk)
        return trunk | {f"head.{part}": self.heads[f"{stage.index}/{part}"] for part, _ in self.net.head.named_parameters()}

    def movable(self) -> Iterator[nn.Parameter]:
        yield from self.trunk.values()
        yield from (self.heads[f"{self.stage}/{part}"] for part, _ in self.net.head.named_parameters())
        if self.stage == 0:  # biases and norms: learnt with the first stage, frozen for all after it
            yield from (p for n, p in self.net.named_parameters() if n not in self.trunk and not n.startswith("head."))

    def train(self, mode: bool = True) -> Self:
        """After the first stage norms stay in evaluation mode, so that their statistics are frozen too."""
        super().train(mode)
        for module in self.net.modules():
            if self.stage > 0 and isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def open_head(self) -> None:
        """A fresh private head for the stage in training; nothing is shared with other stages' heads."""
        self.net.head.reset_parameters()
        for part, value in self.net.head.named_parameters():
            self.heads.put(f"{self.stage}/{part}", value)

    def knows(self, stage: Stage) -> bool:
        return stage.index < int(self.ledger.claimed)

    def masks(self) -> dict[str, Tensor]:
        stages = range(int(self.ledger.claimed))
        return {f"{stage}/{name}": self.ledger.mask(name, stage) for stage in stages for name in self.trunk}

    def memory(self) -> dict[str, int]:
        """One net, one packed owner map of ceil(log2(T + 1)) bits a weight, and a head per stage."""
        weights = sum(w.numel() for w in self.trunk.values())
        head = sum(p.numel() for p in self.net.head.parameters())
        rest = sum(p.numel() for p in self.net.parameters()) - head
        owners = -(-weights * math.ceil(math.log2(int(self.ledger.claimed) + 1)) // 8)
        return {"shared": 4 * rest + owners, "stage": 4 * head}

    def facts(self) -> dict[str, float]:
        return {"free": self.ledger.share_free()}
