"""What methods of sparse training keep: masks over a net's weights and the weights that training started from.

y = f(x; w * m). A dead weight (mask 0) is exactly 0 in the net, and so is all that an optimiser remembers of it: `put` and
`bury` see to it where masks change, and the steps between leave it so, since a dead weight's gradient is 0. What counts,
then, is the net itself: w * m only keeps gradients away from the dead.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from maskbench import masks
from maskbench.masks.scopes import by_unit
from maskbench.masks.stores import TensorStore
from maskbench.masks.units import units
from maskbench.methods.prune.kernel import Choice, Kernel
from maskbench.training.optimizers import moments

KEEP = 0.05  # share of the weights that stays where nobody says


class SparseNet(nn.Module):
    """Masks over the maskable weights of a net (all ones at first) and the net's first state; its buffers are the memory.

    The net is handed in where it is needed: it is the method's, and stands in the state once. Masks are bool tensors by the
    weight's name; they are kept as zeros and ones of the weight's type, by which it is multiplied.

    Args:
        net: the backbone, as training is to start from it.
        dense: modules without masks (`[head]`).
        scope: under `unit` and `unit_l1` masks hold whole units: the bias, gain and shift of a dead one are 0 with its weights.
        kernel: how masked Linear layers are computed while masks stand still (kernel.py).

    Raises:
        UsageError: the net has no maskable weight, no module of a name in `dense`, or units that cannot go alone.
    """

    def __init__(self, net: nn.Module, dense: Iterable[str] = (), scope: str = "", kernel: Choice = "dense") -> None:
        super().__init__()
        self.sites = masks.sites(net, skip=dense)
        self.alive, self.start, self.kernel = TensorStore(), TensorStore(), Kernel(kernel)
        self.units = units(net, self.sites) if by_unit(scope) else None
        # of a unit scope: as scopes.best and scopes.counts take them
        self.follow, self.uncut = (self.units.follow, self.units.whole) if self.units else (None, None)
        vectors = (
            [v for name in self.units.vectors if name not in self.units.whole for v in self.units.vectors[name]]
            if self.units
            else []
        )
        for name in [*self.sites, *vectors]:
            self.alive.put(name, torch.ones_like(net.get_parameter(name)))
        self.restart_from(net)

    # ---- masks

    def __getitem__(self, name: str) -> Tensor:
        """The mask of one weight, bool."""
        return self.alive[name].bool()

    def kept(self) -> dict[str, Tensor]:
        """All masks, bool."""
        return {name: self[name] for name in self.sites}

    def shapes(self) -> dict[str, torch.Size]:
        """The shapes of the masked weights."""
        return {name: self.alive[name].shape for name in self.sites}

    def counts(self) -> dict[str, int]:
        """How many weights each mask keeps."""
        return {name: int(self[name].sum()) for name in self.sites}

    @torch.no_grad()
    def put(self, net: nn.Module, kept: Mapping[str, Tensor], optimizer: torch.optim.Optimizer | None = None) -> None:
        """Set the masks that are given (bool). What they drop is 0 in the net and forgotten by the optimiser; what they add
        is born at 0, without a past."""
        before = {name: self[name] for name in self.alive.names()}
        for name, mask in kept.items():
            self.alive[name].copy_(mask)
        for name, living in self.units.masks(self.kept()).items() if self.units else ():
            self.alive[name].copy_(living)
        self.bury(net, optimizer, before)

    @torch.no_grad()
    def bury(
        self, net: nn.Module, optimizer: torch.optim.Optimizer | None = None, before: Mapping[str, Tensor] | None = None
    ) -> None:
        """Weights and the optimiser's moments exactly 0 (+0) wherever a mask is 0, or the one `before` it was."""
        for name in self.alive.names():
            w, living = net.get_parameter(name), self[name]
            dead = ~(living if before is None else living & before[name])
            w.masked_fill_(dead, 0.0)
            for moment in moments(optimizer, w) if optimizer is not None else ():
                moment.masked_fill_(dead, 0.0)

    def effective_weights(self, net: nn.Module) -> dict[str, Tensor]:
        """w * m: what stands in for the net's own weights, and for the vectors of whole units."""
        compact = self.kernel.effective_weights(net)
        return compact | {name: net.get_parameter(name) * self.alive[name] for name in self.alive.names() if name not in compact}

    # ---- training by the kept values alone

    def trainable_parameters(self, net: nn.Module) -> Iterator[nn.Parameter]:
        """As `Method.trainable_parameters`: all of the net's, and of a layer that is compact now its kept values."""
        return self.kernel.trainable_parameters(net)

    def compact(self, net: nn.Module) -> AbstractContextManager:
        """Around a phase of training: inside, layers that are cheaper so train their kept values alone."""
        return self.kernel.compacted(net, self.kept())

    @contextmanager
    def whole(self, net: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[None]:
        """Around what reads the net or moves masks in a hook: inside, the net's own weights are what the optimiser moves."""
        self.kernel.expand(net, optimizer)
        yield
        self.kernel.compact(net, self.kept(), optimizer)

    def fingerprints(self, net: nn.Module) -> dict[str, Any]:
        """As `Method.fingerprints`: by which kernel each layer trains under the present masks."""
        return self.kernel.fingerprints(net, self.kept())

    # ---- where training starts

    def restart_from(self, net: nn.Module) -> None:
        """The net's state now (weights, biases, norm statistics) is the start that `rewind` goes back to."""
        for name, value in net.state_dict().items():
            self.start.put(name, value)

    @torch.no_grad()
    def rewind(self, net: nn.Module) -> None:
        """The net as it started, under the present masks."""
        for name, value in net.state_dict().items():
            value.copy_(self.start[name])
        self.bury(net)

    # ---- for the record

    def masks(self) -> dict[str, Tensor]:
        """As `Method.masks`: the only level's."""
        return {f"0/{name}": self[name] for name in self.sites}

    def densities(self, net: nn.Module) -> dict[str, float]:
        """`density` of the whole net, layers without a mask included, and `density/<layer>`."""
        return masks.densities(net, {name: self.alive[name] for name in self.sites})

    def ticket(self) -> dict[str, Tensor]:
        """As `Method.ticket`: the net's first state, and a uint8 `mask|<name>` each."""
        start = {name: self.start[name] for name in self.start.names()}
        return start | {f"mask|{name}": self[name].to(torch.uint8) for name in self.sites}

    def memory(self, net: nn.Module) -> dict[str, int]:
        """As `Method.memory`: the values that stay, and the masks at one bit a weight (LeNet-300-100: 33,275 bytes)."""
        dead = sum(int((~self[name]).sum()) * self.alive[name].element_size() for name in self.alive.names())
        bits = sum(masks.packed_bytes(self.alive[name]) for name in self.sites)
        return {"shared": sum(p.numel() * p.element_size() for p in net.parameters()) - dead, "stage": bits}
