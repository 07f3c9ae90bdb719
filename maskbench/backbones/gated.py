"""Which gates stand behind the units of each layer and before its inputs: what a weight between two gated units is used by.

A weight from unit j to unit i is used by whoever has both units on. That holds where every layer's units meet a gate before
the next layer reads them; then whatever is computed from gated units belongs to those who have them on. Nets are followed
as torch.fx traces them; where a layer reads what no gate has shut, as the pixels, its inputs count as on.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, fx, nn

from maskbench.backbones.batch_statistics import BatchStatistics, GroupStatistics
from maskbench.backbones.gate import Gate
from maskbench.backbones.norm import BATCH_NORMS
from maskbench.backbones.per_stage import in_head
from maskbench.common.errors import UsageError
from maskbench.masks.sites import LAYERS
from maskbench.masks.units import Leaves, over_units

SHUT = (  # functions of torch that leave every unit in its place, and 0 where it is 0
    "relu relu_ leaky_relu elu selu celu gelu silu mish hardswish hardtanh relu6 tanh neg abs dropout dropout1d dropout2d "
    "feature_dropout max_pool1d max_pool2d avg_pool1d avg_pool2d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool2d "
    "flatten unflatten mean amax contiguous float to clone sign"
).split()
IN_PLACE = ["sigmoid", "hardsigmoid", "softplus"]  # functions that leave every unit in its place
SUMS = ["add", "add_", "iadd", "sub", "isub"]
MODULES_SHUT = (nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.GELU, nn.SiLU, nn.Identity, nn.Flatten, nn.MaxPool2d, nn.AvgPool2d,
                nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Dropout, nn.Dropout1d, nn.Dropout2d)  # fmt: skip
NORMS = (BATCH_NORMS, BatchStatistics, GroupStatistics)  # each unit by itself


class Between(NamedTuple):
    """The gates that a parameter stands between.

    Attributes:
        behind: names of those that its units pass. before: of those that its inputs have passed; none: all are on.
        places: inputs a unit before it gives, of a convolution's channel every pixel.
    """

    behind: tuple[str, ...]
    before: tuple[str, ...] = ()
    places: int = 1

    def both(self, units: Mapping[str, Tensor], ndim: int) -> Tensor:
        """min(units behind, units before) for each entry of a parameter of `ndim` dimensions, broadcast over the others."""
        behind = most(units, self.behind)
        if ndim == 1 or not self.before:
            return behind.reshape(-1, *[1] * (ndim - 1))
        before = most(units, self.before).repeat_interleave(self.places)
        return torch.minimum(behind[:, None], before[None]).reshape(len(behind), len(before), *[1] * (ndim - 2))


def most(units: Mapping[str, Tensor], names: Iterable[str]) -> Tensor:
    """The largest of several gates' values, unit by unit: a sum is on where one of its terms is."""
    first, *others = (units[name] for name in names)
    for other in others:
        first = torch.maximum(first, other)
    return first


def between(net: nn.Module) -> dict[str, Between]:
    """The gates around each parameter of a net but its head's, by name.

    Raises:
        UsageError: the net cannot be followed, or a layer's units are read by another, or mixed, before a gate.
    """
    try:
        graph = Leaves().trace(net)
    except Exception as error:  # whatever a net's own forward does with what stands for a tensor
        raise UsageError(
            f"the units of {type(net).__name__} cannot be followed from gate to gate, since torch.fx cannot trace it "
            f"({str(error).splitlines()[0]}): take a backbone such as lenet_300_100 or conv4"
        ) from error
    walk = _Walk(net)
    seen: dict[fx.Node, _Value] = {}
    for node in graph.nodes:
        seen[node] = walk.visit(node, [seen[one] for one in node.all_input_nodes])
    return walk.made()


class _Value(NamedTuple):
    """What is known of the units at a node: layers and norms whose units no gate has met; the gates that shut the rest."""

    waiting: frozenset[str] = frozenset()
    gates: frozenset[str] = frozenset()
    on: bool = False  # whether there is something in it that no gate shuts


