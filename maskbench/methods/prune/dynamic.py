"""Sparse from the first step to the last: a random mask that stays (static), or that moves while its net trains.

SET (Mocanu et al. 2018, arXiv 1707.04780) and RigL (Evci et al. 2020, arXiv 1911.11134): every so many steps each layer drops
the living weights of smallest magnitude and grows as many others, at random (SET) or where the dense gradient is largest
(RigL). Newborn weights are 0. How many weights a layer has never changes.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from maskbench import masks
from maskbench.backbones import initial
from maskbench.common.errors import UsageError
from maskbench.common.knobs import Count, Keep, Layers
from maskbench.common.streams import seeded
from maskbench.data.stage import Stage
from maskbench.masks import scopes
from maskbench.masks.distributions import Distribution
from maskbench.masks.scopes import Scope
from maskbench.masks.stores import TensorStore
from maskbench.methods.prune.kernel import Choice
from maskbench.methods.prune.sparse import KEEP, SparseNet
from maskbench.training.method import Method, Progress

Decay = Literal["cosine", "constant"]
GrowInit = Literal["zero", "draw"]


@final
class StaticSparse(Method):
    """A net that trains under one random mask.

    Args:
        net: the backbone; its Linear and Conv weights are masked, biases and norms never.
        keep: share of the maskable weights that stays, ceil(keep * n) of n; null: 0.05, or what `scope` says.
        distribution: how the layers share them, under scope `layer`: `erk` (RigL), `er` (SET), `uniform` or `smart`.
        scope: where the random places are drawn: within each `layer`, `row` or `N:M`, over the whole net (`global`), or whole
            units (`unit`).
        dense: modules without masks (`[head]`).
        kernel: how masked Linear layers are computed in training: `dense`, as w * m; `csr`, by the kept values alone; `auto`, so
            where that is cheaper.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        keep: Keep | None = None,
        distribution: Distribution = "erk",
        scope: Scope = "layer",
        dense: Layers = (),
        kernel: Choice = "auto",
    ) -> None:
        super().__init__(net)
        self.sparse = SparseNet(net, dense, scope, kernel)
        self.sparse.put(net, drawn(self.sparse, keep, distribution, scope))

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        return self.sparse.effective_weights(self.net)

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        return self.sparse.trainable_parameters(self.net)

    def fixed_masks(self) -> dict[str, Tensor]:
        """For training side by side with other runs: what stands still while a phase trains."""
        return self.sparse.kept()

    def learn(self, stage: Stage, fit: Callable) -> None:
        with self.sparse.compact(self.net):
            fit(self, stage)

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

    def extra_metrics(self) -> dict[str, float]:
        return self.sparse.densities(self.net)


@final
class SET(Method):
    """Sparse evolutionary training: after every so many steps the smallest weights go and as many grow at random.

    Args:
        net, keep, distribution, dense, kernel: as of StaticSparse.
        scope: where weights are exchanged: within each `layer` or `row`; `global`: within layers, whose counts are as a draw
            over the whole net makes them.
        every: optimiser steps between two moves of the mask, or `epoch`, the steps of one.
        end: share of the training during which it moves.
        alpha: share of a layer's weights that is exchanged at first.
        decay: that share over the moves: `cosine` down to 0 at their end, or `constant`.
        grow_init: what newborn weights start from: `zero`, or a `draw` from the initial distribution.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        keep: Keep = 0.05,
        distribution: Distribution = "erk",
        scope: Literal["layer", "global", "row"] = "layer",
        dense: Layers = (),
        every: Count | Literal["epoch"] = 100,
        end: Keep = 0.75,
        alpha: Keep = 0.3,
        decay: Decay = "cosine",
        grow_init: GrowInit = "zero",
        kernel: Choice = "auto",
    ) -> None:
        super().__init__(net)
        self.sparse = SparseNet(net, dense, kernel=kernel)
        self.sparse.put(net, drawn(self.sparse, keep, distribution, scope))
        self.moves = Moves(self.sparse, scope, end, alpha, decay, grow_init)
        self.every, self.steps = every, 0  # steps between moves follow from the stage that learns

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        return self.sparse.effective_weights(self.net)

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        return self.sparse.trainable_parameters(self.net)

    def learn(self, stage: Stage, fit: Callable) -> None:
        rows = len(stage.train)
        self.steps = -(-rows // fit.budget["batch_size"]) if self.every == "epoch" else self.every
        require_moves(self.steps, self.moves.end, fit.length(rows, 1.0))
        with self.sparse.compact(self.net):
            fit(self, stage)

    def after_step(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        """A move follows the optimiser's step."""
        done = progress.step + 1
        if self.moves.due(done, self.steps, progress.total):
            with self.sparse.whole(self.net, optimizer):
                self.moves.make(self.net, self.sparse, optimizer, self.lots(progress), progress, done)

    def lots(self, progress: Progress) -> dict[str, Tensor]:
        """By which lot dead weights grow: of each layer, drawn on the CPU, and so the same on every device."""
        return {name: torch.rand(shape, generator=progress.generator(name)) for name, shape in self.sparse.shapes().items()}

    # ---- for the record

    def progress_metrics(self) -> dict[str, float]:
        return self.moves.replaced(self.sparse)

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

    def extra_metrics(self) -> dict[str, float]:
        return self.sparse.densities(self.net) | {"replaced": self.moves.replaced(self.sparse)["replaced"]}


