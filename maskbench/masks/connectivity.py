"""What of a masked net works: which weights lie on a path from an input to an output, which units and outputs are reached.

A net whose masks leave no path trains on biases alone, and its accuracy of 10 to 40 % looks like bad luck. Here it is named:
ones go through the net forward, and through it backward, with the masks as its weights and every sum made 0 or 1. That asks
what is connected, never how strongly, and it holds for any net of linear layers and convolutions, residual sums included: a
place of a feature map is alive if anything reaches it. Norms pass on what they get, biases carry nothing, and a max-pool
passes on all that it looks at.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from maskbench.masks.places import TRACED, traceable
from maskbench.masks.sites import weights

INPUTS = "inputs"


@dataclass(frozen=True)
class Connectivity:
    """What of a masked net is connected.

    Attributes:
        weights: how many matrix weights the net has, as the papers count them: layers without a mask included.
        effective: those of them that lie on a path from an input to an output, by weight: bool, of the weight's shape.
        live: units with a path through them: `inputs` of the net, then those of each layer by its name (a convolution's
            are its channels; the last layer's are its outputs that an input reaches).
        empty: names of layers that their masks leave nothing of, in order.
        connected: outputs of the net that an input reaches. outputs: all of them.
    """

    weights: int
    effective: dict[str, Tensor]
    live: dict[str, int]
    empty: list[str]
    connected: int
    outputs: int

    @property
    def effective_density(self) -> float:
        """Share of the net's matrix weights that are kept and lie on a path: at most the density."""
        return sum(int(m.sum()) for m in self.effective.values()) / self.weights

    @property
    def live_units(self) -> int:
        """Hidden units with a path through them."""
        return sum(list(self.live.values())[1:-1])

    @property
    def collapsed(self) -> bool:
        """Whether a layer is empty or an output out of reach."""
        return bool(self.empty) or self.connected < self.outputs

    def words(self) -> str:
        """What has collapsed: `nothing is left of hidden.0; 7 of 10 outputs are reached`; empty if nothing has."""
        empty = f"nothing is left of {', '.join(self.empty)}" if self.empty else ""
        lost = f"{self.connected} of {self.outputs} outputs are reached" if self.connected < self.outputs else ""
        return "; ".join(filter(None, [empty, lost]))


def connectivity(net: nn.Module, masks: Mapping[str, Tensor], shape: tuple[int, ...]) -> Connectivity | None:
    """What is connected in `net` under `masks`; the net stays as it is.

    Args:
        net: any module from inputs [batch, *shape] to outputs [batch, ...].
        masks: by the name of a weight, of its shape; weights without one are whole.
        shape: of one input.

    Returns:
        None of a net with other matrices than those of Linear and Conv layers (attention, recurrence), where a weight is
        on no single path.
    """
    if not traceable(net):
        return None
    twin = copy.deepcopy(net).float().eval()
    names = {id(w): name for name, w in twin.named_parameters()}
    layers = {name: module for name, module in twin.named_modules() if isinstance(module, TRACED)}
    matrices = {names[id(w)]: w for layer in layers.values() for _, w in weights(layer)}
    if not matrices:
        return None
    for name, parameter in twin.named_parameters():
        kept = masks.get(name) if name in matrices else None
        parameter.data = torch.ones_like(parameter) if kept is None else kept.to(parameter)
        parameter.requires_grad_(name in matrices)
    for layer in layers.values():
        if layer.bias is not None:
            layer.bias.data.zero_()
    calls: dict[str, list[Tensor]] = {}  # what each layer made, in the order of the forward pass, with gradients after it
    for name, layer in layers.items():
        layer.register_forward_pre_hook(lambda _, args: (_Whether.apply(args[0]), *args[1:]))
        layer.register_forward_hook(partial(_remember, calls, name))
    for module in twin.modules():
        if hasattr(module, "eps"):  # a norm of the backbones' own
            module.register_forward_hook(lambda _, args, out: args[0])
    x = torch.ones(1, *shape, device=next(twin.parameters()).device, requires_grad=True)
    with torch.enable_grad(), _Plain():
        reached = _Whether.apply(twin(x))
        reached.sum().backward()
    live = {INPUTS: int((_gradient(x) > 0).sum())} | {name: _units(layers[name], outs) for name, outs in calls.items()}
    return Connectivity(
        weights=sum(w.numel() for w in matrices.values()),
        effective={name: (w > 0) & (_gradient(w) > 0) for name, w in matrices.items()},
        live=live,
        empty=[name.removesuffix(".weight") for name, w in matrices.items() if not w.any()],
        connected=int((reached > 0).sum()),
        outputs=reached.numel(),
    )


class _Whether(torch.autograd.Function):
    """1 where there is anything, else 0; and so is what comes back."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return (grad > 0).to(grad.dtype)


class _Plain(TorchFunctionMode):
    """Inside, norms pass on what they get, and the largest of a window is the mean of it: of equals, each has its share."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name, kwargs = getattr(func, "__name__", "").lstrip("_"), dict(kwargs or {})
        if name in NORMS:
            return args[0]
        if name in POOLS:
            names = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
            given = dict(zip(names, args, strict=False)) | kwargs
            given = {key: value for key, value in given.items() if key not in ("dilation", "return_indices")}
            return POOLS[name](**given)
        return func(*args, **kwargs)


NORMS = ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm")
POOLS = {"max_pool1d": F.avg_pool1d, "max_pool2d": F.avg_pool2d, "max_pool3d": F.avg_pool3d}


def _remember(calls: dict[str, list[Tensor]], name: str, layer: nn.Module, args: tuple, out: Tensor) -> Tensor:
    out = _Whether.apply(out)
    out.retain_grad()
    calls.setdefault(name, []).append(out)
    return out


def _units(layer: nn.Module, outs: Sequence[Tensor]) -> int:
    """How many of a layer's units were reached and went on to an output, at one place of one call at least."""
    alive = []
    for out in outs:
        there = (out > 0) & (_gradient(out) > 0)
        units = there.movedim(-1 if isinstance(layer, nn.Linear) else 1, 0)
        alive.append(units.flatten(1).any(1))
    return int(torch.stack(alive).any(0).sum())


def _gradient(x: Tensor) -> Tensor:
    return torch.zeros_like(x) if x.grad is None else x.grad