class _Walk:
    """One pass over a net's graph."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self.behind: dict[str, set[str]] = {}  # module -> gates
        self.before: dict[str, set[str]] = {}
        self.open: set[str] = set()  # layers that read what no gate shuts

    def visit(self, node: fx.Node, given: list[_Value]) -> _Value:
        if node.op == "placeholder":
            return _Value(on=True)
        together = _Value(
            frozenset().union(*(one.waiting for one in given)),
            frozenset().union(*(one.gates for one in given)),
            any(one.on for one in given),
        )
        if node.op == "output":
            if lost := sorted(name for name in together.waiting if not in_head(f"{name}.")):
                raise self.refusal(lost[0], "are outputs of the net")
            return together
        if node.op == "call_module":
            return self.module(node.target, self.net.get_submodule(node.target), together)
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
        alone = name in (*SHUT, *IN_PLACE) and len(given) == 1 and not (name in ("mean", "amax") and over_units(node))
        if alone or name in SUMS:
            numbers = name in SUMS and len(given) < 2  # a number is added, in every unit
            return together._replace(on=together.on or numbers or name in IN_PLACE)
        return self.mixed(together, f"{name}()")

    def module(self, name: str, module: nn.Module, given: _Value) -> _Value:
        if isinstance(module, Gate):
            return given if module.inlet else self.gate(f"{name}.gain", module, given)
        if isinstance(module, LAYERS) and getattr(module, "groups", 1) == 1 and not getattr(module, "transposed", False):
            if given.waiting:
                raise self.refusal(min(given.waiting), f"are read by {name}")
            self.before.setdefault(name, set()).update(given.gates)
            self.open |= {name} if given.on else set()
            return _Value(frozenset([name]))
        parameters = list(module.parameters())
        if isinstance(module, NORMS):
            waiting = given.waiting | ({name} if parameters else frozenset())
            return given._replace(waiting=waiting, on=given.on or not waiting)
        if isinstance(module, MODULES_SHUT) and not parameters:
            return given
        if parameters:
            raise UsageError(
                f"the units of {type(self.net).__name__} cannot be followed from gate to gate: {name} is a layer of the kind "
                f"{type(module).__name__}; take a backbone of Linear layers, convolutions and batch norms, such as conv4"
            )
        return self.mixed(given, name)

    def gate(self, name: str, gate: Gate, given: _Value) -> _Value:
        for layer in given.waiting:
            weight = next(self.net.get_submodule(layer).parameters())
            if gate.shape != (len(weight),):
                raise self.refusal(layer, f"are {len(weight)}, and its gate has {list(gate.shape)}")
            self.behind.setdefault(layer, set()).add(name)
        return _Value(gates=frozenset([name]))

    def mixed(self, given: _Value, by: str) -> _Value:
        """Units out of their places: what waits for a gate is lost, and of the rest no gate shuts any."""
        if given.waiting:
            raise self.refusal(min(given.waiting), f"are mixed by {by}")
        return _Value(on=True)

    def refusal(self, layer: str, what: str) -> UsageError:
        return UsageError(
            f"a gate must stand behind every hidden layer, and in {type(self.net).__name__} the units of {layer} {what} before "
            "one: take a backbone such as lenet_300_100, conv4 or resnet20"
        )

    def made(self) -> dict[str, Between]:
        """By parameter; checks that none was left out."""
        found: dict[str, Between] = {}
        for name, parameter in self.net.named_parameters():
            layer = name.rpartition(".")[0]
            if in_head(name):
                continue
            if layer not in self.behind:
                raise UsageError(
                    f"{type(self.net).__name__}: {name} is in no layer that a gate follows: take a backbone such as lenet_300_100"
                )
            before = () if layer in self.open else tuple(sorted(self.before.get(layer, ())))
            found[name] = Between(tuple(sorted(self.behind[layer])), before, self.places(name, parameter, before))
        return found

    def places(self, name: str, parameter: Tensor, before: tuple[str, ...]) -> int:
        if parameter.ndim == 1 or not before:
            return 1
        units, inputs = {self.net.get_submodule(gate.removesuffix(".gain")).shape[-1] for gate in before}, parameter.shape[1]
        if len(units) > 1 or inputs % min(units):
            raise UsageError(
                f"{type(self.net).__name__}: the units of {', '.join(before)} are not found among the {inputs} inputs of {name}: "
                "take a backbone such as lenet_300_100"
            )
        return inputs // units.pop()
