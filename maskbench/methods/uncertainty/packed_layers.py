"""Layers of Packed-Ensembles, and how a plain net is packed: M thin nets side by side in one net of grouped layers.

A packed layer's weight is a wide one under a fixed block-diagonal mask, of which the blocks alone are kept. It computes in two
ways, equal up to rounding: `grouped`, block by block; or `masked`, as the wide layer whose other entries are 0.
"""

import copy
import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from maskbench.backbones.fold import FoldLinear
from maskbench.backbones.gate import Gate
from maskbench.backbones.initial import initialise
from maskbench.backbones.memory_format import channels_last
from maskbench.backbones.norm import BATCH_NORMS
from maskbench.backbones.resnet import Block, Pad
from maskbench.common.errors import UsageError

Execution = Literal["grouped", "masked"]
PLAIN = (nn.Linear, nn.Conv2d, FoldLinear)
OTHER_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm)  # would mix the units of all members
TAKE = "take a net of Linear and Conv2d layers and batch norms, such as backbone=lenet5"


class PackedLinear(nn.Module):
    """[..., batch, inputs] -> [..., batch, outputs] in blocks: weight [..., groups, outputs / groups, inputs / groups].

    Args:
        shape: of the weight; dimensions before the last three are folds, each a net of its own (fold.py).
        draws: how many matrices, of equally many outputs, its first values are drawn as.
    """

    def __init__(self, *shape: int, bias: bool, draws: int, execution: Execution) -> None:
        super().__init__()
        *folds, groups, outputs, _ = shape
        self.draws, self.execution = draws, execution
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.empty(*folds, groups * outputs)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Each block as torch's Linear draws its own."""
        bound = 1 / math.sqrt(self.weight.shape[-1])
        for w in (self.weight, self.bias):
            if w is not None:
                nn.init.uniform_(w, -bound, bound)

    def matrices(self) -> list[Tensor]:
        """What initial rules draw: views of the weight, [outputs, inputs] of one thin net's block."""
        one = self.weight.detach()
        per_group = self.draws // one.shape[-3]
        return [w for group in one.flatten(0, -3) for w in group.chunk(per_group)]

    def dense(self) -> Tensor:
        """The wide weight [..., outputs, inputs]: zeros outside the blocks."""
        groups = self.weight.shape[-3]
        mask = torch.eye(groups, dtype=self.weight.dtype, device=self.weight.device)[:, None, :, None]
        return (self.weight[..., None, :] * mask).flatten(-2).flatten(-3, -2)

    def forward(self, x: Tensor) -> Tensor:
        groups = self.weight.shape[-3]
        if groups == 1 or self.execution == "masked":
            y = x @ self.dense().mT if groups > 1 else x @ self.weight.squeeze(-3).mT
        else:
            apart = x.unflatten(-1, (groups, -1)).movedim(-2, -3)
            y = (apart @ self.weight.mT).movedim(-3, -2).flatten(-2)
        if self.bias is None:
            return y
        return y + (self.bias if self.bias.ndim == 1 else self.bias[:, None])


