"""The smaller layers: rows of units that stay, columns of units that stay, and in the biases what constants contribute."""

import torch
from torch import Tensor, fx, nn

from maskbench.backbones.compact.constants import pads, read, summed
from maskbench.backbones.compact.graph import LAYERS, Step
from maskbench.backbones.compact.readers import Kept, carrier

SPARED = 0.1  # share of a layer's inputs that nobody reads, from which on picking the others pays


@torch.no_grad()
def rebuilt(program: fx.GraphModule, steps: list[Step], values: dict[fx.Node, Tensor], stay: Kept) -> fx.GraphModule:
    """The same graph over smaller layers; what does nothing in evaluation is left out. `program` is used up."""
    parts: dict[str, nn.Module | Tensor] = {}
    for step in steps:
        node = step.node
        if step.role == "layer":
            layer = smaller(step.module, stay[step.source], stay[node], values[step.source])
            if isinstance(layer, nn.Linear) and float((some := layer.weight.ne(0).any(0)).float().mean()) <= 1 - SPARED:
                layer = of_some_inputs(program, node, layer, some, parts)
            parts[node.target] = layer
        elif step.role == "norm":
            parts[node.target] = of_units(step.module, stay[node])
        elif step.role == "nothing" or step.role == "gate" and bool((step.module.gain[stay[node]] == 1).all()):
            node.replace_all_uses_with(node.args[0])  # not step.source, which may have left
            program.graph.erase_node(node)
        elif step.role == "gate":
            gain = step.module.gain[stay[node]]
            multiply(program, node, gain.reshape(-1, *[1] * (len(step.shape) - 2)), parts)
        elif node.op == "call_module":
            parts[node.target] = step.module
        elif node.op == "get_attr":
            owner, _, name = node.target.rpartition(".")
            parts[node.target] = getattr(program.get_submodule(owner), name)
    program.graph.lint()
    return fx.GraphModule(parts, program.graph, class_name="Compact").eval()


def smaller(layer: nn.Module, before: Tensor, after: Tensor, values: Tensor) -> nn.Module:
    """A layer of the units in `after`, which reads those in `before` (bool); `values` of constants before it, else NaN."""
    w = layer.weight.double()[after]
    bias = torch.zeros(len(w), dtype=w.dtype) if layer.bias is None else layer.bias.double()[after]
    gone = torch.where(before, 0.0, values.nan_to_num())  # what leaves, and is not 0
    if not pads(layer):
        bias = bias + summed(w) @ gone
    elif gone.any() and (place := carrier(before & read(layer)[after].any(0), values)) is not None:
        w = w.clone()
        w[:, place] += torch.einsum("oi...,i->o...", w, gone / values[place])
    return filled(layer, w[:, before], bias)


def filled(like: nn.Module, w: Tensor, bias: Tensor) -> nn.Module:
    """A plain layer of these values, with a bias if it had one or needs one."""
    kind = LAYERS[type(like).forward]
    names = () if kind is nn.Linear else ("kernel_size", "stride", "padding", "dilation", "padding_mode")
    knobs = {name: getattr(like, name) for name in names}
    biased = like.bias is not None or bool(bias.any())
    layer = nn.utils.skip_init(kind, w.shape[1], w.shape[0], bias=biased, dtype=like.weight.dtype, **knobs)
    layer.weight.copy_(w)
    if biased:
        layer.bias.copy_(bias)
    return layer.requires_grad_(like.weight.requires_grad)


def of_units(norm: nn.Module, after: Tensor) -> nn.Module:
    """A batch norm of fewer units."""
    small = type(norm)(int(after.sum()), norm.eps, norm.momentum, norm.affine, dtype=norm.running_mean.dtype).eval()
    state = {name: value if value.ndim == 0 else value[after] for name, value in norm.state_dict().items()}
    small.load_state_dict(state)
    return small


def of_some_inputs(
    program: fx.GraphModule, node: fx.Node, layer: nn.Linear, some: Tensor, parts: dict[str, nn.Module | Tensor]
) -> nn.Linear:
    """A layer that is handed only the inputs it reads (bool [inputs]; the first where it reads none): pixels, or places of an
    image that no weight stands on."""
    some = some.clone()
    some[0] |= not some.any()
    name = f"{str(node.target).replace('.', '_')}_inputs"
    parts[name] = some.nonzero().flatten()
    with program.graph.inserting_before(node):
        picked = program.graph.call_function(torch.index_select, (node.args[0], 1, attribute(program, name, parts[name])))
    node.args = (picked, *node.args[1:])
    bias = torch.zeros(layer.out_features) if layer.bias is None else layer.bias
    return filled(layer, layer.weight[:, some], bias)


def multiply(program: fx.GraphModule, node: fx.Node, gain: Tensor, parts: dict[str, nn.Module | Tensor]) -> None:
    """A gate that is still one, as a product."""
    name = f"{str(node.target).replace('.', '_')}_gain"
    parts[name] = gain
    with program.graph.inserting_before(node):
        product = program.graph.call_function(torch.mul, (node.args[0], attribute(program, name, gain)))
    node.replace_all_uses_with(product)
    program.graph.erase_node(node)


def attribute(program: fx.GraphModule, name: str, value: Tensor) -> fx.Node:
    """A node of the graph that yields a buffer."""
    program.register_buffer(name, value)
    return program.graph.get_attr(name)
