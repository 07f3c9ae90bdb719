"""Packed-Ensembles: M thin nets in one net of grouped layers (Laurent et al. 2023, arXiv 2210.09184).

Hidden widths are multiplied by alpha and cut into M * gamma groups that nothing connects: a fixed block-diagonal mask over
weights. The first layer is shared out among members, the last gives each its own outputs; one pass answers for all.
"""

import copy
from collections.abc import Callable
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from maskbench.common.knobs import Count, Positive
from maskbench.data.stage import Stage
from maskbench.masks.places import positions
from maskbench.methods.uncertainty.packed_layers import Execution, pack, unpacked
from maskbench.training.method import Method


@final
class PackedEnsembles(Method):
    """M members inside one net whose layers are cut into groups; each is trained on every example.

    With gamma = 1 a member is the backbone with alpha / M of its width, and the ensemble one of such nets that share their
    batches. Batch norms are each member's own, since they are a unit's.

    Args:
        net: a net of Linear and Conv2d layers and batch norms. It is widened, cut and drawn anew in here (packed_layers.py): a
            layer of n units gets int(alpha n), rounded up to a multiple of M * gamma.
        members: M.
        alpha: what widths are multiplied by: at alpha = sqrt(M) hidden layers have the weights of the plain net.
        gamma: groups inside each member, of all layers but the first and the last. The authors' ResNets leave the first
            convolution of each block without it, and take fewer where a group would have less than 64 channels; here it holds
            for all alike.
        execution: `grouped`, block by block; `masked`, the wide net with a mask, equal up to rounding: the reference.

    Raises:
        UsageError: a net with other layers, or more groups than a layer has units.
    """

    drawn_by_rule: ClassVar = "its members are thin nets, each drawn anew"  # cli/parts.py

    def __init__(
        self,
        net: nn.Module,
        *,
        members: Count = 4,
        alpha: Positive = 2.0,
        gamma: Count = 1,
        execution: Execution = "grouped",
    ) -> None:
        super().__init__(net)
        self.members, self.alpha, self.gamma = members, alpha, gamma
        self.plain = (copy.deepcopy(net).to("meta"),)  # what costs are compared with; in a tuple, as it is no part of the method
        self.macs: dict[str, float] = {}
        pack(net, members, alpha, gamma, execution)

    # ---- the algorithm

    def learn(self, stage: Stage, fit: Callable) -> None:
        self.macs = macs(self.net, self.plain[0], stage.shape)  # follows from the stage
        fit(self, stage)

    def loss(self, batch: tuple[Tensor, Tensor], stage: Stage) -> Tensor:
        """The criterion's mean over members, all on the same batch and targets."""
        x, y = batch
        return stage.criterion(self.outputs(x).flatten(0, 1), y.repeat(self.members, *[1] * (y.ndim - 1)))

    def outputs(self, x: Tensor) -> Tensor:
        """All members' outputs in one pass, [members, batch, outputs]."""
        return self.net(x).unflatten(-1, (self.members, -1)).movedim(-2, 0)

    def predict(self, x: Tensor, stage: Stage) -> Tensor:
        return torch.stack([stage.link(outputs) for outputs in self.outputs(x)])

    def logits(self, x: Tensor, stage: Stage) -> Tensor:
        """The first member's, for what takes a single net."""
        return self.outputs(x)[0]

    # ---- a member as a net of its own

    def member_net(self, number: int) -> nn.Module:
        """A thin net of plain layers that answers as the member does."""
        return unpacked(self.net, self.members, number)

    def member(self, number: int) -> dict[str, Tensor]:
        """The tensors of that net, by the backbone's names."""
        return dict(self.member_net(number).state_dict())

    # ---- for the record

    def extra_metrics(self) -> dict[str, float]:
        """M, alpha, gamma; weights and multiply-accumulates (MACs) an example, of all members together, and both as multiples of
        the plain net's."""
        weights, plain = (sum(p.numel() for p in net.parameters()) for net in (self.net, *self.plain))
        setting = {"members": self.members, "alpha": float(self.alpha), "gamma": self.gamma}
        return setting | {"weights": weights, "weights_over_plain": weights / plain} | self.macs


def macs(net: nn.Module, plain: nn.Module, shape: tuple[int, ...]) -> dict[str, float]:
    """MACs of one input of that shape through a packed net: `macs`, and `macs_over_plain`."""
    convolutions = any(isinstance(module, nn.Conv2d) for module in plain.modules())
    places = (positions(plain, shape) if convolutions else None) or {}
    counts = [
        sum(w.numel() * places.get(name, 1) for name, w in one.named_parameters() if name.endswith("weight") and w.ndim > 1)
        for one in (net, plain)
    ]
    return {"macs": counts[0], "macs_over_plain": counts[0] / counts[1]}
