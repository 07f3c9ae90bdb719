"""Gradual magnitude pruning (Zhu & Gupta 2017, arXiv 1710.01878): a dense net trains while its mask shrinks along a cubic.

After every so many steps the living weights of smallest magnitude go for good, so masks are nested; most go early, while the
net is still easily mended. One training, one optimiser.
"""

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, final

import torch
from torch import Tensor, nn

from maskbench.common.knobs import Count, Keep, Layers
from maskbench.common.streams import seeded
from maskbench.data.stage import Stage
from maskbench.masks import maskable, scopes
from maskbench.masks.cuts import kept_count
from maskbench.masks.distributions import Distribution
from maskbench.masks.places import positions
from maskbench.masks.scopes import Scope
from maskbench.methods.prune.dynamic import require_moves
from maskbench.methods.prune.kernel import Choice
from maskbench.methods.prune.sparse import KEEP, SparseNet
from maskbench.training.method import Method, Progress


@final
class Gradual(Method):
    """A net whose smallest weights go while it trains, from all of them to `keep`.

    Args:
        net: the backbone; its Linear and Conv weights are pruned, biases and norms never.
        keep: share of the maskable weights that stays, ceil(keep * n) of n; null: 0.05, or what `scope` says.
        distribution: how the layers share them, under scope `layer`: `erk`, `er`, `uniform` or `smart`.
        scope: among which weights magnitudes are ranked: the whole net (`global`), each `layer`, `row` or `N:M`, or whole units.
        dense: modules without masks (`[head]`).
        every: optimiser steps between two prunings.
        end: share of the training after which no more go.
        kernel: how masked Linear layers are computed in training: `dense`, as w * m; `csr`, by the kept values alone; `auto`, so
            from when on that is cheaper.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        keep: Keep | None = None,
        distribution: Distribution = "erk",
        scope: Scope = "global",
        dense: Layers = (),
        every: Count = 100,
        end: Keep = 0.75,
        kernel: Choice = "auto",
    ) -> None:
        super().__init__(net)
        self.keep, self.distribution, self.scope = scopes.share(scope, keep, KEEP), distribution, scope
        self.every, self.end = every, end
        self.sparse = SparseNet(net, dense, scope, kernel)
        self.last = scopes.counts(self.sparse.shapes(), scope, self.keep, distribution, self.sparse.uncut)
        self.places = dict.fromkeys(maskable(net), 1)  # at which an input meets each weight; follow from the stage that learns
        self.register_buffer("spared", torch.tensor(0))  # multiplications of an input, in all steps that followed

    # ---- the algorithm

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        return self.sparse.effective_weights(self.net)

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        return self.sparse.trainable_parameters(self.net)

    def learn(self, stage: Stage, fit: Callable) -> None:
        require_moves(self.every, self.end, fit.length(len(stage.train), 1.0))
        self.places = positions(self.net, stage.shape) or self.places
        with self.sparse.compact(self.net):
            fit(self, stage)

    def after_step(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        done = progress.step + 1
        if self.due(done, progress.total):
            before = self.products(self.sparse.counts())
            with seeded(*progress.stream, "hook", progress.step, "ties"), self.sparse.whole(self.net, optimizer):
                self.prune(self.share(done, progress.total), optimizer)
            self.spared += (before - self.products(self.sparse.counts())) * (progress.total - done)

    def due(self, done: int, total: int) -> bool:
        """Whether weights go when so many steps are done: after every so many, up to the first time at or after the end of the
        cubic, or the last step, if no such time comes before."""
        end = Fraction(str(self.end)) * total
        if done % self.every == 0:
            return done - self.every < end
        return done == total and total - total % self.every < end

    def share(self, done: int, total: int) -> float:
        """The share that stays when so many steps are done: keep + (1 - keep) * (1 - t / t1)^3."""
        end = Fraction(str(self.end)) * total
        if done >= end or done == total:
            return self.keep
        return self.keep + (1 - self.keep) * float(1 - done / end) ** 3

    @torch.no_grad()
    def prune(self, share: float, optimizer: torch.optim.Optimizer) -> None:
        """Keep that share of the weights, the largest among the living."""
        alive, scope = self.sparse.kept(), self.scope
        if pattern := scopes.of_each(scope):  # of M inputs so many that no fewer than the share stay
            n = kept_count(share, pattern[1])
            scope, share = f"{n}:{pattern[1]}", n / pattern[1]
        counts = scopes.counts(self.sparse.shapes(), scope, share, self.distribution, self.sparse.uncut)
        living = scopes.living(alive, scope)
        # layers of a rounded distribution may grow by a weight while the whole shrinks; none falls below its last count
        counts = {name: min(living[name], max(count, self.last[name])) for name, count in counts.items()}
        scores = {name: self.net.get_parameter(name).abs() for name in alive}
        self.sparse.put(self.net, scopes.best(scores, alive, scope, counts, self.sparse.follow), optimizer)

    # ---- for the record

    def masked_weights(self) -> list[str]:
        return list(self.sparse.sites)

    def masks(self) -> dict[str, Tensor]:
        return self.sparse.masks()

    def ticket(self) -> dict[str, Tensor]:
        return self.sparse.ticket()

    def fingerprints(self) -> dict[str, Any]:
        return self.sparse.fingerprints(self.net)

    def memory(self) -> dict[str, int]:
        return self.sparse.memory(self.net)

    def progress_metrics(self) -> dict[str, float]:
        return self.sparse.densities(self.net)

    def extra_metrics(self) -> dict[str, float]:
        return self.sparse.densities(self.net)

    def training_cost(self, share: float, steps: int) -> float:
        """The mean over steps of what a step costs under the mask it has."""
        sizes = {name: self.net.get_parameter(name).numel() for name in self.places}
        return 1 - int(self.spared) / (self.products(sizes) * steps)

    def products(self, counts: dict[str, int]) -> int:
        """Multiplications of one input with so many weights."""
        return sum(count * self.places[name] for name, count in counts.items())