@final
class RigL(Method):
    """The rigged lottery: every so many steps the smallest weights go and those of largest dense gradient grow.

    That gradient is the step's own, of the weights before it, and the move stands in the place of the optimiser's step.

    Args:
        net, keep, distribution, scope, dense, end, alpha, decay, grow_init, kernel: as of SET.
        every: optimiser steps between two moves of the mask.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        keep: Keep = 0.05,
        distribution: Distribution = "erk",
        scope: Literal["layer", "global", "row"] = "layer",
        dense: Layers = (),
        every: Count = 100,
        end: Keep = 0.75,
        alpha: Keep = 0.3,
        decay: Decay = "cosine",
        grow_init: GrowInit = "zero",
        kernel: Choice = "auto",
    ) -> None:
        super().__init__(net)
        self.sparse = SparseNet(net, dense, kernel=kernel)
        self.sparse.put(net, drawn(self.sparse, keep, distribution, scope))
        self.moves = Moves(self.sparse, scope, end, alpha, decay, grow_init)
        self.every = every

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        return self.sparse.effective_weights(self.net)

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        return self.sparse.trainable_parameters(self.net)

    def learn(self, stage: Stage, fit: Callable) -> None:
        require_moves(self.every, self.moves.end, fit.length(len(stage.train), 1.0))
        with self.sparse.compact(self.net):
            fit(self, stage)

    def wants_weight_gradients(self, progress: Progress) -> bool:
        return self.moves.due(progress.step, self.every, progress.total)

    def after_backward(self, progress: Progress) -> None:
        """In the step of a move nothing is left for the optimiser; a gradient that is not finite moves nothing."""
        if not all(gradient.isfinite().all() for gradient in self.weight_gradients.values()):
            self.weight_gradients = {}
        if self.weight_gradients:
            for p in self.trainable_parameters():
                p.grad = None

    def after_step(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        if self.weight_gradients:
            scores = {name: self.weight_gradients[name].abs() for name in self.sparse.sites}
            with self.sparse.whole(self.net, optimizer):
                self.moves.make(self.net, self.sparse, optimizer, scores, progress, progress.step)

    # ---- for the record

    def progress_metrics(self) -> dict[str, float]:
        return self.moves.replaced(self.sparse)

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

    def extra_metrics(self) -> dict[str, float]:
        return self.sparse.densities(self.net) | {"replaced": self.moves.replaced(self.sparse)["replaced"]}

    def training_cost(self, share: float, steps: int) -> float:
        """The authors' formula: of `every` + 1 steps one has a dense gradient, a third of what a dense step costs."""
        return (3 * share * self.every + 2 * share + 1) / (self.every + 1) / 3


def drawn(sparse: SparseNet, keep: float | None, distribution: str, scope: str) -> dict[str, Tensor]:
    """Random masks of the counts that keep, distribution and scope give.

    Raises:
        UsageError: there are none for this net: fewer ones than layers, M does not divide a layer's inputs.
    """
    shapes = sparse.shapes()
    counts = scopes.counts(shapes, scope, scopes.share(scope, keep, KEEP), distribution, sparse.uncut)
    lots = {name: torch.rand(shape) for name, shape in shapes.items()}
    return scopes.best(lots, sparse.kept(), scope, counts, sparse.follow)


