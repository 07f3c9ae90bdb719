"""A net's forward pass as a graph, and what each of its steps does with units: computes them, passes each on alone, mixes them.

Units lie along the second dimension: features [rows, units], channels [rows, units, height, width].
"""

import copy
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from maskbench.backbones import memory_format
from maskbench.backbones.gate import Gate
from maskbench.common.errors import UsageError, first_line

LAYERS = {kind.forward: kind for kind in (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)}
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
NOTHING = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)  # in evaluation
ALONE = (  # modules whose unit c is a function of unit c before them
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh, nn.Sigmoid, nn.Softplus,
    nn.Hardswish, nn.Hardtanh, nn.Hardsigmoid, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d,
)  # fmt: skip
DROPS = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout)  # functions; nothing in evaluation
FUNCTIONS = (  # and functions
    F.relu, F.relu_, F.relu6, F.leaky_relu, F.elu, F.selu, F.celu, F.gelu, F.silu, F.mish, F.tanh, F.sigmoid, F.softplus,
    F.hardswish, F.hardtanh, F.hardsigmoid, F.max_pool1d, F.max_pool2d, F.max_pool3d, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d,
    F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d, torch.relu, torch.relu_, torch.tanh, torch.sigmoid,
)  # fmt: skip
METHODS = ("relu", "relu_", "tanh", "sigmoid", "contiguous", "clone")  # of tensors
Role = Literal["input", "layer", "norm", "gate", "nothing", "alone", "flatten", "size", "mixes", "output"]


@dataclass(frozen=True)
class Step:
    """One step of a forward pass.

    Attributes:
        node: of the graph. role: `layer` computes units from all before it; `norm`, `gate`, `nothing` and `alone` pass each on by
            itself; `flatten` lays the places of each side by side; `size` asks for the number of rows; `mixes` is all else.
        source: the step whose units a layer, or what passes them on, takes.
        module: the called one. shape: of what comes out, with the rows; None of what is no tensor.
    """

    node: fx.Node
    role: Role
    source: fx.Node | None
    module: nn.Module | None
    shape: torch.Size | None

    @property
    def units(self) -> int:
        """How many come out; 0 of what has none."""
        return self.shape[1] if self.shape is not None and len(self.shape) > 1 else 0

    @property
    def places(self) -> int:
        """Of each unit: pixels of a channel."""
        return self.shape[2:].numel() if self.shape is not None else 0


