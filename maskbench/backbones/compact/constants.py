"""Units that answer the same to every input: what no input reaches, a bias behind a ReLU, a norm's shift."""

import torch
from torch import Tensor, fx, nn

from maskbench.backbones.compact.graph import Step

EQUAL = 1e-9  # relative: how far the places of a constant unit may be apart, by the rounding of a mean


@torch.no_grad()
def constants(steps: list[Step]) -> dict[fx.Node, Tensor]:
    """By step the value of each unit, [units], float64: NaN where it depends on the input or differs from place to place."""
    values: dict[fx.Node, Tensor] = {}
    for step in steps:
        if not step.units:
            continue
        if step.role in ("input", "mixes"):
            values[step.node] = torch.full((step.units,), torch.nan, dtype=torch.float64)
            continue
        before = values[step.source]
        if step.role == "layer":
            values[step.node] = of_layer(step.module, before)
        elif step.role == "norm":
            gain, shift = gain_and_shift(step.module)
            values[step.node] = torch.where(gain == 0, shift, before * gain + shift)
        elif step.role == "gate":
            gain = step.module.gain.double()
            values[step.node] = torch.where(gain == 0, torch.zeros_like(before), before * gain)
        elif step.role == "flatten":
            values[step.node] = before.repeat_interleave(step.units // len(before))
        else:
            values[step.node] = before if step.role == "nothing" else passed_on(step, before)
    return values


def of_layer(layer: nn.Module, before: Tensor) -> Tensor:
    """A unit is constant where every weight of it stands on a constant, and its places see the same of it."""
    w, known = layer.weight.double(), ~before.isnan()
    moving = ~known if not pads(layer) else ~(before == 0)  # zeros around an image are another constant than its own
    bias = torch.zeros(len(w), dtype=w.dtype) if layer.bias is None else layer.bias.double()
    return torch.where((read(layer) & moving).any(1), torch.nan, bias + summed(w) @ before.nan_to_num())


def read(layer: nn.Module) -> Tensor:
    """Which unit (row) reads which unit before it (column), bool [outputs, inputs]."""
    return layer.weight.detach().flatten(2).ne(0).any(2) if layer.weight.ndim > 2 else layer.weight.detach() != 0


def summed(w: Tensor) -> Tensor:
    """Weights summed over their kernel, [outputs, inputs]."""
    return w.flatten(2).sum(2) if w.ndim > 2 else w


def pads(layer: nn.Module) -> bool:
    """Whether a convolution sees zeros around its images."""
    if isinstance(layer, nn.Linear) or layer.padding_mode != "zeros" or layer.padding == "valid":
        return False
    return any(k > 1 for k in layer.kernel_size) if layer.padding == "same" else any(layer.padding)


def gain_and_shift(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """What a batch norm does in evaluation: y = gain * x + shift, each [units], float64."""
    gain = (norm.running_var.double() + norm.eps).rsqrt()
    gain = gain if norm.weight is None else gain * norm.weight.double()
    shift = -norm.running_mean.double() * gain
    return gain, shift if norm.bias is None else shift + norm.bias.double()


def passed_on(step: Step, before: Tensor) -> Tensor:
    """The step itself, asked with images that hold each unit's value everywhere: NaN stays NaN."""
    shape = step.source.meta["shape"]
    x = before.reshape(1, -1, *[1] * (len(shape) - 2)).expand(1, *shape[1:]).contiguous()
    node = step.node
    if step.module is not None:
        out = step.module(x)
    elif node.op == "call_function":
        out = node.target(x, *node.args[1:], **node.kwargs)
    else:
        out = getattr(x, node.target)(*node.args[1:], **node.kwargs)
    flat = out.reshape(out.shape[1], -1)
    same = (flat - flat[:, :1]).abs().amax(1) <= EQUAL * flat[:, 0].abs()
    return torch.where(same, flat[:, 0], torch.nan)