def require_moves(every: int, end: float, total: int) -> None:
    """Hold a schedule to a training of `total` steps.

    Raises:
        UsageError: the mask would never move.
    """
    if every >= Fraction(str(end)) * total:
        raise UsageError(
            f"method.every={every}: the mask would never move within method.end={end:g} of {total} steps: "
            "take a smaller method.every or a longer training (budget.steps or budget.epochs)"
        )


class Moves(nn.Module):
    """When a mask moves, how far, and how much of the first one is gone. Its buffers are the first mask, one bit a weight.

    Args:
        scope: `row` exchanges weights within rows, any other within layers. Others: as of SET.
    """

    def __init__(self, sparse: SparseNet, scope: str, end: float, alpha: float, decay: Decay, grow_init: GrowInit) -> None:
        super().__init__()
        self.within = "row" if scope == "row" else "layer"
        self.end, self.alpha, self.decay, self.grow_init = end, alpha, decay, grow_init
        self.first = TensorStore()
        for name in sparse.sites:
            self.first.put(name, masks.pack(sparse[name]))

    def due(self, done: int, every: int, total: int) -> bool:
        """Whether the mask moves when so many steps of the training are done."""
        return done % every == 0 and 0 < done < Fraction(str(self.end)) * total

    def share(self, done: int, total: int) -> float | Fraction:
        """The share of a layer's weights that is exchanged."""
        if self.decay == "constant":
            return Fraction(str(self.alpha))  # as it is written: 0.29 of 100 are 29
        return self.alpha / 2 * (1 + math.cos(math.pi * done / (self.end * total)))

    @torch.no_grad()
    def make(
        self,
        net: nn.Module,
        sparse: SparseNet,
        optimizer: torch.optim.Optimizer,
        scores: Mapping[str, Tensor],
        progress: Progress,
        done: int,
    ) -> None:
        """Move the masks: the smallest weights go, and of all that are not kept then those of highest score grow, the dropped
        ones among them, which if they grow again have lost nothing."""
        share, before = self.share(done, progress.total), sparse.kept()
        counts = {name: self.exchanged(share, mask) for name, mask in before.items()}
        left = {name: int(mask.count_nonzero()) - counts[name] for name, mask in before.items()}
        with seeded(*progress.stream, "hook", progress.step, "ties"):
            stay = scopes.best({name: net.get_parameter(name).abs() for name in before}, before, self.within, left)
            free = {name: ~mask for name, mask in stay.items()}
            grown = scopes.best({name: scores[name].to(mask.device) for name, mask in free.items()}, free, self.within, counts)
        sparse.put(net, {name: stay[name] | grown[name] for name in before}, optimizer)
        if self.grow_init == "draw":
            with seeded(*progress.stream, "hook", progress.step, "draw"):
                values = initial.fresh(copy.deepcopy(net).cpu())
            for name, mask in before.items():
                w = net.get_parameter(name)
                w.copy_(torch.where(grown[name] & ~mask, values[name].to(w), w))

    def exchanged(self, share: float | Fraction, mask: Tensor) -> int:
        """How many weights of a layer go: the same number in each row, where these are alike."""
        groups = len(mask) if self.within == "row" else 1
        return groups * math.floor(share * (int(mask.count_nonzero()) // groups))

    def replaced(self, sparse: SparseNet) -> dict[str, float]:
        """`replaced`, the share of the first mask that is gone, and `replaced/<layer>` of each layer's; 0 where it had none."""
        first = {name: masks.unpack(self.first[name], sparse[name].shape) for name in sparse.sites}
        had = {name: int(mask.count_nonzero()) for name, mask in first.items()}
        left = {name: int((mask & sparse[name]).count_nonzero()) for name, mask in first.items()}
        layers = {f"replaced/{name.removesuffix('.weight')}": 1 - left[name] / n if n else 0.0 for name, n in had.items()}
        return {"replaced": 1 - sum(left.values()) / sum(had.values())} | layers