class Tracer(fx.Tracer):
    """Goes into modules that are none of torch's, and stops at layers and gates."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, Gate) or type(module).forward in LAYERS or super().is_leaf_module(module, name)


class Shapes(fx.Interpreter):
    """Runs the graph and keeps the shape of every tensor on the way."""

    def run_node(self, node: fx.Node) -> Any:
        value = super().run_node(node)
        node.meta["shape"] = value.shape if isinstance(value, Tensor) else None
        return value


def follow(net: nn.Module, x: Tensor) -> tuple[fx.GraphModule, list[Step]]:
    """A copy of a net as a graph, with its steps in order; x [rows, ...]: some of its inputs.

    Raises:
        UsageError: its forward pass takes ways that depend on its inputs.
    """
    net = copy.deepcopy(net).eval()
    memory_format.forget(net)
    try:
        program = fx.GraphModule(net, Tracer().trace(net))
        program.graph.eliminate_dead_code()
        with torch.no_grad():
            Shapes(program).run(x)
    except Exception as error:  # whatever a net does with what stands for its input
        reason = first_line(error)
        raise UsageError(
            f"{type(net).__name__} cannot be followed ({reason}): a forward pass without branches on its inputs can"
        ) from error
    nodes = program.graph.nodes
    calls = Counter(node.target for node in nodes if node.op == "call_module")
    owners = Counter(id(p) for m in net.modules() for p in m._parameters.values() if p is not None)
    return program, [step(program, node, calls, owners) for node in nodes]


def step(program: fx.GraphModule, node: fx.Node, calls: Counter, owners: Counter) -> Step:
    module = program.get_submodule(node.target) if node.op == "call_module" else None
    source = node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None
    alone = source is not None and node.all_input_nodes == [source]
    shape = node.meta.get("shape")
    if node.op == "output":
        return Step(node, "output", None, None, None)
    if node.op == "placeholder":
        return Step(node, "input", None, None, shape)
    before = source.meta.get("shape") if alone else None
    role: Role = "mixes"
    if alone and before is not None and len(before) > 1:
        if module is not None:
            once = calls[node.target] == 1 and all(owners[id(p)] == 1 for p in module.parameters())
            role = of_module(module, before, once)
        elif node.op == "call_function":
            role = of_function(node, before)
        elif node.op == "call_method":
            role = of_method(node, before)
    elif node.op == "call_method" and node.target in ("view", "reshape") and rows_and_rest(node):
        role = "flatten"
    if shape is None and role != "size":  # as a pool that also returns places
        role = "mixes"
    return Step(node, role, source if role not in ("mixes", "size") else None, module, shape)


def of_module(module: nn.Module, before: torch.Size, once: bool) -> Role:
    """The role of a module called with a tensor of this shape; `once`: there is no other call of it, nor of its weights."""
    if type(module).forward in LAYERS and once and "weight" in module._parameters:
        flat = len(before) == 2
        return "layer" if flat == isinstance(module, nn.Linear) and getattr(module, "groups", 1) == 1 else "mixes"
    if type(module) in NORMS and once and module.running_mean is not None:
        return "norm"
    if isinstance(module, Gate):
        if module.gain.ndim == 0:
            return "nothing"
        return "gate" if module.gain.shape == before[1:2] and once else "mixes"
    if type(module) in NOTHING:
        return "nothing"
    if type(module) is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1):
        return "flatten"
    return "alone" if type(module) in ALONE else "mixes"


def of_function(node: fx.Node, before: torch.Size) -> Role:
    if node.target in DROPS:
        return "nothing"
    if node.target is torch.flatten and whole(node):
        return "flatten"
    if node.target is torch.mean and over_places(node, before):
        return "alone"
    if node.target is getattr and node.args[1:] == ("shape",):
        return "size" if all(user.args[1:] == (0,) for user in node.users) else "mixes"
    return "alone" if node.target in FUNCTIONS else "mixes"


def of_method(node: fx.Node, before: torch.Size) -> Role:
    if node.target == "flatten" and whole(node):
        return "flatten"
    if node.target == "mean" and over_places(node, before):
        return "alone"
    if node.target == "size" and node.args[1:] == (0,):
        return "size"
    return "alone" if node.target in METHODS else "mixes"


def whole(node: fx.Node) -> bool:
    """Whether it flattens all but the rows."""
    given = dict(zip(("start_dim", "end_dim"), node.args[1:], strict=False)) | node.kwargs
    return given.get("start_dim", 0) == 1 and given.get("end_dim", -1) == -1


def over_places(node: fx.Node, before: torch.Size) -> bool:
    """Whether a mean is over places alone, not over units or rows."""
    dims = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    dims = [dims] if isinstance(dims, int) else dims
    return bool(dims) and all(isinstance(d, int) and d % len(before) >= 2 for d in dims)


def rows_and_rest(node: fx.Node) -> bool:
    """Whether a tensor is laid out anew as [its rows, the rest]: `x.view(x.size(0), -1)`."""
    x, shape = node.args[0], node.args[1:]
    shape = shape[0] if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape
    if len(shape) != 2 or shape[1] != -1 or not isinstance(shape[0], fx.Node):
        return False
    rows = shape[0]
    by_size = rows.target == "size" and rows.args == (x, 0)
    by_shape = len(rows.args) == 2 and rows.args[1] == 0 and getattr(rows.args[0], "args", None) == (x, "shape")
    return by_size or by_shape
