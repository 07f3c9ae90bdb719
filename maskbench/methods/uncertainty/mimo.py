"""MIMO: one net that takes M inputs at once and answers for each (Havasi et al. 2021, arXiv 2010.06610).

Only the first layer and the head are wider; in training the M inputs are different examples, in prediction M times the same one,
so that the M answers are those of sub-networks which share all hidden layers without any mask.
"""

import copy
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from maskbench.backbones.fold import FoldLinear
from maskbench.backbones.initial import initialise
from maskbench.common import devices
from maskbench.common.errors import UsageError
from maskbench.common.knobs import Count, Probability
from maskbench.data.stage import Stage
from maskbench.methods.uncertainty.packed_layers import PLAIN, put, sizes
from maskbench.training.method import Method


@final
class MIMO(Method):
    """M inputs and M outputs of one net.

    Args:
        net: a backbone whose first layer and whose `head` are Linear or Conv2d; both are widened and drawn anew in here.
        members: M.
        repeat: share of training examples that all members are given alike, as in prediction. The paper's larger nets want some,
            and its batches hold each example several times; here each once.

    Raises:
        UsageError: no such layers, or only one.
    """

    drawn_by_rule: ClassVar = "its first layer and its head are wider than any file's"  # cli/parts.py

    def __init__(self, net: nn.Module, *, members: Count = 3, repeat: Probability = 0.0) -> None:
        super().__init__(net)
        self.members, self.repeat = members, repeat
        names = [name for name, module in net.named_modules() if isinstance(module, PLAIN)]
        if len(names) < 2 or names[-1] != "head":
            kind = type(net).__name__
            raise UsageError(f"method=mimo needs hidden layers and then `head`, and {kind} has not: take backbone=lenet5")
        self.first = names[0]
        first, head = net.get_submodule(self.first), net.head
        put(net, self.first, resized(first, inputs=sizes(first)[1] * members))
        put(net, "head", resized(head, outputs=sizes(head)[0] * members))
        for name, rule in ((self.first, None), ("head", getattr(net, "head_init", None))):
            initialise(net.get_submodule(name), rule or getattr(net, "init", "torch"))

    # ---- the algorithm

    def loss(self, batch: tuple[Tensor, Tensor], stage: Stage) -> Tensor:
        """Summed over members, each of which has an order of its own of the batch."""
        x, y = map(devices.whole_batch, batch)  # partners may be on other devices
        orders = [devices.own(self.order(len(x), x.device)) for _ in range(self.members)]
        outputs = self.outputs([x[order] for order in orders])
        return torch.stack([stage.criterion(out, y[order]) for out, order in zip(outputs, orders, strict=True)]).sum()

    def order(self, rows: int, device: torch.device) -> Tensor:
        """Which example a member meets in each place: the first round(repeat * rows) stay, the rest is shuffled."""
        kept = round(self.repeat * rows)
        return torch.cat([torch.arange(kept, device=device), kept + torch.randperm(rows - kept, device=device)])

    def outputs(self, x: list[Tensor]) -> Tensor:
        """[members, batch, outputs] of one input [batch, ...] a member: channels, or a table's values, behind one another."""
        joined = torch.cat(x, -1 if x[0].ndim == 3 else 1)
        return self.net(joined).unflatten(-1, (self.members, -1)).movedim(-2, 0)

    def predict(self, x: Tensor, stage: Stage) -> Tensor:
        return torch.stack([stage.link(outputs) for outputs in self.outputs([x] * self.members)])

    def logits(self, x: Tensor, stage: Stage) -> Tensor:
        """The first member's, for what takes a single net."""
        return self.outputs([x] * self.members)[0]

    # ---- a member as a net of its own

    @torch.no_grad()
    def member_net(self, number: int) -> nn.Module:
        """A plain net that answers as the member does: where all inputs are alike, their weights add up."""
        one, first, head = copy.deepcopy(self.net), self.net.get_submodule(self.first), self.net.head
        dim = 2 if isinstance(first, FoldLinear) else 1
        entry = resized(first, inputs=sizes(first)[1] // self.members)
        entry.weight.copy_(first.weight.unflatten(dim, (self.members, -1)).sum(dim))
        leave = resized(head, outputs=sizes(head)[0] // self.members)
        rows = -2 if isinstance(head, FoldLinear) else 0
        leave.weight.copy_(head.weight.chunk(self.members, rows)[number])
        if first.bias is not None:
            entry.bias.copy_(first.bias)
        if head.bias is not None:
            leave.bias.copy_(head.bias.chunk(self.members, -1)[number])
        put(one, self.first, entry)
        put(one, "head", leave)
        return one.train(self.net.training)

    def member(self, number: int) -> dict[str, Tensor]:
        """The tensors of that net, by the backbone's names."""
        return dict(self.member_net(number).state_dict())

    # ---- for the record

    def extra_metrics(self) -> dict[str, float]:
        """M, and how many weights the net has for one of a plain net."""
        weights, plain = (sum(p.numel() for p in net.parameters()) for net in (self.net, self.member_net(0)))
        return {"members": self.members, "weights_over_plain": weights / plain}


def resized(like: nn.Module, inputs: int | None = None, outputs: int | None = None) -> nn.Module:
    """A layer of that kind with as many inputs or outputs.

    Raises:
        UsageError: a convolution of groups.
    """
    here, there = sizes(like)
    outputs, inputs, bias = outputs or here, inputs or there, like.bias is not None
    if isinstance(like, FoldLinear):
        return FoldLinear(like.weight.shape[0], inputs, outputs, bias)
    if isinstance(like, nn.Linear):
        return nn.Linear(inputs, outputs, bias)
    if like.groups > 1:
        raise UsageError("method=mimo needs a first convolution without groups: take backbone=lenet5")
    own = {name: getattr(like, name) for name in ("kernel_size", "stride", "padding", "dilation", "padding_mode")}
    layer = nn.Conv2d(inputs, outputs, bias=bias, **own)
    layer._forward_pre_hooks.update(like._forward_pre_hooks)  # the order of channels in memory (memory_format.py)
    return layer