class PackedConv2d(nn.Conv2d):
    """A Conv2d of so many groups, whose blocks are drawn as layers of their own. On a CPU it works with channels last, in which
    small groups and what follows on their maps are two to three times as fast."""

    def __init__(self, like: nn.Conv2d, inputs: int, outputs: int, groups: int, draws: int, execution: Execution) -> None:
        own = {name: getattr(like, name) for name in ("kernel_size", "stride", "padding", "dilation", "padding_mode")}
        super().__init__(inputs, outputs, groups=groups, bias=like.bias is not None, **own)
        self.draws, self.execution = draws, execution
        if channels_last in like._forward_pre_hooks.values():
            self.register_forward_pre_hook(channels_last)

    def matrices(self) -> list[Tensor]:
        return list(self.weight.detach().chunk(self.draws))

    def dense(self) -> Tensor:
        """The wide weight [outputs, inputs, *kernel]: zeros outside the blocks."""
        mask = torch.eye(self.groups, dtype=self.weight.dtype, device=self.weight.device)[:, None, :, None, None, None]
        blocks = self.weight.unflatten(0, (self.groups, -1))
        return (blocks[:, :, None] * mask).flatten(2, 3).flatten(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu":
            x = x.to(memory_format=torch.channels_last)  # also of one channel, whose order torch would else not see
        if self.execution == "grouped":
            return self._conv_forward(x, self.weight, self.bias)
        return functional.conv2d(x, self.dense(), self.bias, self.stride, self.padding, self.dilation)


# ---- packing and unpacking


def pack(net: nn.Module, members: int, alpha: float, gamma: int, execution: Execution) -> None:
    """Turn a plain net into one that holds `members` thin ones, in place; all weights are drawn anew, by the net's own rule.

    A hidden layer of n units gets int(alpha n), rounded up to the next multiple of members * gamma, in as many groups. The first
    layer has no groups, so every member sees all inputs; the last has one for each member, without gamma, and its outputs member
    after member. Layers are taken in the order in which the net lists them.

    Raises:
        UsageError: the net has other layers than these, or more groups are asked for than a layer would have units.
    """
    layers = {name: module for name, module in net.named_modules() if isinstance(module, PLAIN)}
    refuse_others(net, layers)
    names, groups = list(layers), members * gamma
    known: dict[int, int] = {}  # units of the plain net's layers so far -> of the packed one's
    before = 0
    for name in names:
        layer, first, last = layers[name], name == names[0], name == names[-1]
        outputs, inputs = sizes(layer)
        wide = members * outputs if last else widened(outputs, alpha, members, gamma, name)
        entering = inputs if first else entered(layer, inputs, before, known, name)
        own = 1 if first else members if last else groups
        put(net, name, packed(layer, entering, wide, own, max(own, members), execution))
        if not last:
            known[outputs], before = wide, outputs
    follow(net, known, members)
    for name in names:
        rule = getattr(net, "head_init", None) if name == names[-1] else None
        initialise(net.get_submodule(name), rule or getattr(net, "init", "torch"))


def refuse_others(net: nn.Module, layers: dict[str, nn.Module]) -> None:
    """Raises UsageError where a net has something that would join its members, or that cannot be cut among them."""
    kind = type(net).__name__
    if len(layers) < 2 or list(layers)[-1] != "head":
        raise UsageError(f"method=packed_ensembles needs a hidden layer or more and then `head`, and {kind} has not: {TAKE}")
    for name, module in net.named_modules():
        odd = isinstance(module, nn.Conv2d) and (module.groups > 1 or module.padding_mode != "zeros")
        strange = name not in layers and not isinstance(module, BATCH_NORMS) and len([*module.parameters(recurse=False)]) > 0
        if odd or strange or isinstance(module, OTHER_NORMS):
            place = f"{kind}.{name}".removesuffix(".")
            raise UsageError(f"method=packed_ensembles cannot cut {place} ({type(module).__name__}) among members: {TAKE}")


def widened(units: int, alpha: float, members: int, gamma: int, name: str) -> int:
    """int(alpha * units), rounded up to the next multiple of members * gamma.

    Raises:
        UsageError: that is more groups than units.
    """
    wide, groups = int(alpha * units), members * gamma
    if wide < groups:
        raise UsageError(
            f"method.members={members} times method.gamma={gamma} makes {groups} groups, more than the {wide} units that "
            f"method.alpha={alpha:g} gives {name}: take fewer, or a larger method.alpha"
        )
    return -(-wide // groups) * groups


def entered(layer: nn.Module, inputs: int, before: int, known: dict[int, int], name: str) -> int:
    """How many inputs a layer has in the packed net: units of one before it, or their maps pixel by pixel."""
    if isinstance(layer, nn.Conv2d) and inputs in known:
        return known[inputs]
    if isinstance(layer, nn.Conv2d) or inputs % before:
        raise UsageError(f"method=packed_ensembles cannot tell which units enter {name}, of {inputs} inputs: {TAKE}")
    return known[before] * (inputs // before)


def sizes(layer: nn.Module) -> tuple[int, int]:
    """(outputs, inputs) of a plain layer."""
    outputs, inputs = layer.weight.shape[-2:] if isinstance(layer, FoldLinear) else layer.weight.shape[:2]
    return outputs, inputs


def packed(layer: nn.Module, inputs: int, outputs: int, groups: int, draws: int, execution: Execution) -> nn.Module:
    """What stands in a plain layer's place."""
    if isinstance(layer, nn.Conv2d):
        return PackedConv2d(layer, inputs, outputs, groups, draws, execution)
    shape = (*layer.weight.shape[:-2], groups, outputs // groups, inputs // groups)
    return PackedLinear(*shape, bias=layer.bias is not None, draws=draws, execution=execution)


def follow(net: nn.Module, known: dict[int, int], members: int) -> None:
    """Let norms, gates and shortcuts have the units of the layers they belong to."""
    for name, module in list(net.named_modules()):
        if isinstance(module, BATCH_NORMS):
            put(net, name, norm(module, known[module.num_features]))
        elif isinstance(module, Gate) and not module.inlet:
            module.shape = (*module.shape[:-1], known[module.shape[-1]])
        elif isinstance(module, Block) and isinstance(module.shortcut, Pad):  # its convolutions are packed by now
            module.shortcut.more = (module.conv1.out_channels - module.conv1.in_channels) // members
            module.shortcut.parts = members


def norm(like: nn.Module, units: int) -> nn.Module:
    return type(like)(units, like.eps, like.momentum, like.affine, like.track_running_stats)


def put(net: nn.Module, name: str, module: nn.Module) -> None:
    owner, _, leaf = name.rpartition(".")
    setattr(net.get_submodule(owner), leaf, module)


@torch.no_grad()
def unpacked(net: nn.Module, members: int, number: int) -> nn.Module:
    """One member as a thin net of plain layers, that answers as the member does: a copy."""

    def part(tensor: Tensor, dim: int = 0) -> Tensor:
        return tensor.chunk(members, dim)[number].clone()

    thin = copy.deepcopy(net)
    for name, module in net.named_modules():
        if isinstance(module, PackedConv2d):
            inputs, shared = module.in_channels // members, module.groups == 1
            own = {key: getattr(module, key) for key in ("kernel_size", "stride", "padding", "dilation")}
            groups = 1 if shared else module.groups // members
            layer = nn.Conv2d(
                module.in_channels if shared else inputs, module.out_channels // members, groups=groups,
                bias=module.bias is not None, **own,
            )  # fmt: skip
            fill(layer, part(module.weight), None if module.bias is None else part(module.bias))
        elif isinstance(module, PackedLinear):
            shared = module.weight.shape[-3] == 1
            w = part(module.dense(), -2)
            w = w if shared else part(w, -1)
            folds = w.shape[:-2]
            layer = FoldLinear(*w.shape[:1], w.shape[-1], w.shape[-2]) if folds else nn.Linear(w.shape[-1], w.shape[-2])
            fill(layer, w, None if module.bias is None else part(module.bias, -1))
        elif isinstance(module, BATCH_NORMS):
            layer = norm(module, module.num_features // members)
            layer.load_state_dict({key: part(value) if value.ndim else value for key, value in module.state_dict().items()})
        else:
            copied = thin.get_submodule(name)
            if isinstance(module, Gate) and not module.inlet:
                copied.shape = (*module.shape[:-1], module.shape[-1] // members)
            elif isinstance(module, Pad):
                copied.parts = 1
            continue
        put(thin, name, layer)
    return thin.train(net.training)


def fill(layer: nn.Module, weight: Tensor, bias: Tensor | None) -> None:
    layer.weight = nn.Parameter(weight)
    layer.bias = None if bias is None else nn.Parameter(bias)
