"""A graph of plain layers as the source of a module that needs nothing but torch."""

import builtins
import re

from torch import Tensor, fx, nn

from maskbench.backbones.compact.graph import NORMS
from maskbench.common.errors import UsageError

WORDS = re.compile(r"(padding|padding_mode)=([a-z]+)")  # what a repr shows without its quotes

FRAME = '''"""{about}"""

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
{parts}

{forward}

    def put(self, name, part):
        """Place a module, a parameter or a buffer under a dotted name."""
        *owners, last = name.split(".")
        place = self
        for owner in owners:
            if owner not in place._modules:
                place.add_module(owner, nn.Module())
            place = place.get_submodule(owner)
        if isinstance(part, (nn.Module, nn.Parameter)):
            setattr(place, last, part)
        else:
            place.register_buffer(last, part)
'''


def source(net: fx.GraphModule, about: str) -> str:
    """Python source of a class `Net` whose state dict has the names of `net`'s. about: its first line.

    Raises:
        UsageError: a part of it is none of torch's, or cannot be told by its settings.
    """
    parts = [f'self.put("{name}", {made(name, module)})' for name, module in leaves(net)]
    for name, value in loose(net):
        zeros = f"torch.zeros({tuple(value.shape)}, dtype={value.dtype})"
        parts.append(f'self.put("{name}", {f"nn.Parameter({zeros})" if isinstance(value, nn.Parameter) else zeros})')
    code = net.graph.python_code("self")
    used = [name for name in code.globals if re.search(rf"\b{name}\b", code.src)]
    if strange := [name for name in used if name != "torch" and not hasattr(builtins, name)]:
        raise UsageError(f"{strange[0]} is no function of torch: this net cannot be written as a plain module")
    body = re.sub(r"\n{2,}", "\n", code.src.strip("\n"))
    forward = "\n".join(f"    {tidied(line)}" for line in body.splitlines() if line.strip())
    return FRAME.format(about=about, parts="\n".join(f"        {part}" for part in parts), forward=forward)


def tidied(line: str) -> str:
    """Without the release of memory that the graph writes behind each step."""
    return re.sub(r";\s+(?:\w+ = )+None.*$", "", line)


def leaves(net: nn.Module) -> list[tuple[str, nn.Module]]:
    """Its modules of torch's own, by name."""
    return [(name, module) for name, module in net.named_modules() if name and type(module) is not nn.Module]


def loose(net: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters and buffers that belong to none of these, by name."""
    owned = tuple(f"{name}." for name, _ in leaves(net))
    return [(name, value) for name, value in (*net.named_parameters(), *net.named_buffers()) if not name.startswith(owned)]


def made(name: str, module: nn.Module) -> str:
    """The call that makes a module of these settings."""
    if not type(module).__module__.startswith("torch.nn") or any(True for _ in module.children()):
        raise UsageError(f"{name}: {type(module).__name__} cannot be written as a plain module")
    if isinstance(module, NORMS):
        knobs = f"eps={module.eps}, momentum={module.momentum}, affine={module.affine}"
        return f"nn.{type(module).__name__}({module.num_features}, {knobs})"
    return "nn." + WORDS.sub(r'\1="\2"', repr(module))


def read(text: str, state: dict[str, Tensor]) -> nn.Module:
    """The module that a source describes, with these values, in evaluation mode."""
    names: dict[str, object] = {}
    exec(compile(text, "net.py", "exec"), names)
    net = names["Net"]()
    net.load_state_dict(state)
    return net.eval()
