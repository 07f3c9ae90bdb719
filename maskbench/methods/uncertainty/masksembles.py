"""Masksembles: one net, M fixed masks over its units, M answers (Durasov et al. 2021, arXiv 2012.08334).

The masks are drawn once, with an overlap set by S, and never learnt. In training each example passes through one of them,
in prediction through all. Nothing is rescaled, and there is no switch between training and evaluation.
"""

import hashlib
import logging
import math
from collections.abc import Callable
from typing import Literal, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from maskbench import masks
from maskbench.backbones.gate import gates_of
from maskbench.backbones.norm import BATCH_NORMS
from maskbench.common import devices
from maskbench.common.errors import UsageError
from maskbench.common.knobs import Count
from maskbench.common.streams import seed_for, under_way
from maskbench.data.stage import Stage
from maskbench.masks.stores import TensorStore
from maskbench.methods.uncertainty import overlap
from maskbench.training.method import Method

log = logging.getLogger("maskbench")
GENERATORS = {"repaired": overlap.repaired, "original": overlap.original}


@final
class Masksembles(Method):
    """One net whose M fixed masks over hidden units make an ensemble of overlapping sub-networks.

    Args:
        net: any backbone with gates; they stand after the hidden layers' activations (the authors' advice), so the output
            layer is not masked. Norm statistics are shared by all sub-networks. Weight decay also hits what is unused.
        members: M, the number of masks.
        scale: S, which sets the overlap: from 1 (all masks alike: a single net) to infinity (disjoint masks: thin nets side
            by side).
        width: `fixed`, or `capacity_matched`, by which the config has widened `net` so that K is what its width was.
        assign: which mask an example meets in training: `chunk`, the batch in M consecutive parts (the code); `random` (the
            text); `all`, every example through every mask, at M times the cost.
        generator: `repaired` always ends; `original` draws as the authors' package does and may fail.

    Raises:
        UsageError: S below 1, a backbone without gates, or masks that `original` does not find.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        members: Count = 4,
        scale: float = 2.0,
        width: Literal["fixed", "capacity_matched"] = "fixed",
        assign: Literal["chunk", "random", "all"] = "chunk",
        generator: Literal["repaired", "original"] = "repaired",
    ) -> None:
        super().__init__(net)
        overlap.check(members, scale)
        self.members, self.scale, self.assign = members, scale, assign
        self.gates = gates_of(net)
        if not self.gates:
            raise UsageError(
                f"method=masksembles needs a backbone with gates, and {type(net).__name__} has none: backbone=lenet5"
            )
        # bool [members, units], by gate; in the state, so that a run restored has the masks it trained with
        self.drawn = TensorStore()
        for name, gate in self.gates.items():
            units, rng = gate.shape[-1], np.random.default_rng(seed_for(under_way(), "masks", name))
            if units < 10:
                log.warning("Masksembles: %s has %d units, few for masks of a given overlap", name.removesuffix(".gain"), units)
            self.drawn.put(name, torch.from_numpy(GENERATORS[generator](units, members, scale, rng)).contiguous())
            gate.gain = torch.ones(units)  # what a mask stands in for

    # ---- the algorithm

    def loss(self, batch: tuple[Tensor, Tensor], stage: Stage) -> Tensor:
        """The criterion, with each example through the mask that `assign` gives it."""
        x, y = batch
        index = devices.own(ASSIGN[self.assign](devices.whole(len(x)), self.members, x.device))
        if (times := len(index) // len(x)) > 1:
            x, y = (t.repeat(times, *[1] * (t.ndim - 1)) for t in (x, y))
        return stage.criterion(functional_call(self.net, self.gains(index), (x,)), y)

    def effective_weights(self, x: Tensor, stage: Stage) -> dict[str, Tensor]:
        """The first mask, for what takes a single net. Training gives each example its own mask, `predict` uses them all."""
        return self.member(0)

    def member(self, number: int) -> dict[str, Tensor]:
        """The gains of a sub-network, by gate."""
        return {name: self.drawn[name][number].float() for name in self.gates}

    def gains(self, index: Tensor) -> dict[str, Tensor]:
        """One mask an example: index [batch] -> by gate [batch, units], the same for all folds. One index for all gates:
        sub-network i is mask i everywhere."""
        picked = {name: self.drawn[name][index].float() for name in self.gates}
        return {name: gain if len(self.gates[name].shape) == 1 else gain[:, None] for name, gain in picked.items()}

    def predict(self, x: Tensor, stage: Stage) -> Tensor:
        """Every example through every mask, [members, batch, outputs]; one mask at a time, so that memory is one net's."""
        return torch.stack([stage.link(functional_call(self.net, self.member(m), (x,))) for m in range(self.members)])

    # ---- a member as a net of its own

    def subnetwork(self, member: int) -> dict[str, Tensor]:
        """The state of a plain net of the member's size that answers as the member does: without the units it masks.

        For nets without norms whose gates stand one after each layer but the last (fully connected ones, LeNets, conv-2 to -8).

        Raises:
            UsageError: the net is not of that kind.
        """
        sites = masks.sites(self.net)
        gates = list(self.gates)
        normed = any(isinstance(module, BATCH_NORMS) for module in self.net.modules())
        if normed or len(sites) != len(gates) + 1 or any(len(self.gates[name].shape) > 1 for name in gates):
            raise UsageError("a sub-network can be taken out of plain feed-forward backbones without norms only, such as lenet5")
        state = dict(self.net.state_dict())
        before: Tensor | None = None
        for site, gate in zip(sites, [*gates, None], strict=True):
            w, bias = state[site], site.removesuffix("weight") + "bias"
            if before is not None:  # a convolution's unit is a whole map, and so many inputs of the layer after it
                w = w[:, before.repeat_interleave(w.shape[1] // len(before))]
            if gate is not None:
                before = self.drawn[gate][member]
                w = w[before]
                state |= {bias: state[bias][before]} if bias in state else {}
            state[site] = w
        return state

    # ---- for the record

    def masked_weights(self) -> list[str]:
        return list(self.gates)

    def masks(self) -> dict[str, Tensor]:
        """Named `<member>/<gate>`."""
        return {f"{m}/{name}": self.drawn[name][m] for m in range(self.members) for name in self.gates}

    def extra_metrics(self) -> dict[str, float]:
        """S as given and as drawn, the mean IoU of pairs, K / C and its inverse."""
        by_gate = {name: self.drawn[name].cpu().numpy() for name in self.gates}
        ious = [overlap.mean_iou(m) for m in by_gate.values()]
        keep = sum(m.mean() for m in by_gate.values()) / len(by_gate)
        metrics = {"scale": float(self.scale), "mask_keep": keep, "width_factor": 1 / keep}
        if self.members > 1:
            iou = sum(ious) / len(ious)
            metrics |= {"mask_iou": iou, "scale_effective": overlap.effective_scale(iou)}
        return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}

    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of all masks, gate by gate, a byte a unit."""
        content = b"".join(self.drawn[name].cpu().numpy().tobytes() for name in self.gates)
        return {"masks_sha256": hashlib.sha256(content).hexdigest()}


def chunk(batch: int, members: int, device: torch.device) -> Tensor:
    """The mask of each example, [batch]: consecutive parts, as equal as they can be; at random where there are fewer examples
    than masks, or some masks would never be trained."""
    if batch < members:
        return torch.randperm(members, device=device)[:batch]
    return torch.arange(batch, device=device) * members // batch


def random(batch: int, members: int, device: torch.device) -> Tensor:
    """A mask at random for each example, [batch]."""
    return torch.randint(members, (batch,), device=device)


def every(batch: int, members: int, device: torch.device) -> Tensor:
    """The whole batch for each mask: [members * batch]."""
    return torch.arange(members, device=device).repeat_interleave(batch)


ASSIGN: dict[str, Callable[[int, int, torch.device], Tensor]] = {"chunk": chunk, "random": random, "all": every}
