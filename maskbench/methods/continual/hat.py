"""HAT, hard attention to the task (Serrà, Surís, Miron & Karatzoglou 2018, arXiv 1801.01423).

Each stage learns a gate sigmoid(s e) for every hidden unit, whose steepness s rises from 1/smax to smax within each epoch. What
earlier stages use, the largest of their gates, scales down the gradients of the weights between such units; where both units are
used for good a weight is kept. Gates that end between 0 and 1 are `open`, and through them alone a finished stage can drift.
"""

import math
from collections.abc import Callable, Iterator
from typing import Annotated, ClassVar, final

import torch
from torch import Tensor, nn

from maskbench.backbones.gate import gates_of
from maskbench.backbones.gated import between
from maskbench.backbones.per_stage import NormStatistics, PrivateHeads
from maskbench.common.errors import UsageError
from maskbench.common.knobs import NonNegative, Within
from maskbench.data.stage import Stage
from maskbench.masks.owners import MOST, WeightOwners
from maskbench.masks.stores import TensorStore
from maskbench.training.method import Method, Progress
from maskbench.training.stand_in import call

STEEPEST = 50.0  # |s e| beyond which the compensation of an embedding's gradient grows no more
FARTHEST = 6.0  # embeddings stay within +- this


@final
class HAT(Method):
    """One net whose hidden units have a gate for each stage; a head per stage.

    Norms behind layers have statistics for each stage; their gains and shifts belong to the units.

    Args:
        net: a backbone with a gate behind each hidden layer, whose last layer is called `head`.
        smax: steepness s of the gates at the end of an epoch and in testing.
        lam: weight of the regulariser, the mean gate over what earlier stages have left.
        binary: a finished stage answers with gates [e > 0], and what it uses is 0 or 1.
    """

    most_stages: ClassVar = 254  # cli/clashes.py

    def __init__(
        self, net: nn.Module, *, smax: Annotated[float, Within(above=1)] = 400.0, lam: NonNegative = 0.75, binary: bool = False
    ) -> None:
        super().__init__(net)
        self.smax, self.lam, self.binary = smax, lam, binary
        self.gates = gates_of(net)
        if not self.gates:
            raise UsageError(f"method=hat needs a backbone with gates, and {type(net).__name__} has none: backbone=lenet_300_100")
        self.between = between(net)
        self.trunk = {name: net.get_parameter(name) for name in self.between}
        self.owners = WeightOwners(self.trunk)  # kept are those between units that are used for good
        self.heads, self.statistics = PrivateHeads(net.head), NormStatistics(net)
        self.embeddings, self.used, self.finished = TensorStore(moving=True), TensorStore(), TensorStore()
        for name, gate in self.gates.items():
            self.embeddings.put(name, torch.randn(gate.shape))  # e, of the stage in training
            self.used.put(name, torch.zeros(gate.shape))  # P, the largest gate of finished stages
            gate.gain = torch.ones(gate.shape)  # what a stage's gates stand in for
        self.stage = 0  # in training; follows from the stage that learns
        self.s = 1 / smax  # steepness of the step under way

    # ---- learning a stage

    def learn(self, stage: Stage, fit: Callable) -> None:
        if stage.total > MOST:
            raise UsageError(f"data.stages={stage.total} is too many for HAT: an owner is one byte, {MOST} stages at most")
        self.stage = stage.index
        self.heads.open(stage.index, self.net.head, **stage.own_head)
        self.statistics.restart(self.net)
        for name in self.gates:
            nn.init.normal_(self.embeddings[name])
        fit(self, stage)
        self.finish(stage)

    def loss(self, batch: tuple[Tensor, Tensor], stage: Stage) -> Tensor:
        x, y = batch
        gates = self.gating(stage)
        outputs = call(self.net, self.weights(stage) | gates, x)
        return stage.criterion(outputs, y) + self.lam * self.regulariser(gates)

    def regulariser(self, gates: dict[str, Tensor]) -> Tensor:
        """R: the mean of the gates, each weighted by what earlier stages have left of its unit; over all layers together."""
        left = {name: 1 - self.used[name] for name in gates}
        taken = sum((a * left[name]).sum() for name, a in gates.items())
        return taken / sum(room.sum() for room in left.values()).clamp_min(torch.finfo(torch.float32).tiny)

    def before_step(self, progress: Progress) -> None:
        """Anneal s by the place of the batch in its epoch.

        Raises:
            UsageError: the training ends before its first epoch does, so that the gates would never harden.
        """
        if progress.total < progress.steps_per_epoch:
            raise UsageError(
                f"method=hat hardens its gates over an epoch, and {progress.total} steps are less than one of stage "
                f"{progress.stage.name} ({progress.steps_per_epoch} steps of {progress.batch_size}): take budget.epochs=1 "
                "budget.steps=null, or larger batches by budget.batch_size."
            )
        rows = len(progress.stage.train)
        self.s = (self.smax - 1 / self.smax) * progress.row / rows + 1 / self.smax

    def after_backward(self, progress: Progress) -> None:
        """Shield what earlier stages use, and give the embeddings the gradient of gates as steep as in testing.

        Autograd's own sigmoid must stand before: its y (1 - y) is 0 once y is rounded to 1, which locks a gate that is on.
        """
        if progress.stage.index > 0:
            for name, w in self.trunk.items():
                if w.grad is not None:
                    w.grad.mul_(1 - self.between[name].both(self.used, w.ndim))
        for name in self.gates:
            e = self.embeddings[name]
            rise = torch.cosh((self.s * e).clamp(-STEEPEST, STEEPEST)) + 1
            e.grad.mul_(self.smax / self.s * rise / (torch.cosh(e) + 1))

    def after_step(self, progress: Progress, optimizer: torch.optim.Optimizer) -> None:
        for name in self.gates:
            self.embeddings[name].clamp_(-FARTHEST, FARTHEST)

    @torch.no_grad()
    def finish(self, stage: Stage) -> None:
        """Keep the stage's gates, and the weights that are between units used for good."""
        for name in self.gates:
            gate = self.hard(self.embeddings[name])
            self.finished.put(f"{stage.index}/{name}", gate)
            self.used.put(name, torch.maximum(self.used[name], gate))
        self.statistics.keep(self.net, stage.index)
        for name, w in self.trunk.items():
            self.owners.alive[name].mul_(self.between[name].both(self.used, w.ndim) == 1)
        self.owners.claim(self.trunk, stage.index)
        for name in self.trunk:
            self.owners.alive[name].copy_(self.owners.free(name))

    # ---- answering

    def hard(self, e: Tensor) -> Tensor:
        """The gates of a stage that is learnt."""
        return (e > 0).to(e.dtype) if self.binary else torch.sigmoid(self.smax * e)

    def gating(self, stage: Stage) -> dict[str, Tensor]:
        """The stage's gates, by the gains that they stand in for."""
        if self.has_learned(stage):
            return {name: self.finished[f"{stage.index}/{name}"] for name in self.gates}
        if self.training:
            return {name: torch.sigmoid(self.s * self.embeddings[name]) for name in self.gates}
        return {name: self.hard(self.embeddings[name]) for name in self.gates}

    def weights(self, stage: Stage) -> dict[str, Tensor]:
        """Kept weights at the values they were kept with, the others as they stand, and the stage's own head and statistics."""
        own = self.statistics.of(stage.index) if self.has_learned(stage) else {}
        return self.owners.present(self.trunk) | self.heads.of(stage.index) | own

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        return self.weights(stage) | self.gating(stage)

    def trainable_parameters(self) -> Iterator[nn.Parameter]:
        yield from self.trunk.values()
        yield from self.heads.of(self.stage).values()
        yield from (self.embeddings[name] for name in self.gates)

    # ---- forgetting a stage

    @torch.no_grad()
    def forget(self, stage: Stage) -> None:
        """Drop the stage's gates, head and statistics, and the weights that it alone computes with."""
        others = [other for other in self.stages() if other != stage.index]
        for other in others:
            self.need_apart(stage, other)
        self.owners.release(self.trunk, stage.index)
        self.heads.drop(stage.index)
        self.statistics.drop(self.net, stage.index)
        for name in self.gates:
            self.finished.drop(f"{stage.index}/{name}")
            every = [self.finished[f"{other}/{name}"] for other in others]
            self.used.put(name, torch.stack(every).amax(0) if every else torch.zeros_like(self.used[name]))
            self.embeddings[name].zero_()

    def need_apart(self, stage: Stage, other: int) -> None:
        """Refuse to forget a stage of which another computes with weights.

        Raises:
            UsageError: it does, or it has open gates, through which all that trained later has a part in it.
        """
        gates = {name: self.finished[f"{other}/{name}"] for name in self.gates}
        if any(((gate > 0) & (gate < 1)).any() for gate in gates.values()):
            raise UsageError(
                f"stage {other} has open gates, through which it computes with weights that others move; with method.binary=true "
                "no gate is open."
            )
        reads = {name: self.between[name].both(gates, w.ndim) > 0 for name, w in self.trunk.items()}
        shared = sum(int((m & (self.owners.owner[name] == stage.index + 1)).sum()) for name, m in reads.items())
        if shared:
            raise UsageError(f"stage {other} computes with {shared:,} weights that {stage.name} has learnt, so that it stays.")

    # ---- for the record

    def has_learned(self, stage: Stage) -> bool:
        return f"{stage.index}/{next(iter(self.gates))}" in self.finished

    def masked_weights(self) -> list[str]:
        return list(self.gates)

    def masks(self) -> dict[str, Tensor]:
        """The units of each finished stage whose gates are on, named `<stage>/<gate>`."""
        return {name: self.finished[name] > 0.5 for name in self.finished.names()}

    def memory(self) -> dict[str, int]:
        """One net; per stage a head, a bit or a float a gate, and norm statistics."""
        units = [math.prod(gate.shape) for gate in self.gates.values()]
        gates = -(-sum(units) // 8) if self.binary else 4 * sum(units)
        shared = sum(w.numel() * w.element_size() for w in self.trunk.values())
        return {"shared": shared, "stage": self.heads.bytes + gates + self.statistics.bytes}

    def memory_after(self, stage: Stage) -> int:
        """Bytes once a stage is learnt: heads have as many outputs as their stage."""
        now = self.memory()
        own = self.heads.bytes_upto(stage.index) + (stage.index + 1) * (now["stage"] - self.heads.bytes)
        return now["shared"] + own

    def extra_metrics(self) -> dict[str, float]:
        """Gates left open, the last stage's that are on, units that no stage uses, weights that are kept and that are not."""
        gates = torch.stack([self.of_stage(stage) for stage in self.stages()])  # [stages, units]
        most = gates.cummax(0).values
        free = self.owners.share_free()
        return {
            "open_gates": float(((most > 0) & (most < 1)).sum(1).max()),
            "gates_on": float((gates[-1] > 0.5).double().mean()),
            "dead_units": float((most[-1] <= 0.5).double().mean()),
            "used": 1 - free,
            "free": free,
        }

    def stages(self) -> list[int]:
        """Indices of the finished stages."""
        return sorted({int(name.partition("/")[0]) for name in self.finished.names()})

    def of_stage(self, stage: int) -> Tensor:
        """All gates of a finished stage, [units]."""
        return torch.cat([self.finished[f"{stage}/{name}"].flatten() for name in self.gates])
