"""Which layers the units of a layer are inputs of, and which vectors belong to them: what goes when whole units go.

A unit is a row of a Linear layer or a filter of a convolution. With it go its bias, the gain and the shift of a norm behind
it, and the weights out of it. Nets are followed as torch.fx traces them; units that are added to others cannot go alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor, fx, nn

from maskbench.common.errors import UsageError
from maskbench.masks.scopes import units_of
from maskbench.masks.sites import LAYERS, patterns

ALONE = (  # functions of torch that leave every unit in its place, whatever they do to it
    "relu relu_ relu6 leaky_relu elu selu celu gelu silu mish hardswish hardsigmoid hardtanh softplus sigmoid tanh dropout "
    "dropout1d dropout2d dropout3d feature_dropout max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d "
    "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool2d flatten unflatten view reshape mean amax contiguous float to "
    "clone clamp abs neg mul truediv batch_norm instance_norm layer_norm rsqrt var_mean size getattr"
).split()
SUMS = ["add", "add_", "iadd", "sub", "isub", "rsub"]  # of one's own units with numbers alone
INPUTS = "the inputs"  # where what is no unit comes from


class Units(NamedTuple):
    """How the units of masked layers hang together.

    Attributes:
        follow: layer -> the masked layers that its units are inputs of. vectors: layer -> names of the vectors that belong to
            its units: bias, gain, shift. whole: layers whose units are outputs of the net, and all stay.
    """

    follow: dict[str, list[str]]
    vectors: dict[str, list[str]]
    whole: list[str]

    def masks(self, mask: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Masks over these vectors [units], bool, by the masks over weights: what a dead unit has left."""
        alive = {name: units_of(mask[name]) for name in self.vectors if name not in self.whole}
        return {vector: living for name, living in alive.items() for vector in self.vectors[name]}


def units(net: nn.Module, sites: Sequence[str]) -> Units:
    """The units of the layers whose weights are `sites`.

    Raises:
        UsageError: the net cannot be followed, or a masked layer's units cannot go alone: they are added to others, joined with
            them, or stand in a layer that is none of Linear and Conv.
    """
    return _Walk(net, sites).made()


class Leaves(fx.Tracer):
    """Goes no further into layers than to those of torch, and to modules without layers and matrices inside."""

    def is_leaf_module(self, m: nn.Module, name: str) -> bool:
        small = not list(m.children()) and all(p.ndim < 2 for p in m.parameters())
        return small or super().is_leaf_module(m, name)


class _Walk:
    """One pass over a net's graph: where the units at each node come from, as names of layers' weights."""

    def __init__(self, net: nn.Module, sites: Sequence[str]) -> None:
        self.net, self.sites = net, sites
        self.follow: dict[str, list[str]] = {name: [] for name in sites}
        self.vectors: dict[str, list[str]] = {name: [] for name in sites}
        self.whole: list[str] = []
        self.summed: list[str] = []
        self.names = {id(p): name for name, p in net.named_parameters()}

    def made(self) -> Units:
        try:
            graph = Leaves().trace(self.net)
        except Exception as error:  # whatever a net's own forward does with what stands for a tensor
            raise UsageError(
                f"method.scope=unit cannot follow the units of {type(self.net).__name__}, since torch.fx cannot trace it "
                f"({str(error).splitlines()[0]}): take another scope, such as method.scope=layer"
            ) from error
        sources: dict[fx.Node, frozenset[str]] = {}
        for node in graph.nodes:
            sources[node] = self.visit(node, sources)
        if self.summed:
            layers = ",".join(_module(name) for name in self.sites if name in self.summed)
            raise UsageError(
                f"method.scope=unit cannot cut the units of {layers.replace(',', ', ')} across the sum that they stand in, where "
                f"what is added to them stays: leave these whole, method.dense=[{layers}] and what is there already, or take "
                "another scope"
            )
        return Units(self.follow, self.vectors, self.whole)

    def visit(self, node: fx.Node, sources: Mapping[fx.Node, frozenset[str]]) -> frozenset[str]:
        """Where the units that a node gives come from."""
        given = [sources[one] for one in node.all_input_nodes]
        together = frozenset().union(*given)
        if node.op == "placeholder":
            return frozenset([INPUTS])
        if node.op == "get_attr":
            return frozenset()
        if node.op == "output":
            self.whole += [name for name in self.sites if name in together]
            return together
        if node.op == "call_module":
            return self.module(node, together)
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
        masked = [source for source in together if source in self.sites]
        several = len({one for one in given if one}) > 1
        if masked and name in SUMS and several:
            self.summed += masked
        elif masked and (name not in (*ALONE, *SUMS) or several or (name in ("mean", "amax") and over_units(node))):
            raise UsageError(
                f"method.scope=unit cannot follow the units of {_module(masked[0])} through {name}(): leave that layer whole, "
                f"method.dense=[{_module(masked[0])}] and what is there already, or take another scope"
            )
        return together

    def module(self, node: fx.Node, given: frozenset[str]) -> frozenset[str]:
        layer = self.net.get_submodule(node.target)
        if not patterns(layer):  # a norm, an activation, a pool, a gate
            for source in given:
                if source in self.sites:
                    self.belong(source, layer)
            return frozenset() if isinstance(layer, nn.Embedding) else given
        weights = [self.names.get(id(p)) for p in layer.parameters()]
        masked = [name for name in weights if name in self.sites]
        if not isinstance(layer, LAYERS) or getattr(layer, "groups", 1) > 1:
            if masked or any(source in self.sites for source in given):
                kind = "a convolution in groups" if isinstance(layer, LAYERS) else f"a layer of the kind {type(layer).__name__}"
                raise UsageError(
                    f"method.scope=unit cuts the units of Linear and Conv layers, and {node.target} is {kind}: leave it and the "
                    "layers before it out by method.dense, or take another scope"
                )
            return frozenset([node.target])
        for source in given:
            if source in self.sites and source not in self.summed:
                self.lead(source, node.target, layer)
                self.follow[source] += [name for name in masked if name not in self.follow[source]]
        if masked:
            self.belong(masked[0], layer)
        return frozenset(masked or [node.target])

    def lead(self, source: str, name: str, layer: nn.Module) -> None:
        """Hold a layer's inputs to the units that are said to be among them: as many, or of channels every place."""
        before, inputs = self.net.get_parameter(source), layer.weight.shape[1]
        if inputs != len(before) and (inputs % len(before) or before.ndim == 2):
            raise UsageError(
                f"method.scope=unit does not find the {len(before)} units of {_module(source)} among the {inputs} inputs of "
                f"{name}: leave them whole, method.dense=[{_module(source)}] and what is there already, or take another scope"
            )

    def belong(self, source: str, layer: nn.Module) -> None:
        """The vectors of a layer that has an entry for each unit."""
        size = len(self.net.get_parameter(source))
        found = [self.names[id(p)] for p in layer.parameters() if p.ndim == 1 and len(p) == size]
        self.vectors[source] += [name for name in found if name not in self.vectors[source]]


def _module(weight: str) -> str:
    return weight.rpartition(".")[0] or weight


def over_units(node: fx.Node) -> bool:
    """Whether a mean is taken over units, and not over places."""
    return 1 in _numbers([*node.args[1:], *node.kwargs.values()])


def _numbers(values: Sequence) -> Iterator[int]:
    for value in values:
        if isinstance(value, Sequence) and not isinstance(value, str):
            yield from _numbers(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            yield value
