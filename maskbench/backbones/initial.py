"""Initial weights by the field's names, each a function of one weight tensor in place; biases start at zero.

`fan_in` of a convolution counts its kernel. `torch` leaves what the layers drew for themselves, biases too.
"""

import copy
import logging
import math
from typing import Literal

import torch
from torch import Tensor, nn

log = logging.getLogger("maskbench")
CUT_DEVIATION = math.sqrt(1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2)))  # of N(0, 1) within [-2, 2]

Law = Literal[
    "glorot_normal", "glorot_truncated_normal", "glorot_uniform", "glorot_signed_constant", "kaiming_normal",
    "kaiming_normal_fan_out", "kaiming_uniform", "signed_constant", "elus_signed_constant", "standard_normal",
    "unsigned_constant",
]  # fmt: skip
Init = Literal[Law, "torch"]


def glorot_normal(w: Tensor) -> None:
    """N(0, 2 / (fan_in + fan_out))."""
    nn.init.xavier_normal_(w)


def glorot_truncated_normal(w: Tensor) -> None:
    """A normal cut off at two of its deviations, which are widened so that the variance is 2 / (fan_in + fan_out) after the
    cut: what TensorFlow calls glorot_normal (since 1.10)."""
    fan_in, fan_out = w[0].numel(), w[:, 0].numel()
    deviation = math.sqrt(2 / (fan_in + fan_out)) / CUT_DEVIATION
    nn.init.trunc_normal_(w, std=deviation, a=-2 * deviation, b=2 * deviation)


def glorot_uniform(w: Tensor) -> None:
    """U(-a, a) with a = sqrt(6 / (fan_in + fan_out))."""
    nn.init.xavier_uniform_(w)


def kaiming_normal(w: Tensor) -> None:
    """N(0, 2 / fan_in)."""
    nn.init.kaiming_normal_(w, nonlinearity="relu")


def kaiming_normal_fan_out(w: Tensor) -> None:
    """N(0, 2 / fan_out)."""
    nn.init.kaiming_normal_(w, mode="fan_out", nonlinearity="relu")


def standard_normal(w: Tensor) -> None:
    """N(0, 1): the classifier of MAML's Omniglot net."""
    nn.init.normal_(w)


def kaiming_uniform(w: Tensor) -> None:
    """U(-a, a) with a = sqrt(6 / fan_in)."""
    nn.init.kaiming_uniform_(w, nonlinearity="relu")


def signed_constant(w: Tensor) -> None:
    """+-sqrt(2 / fan_in), each sign with probability one half (signed Kaiming constant)."""
    fan_in = w[0].numel()
    with torch.no_grad():
        w.copy_(torch.where(torch.rand_like(w) < 0.5, -1.0, 1.0) * math.sqrt(2 / fan_in))


def elus_signed_constant(w: Tensor) -> None:
    """+-sqrt(3 / fan_in), each sign with probability one half: ELUS, for nets with ELU under signed supermasks (Koster et al.
    2022); sqrt(1.5) times `signed_constant`."""
    signed_constant(w)
    with torch.no_grad():
        w.mul_(math.sqrt(1.5))


def unsigned_constant(w: Tensor) -> None:
    """sqrt(2 / fan_in) everywhere: edge-popup's negative control, which no mask makes a network of."""
    nn.init.constant_(w, math.sqrt(2 / w[0].numel()))


def glorot_signed_constant(w: Tensor) -> None:
    """+-sqrt(2 / (fan_in + fan_out)), each sign with probability one half (signed Xavier constant)."""
    fan_in, fan_out = w[0].numel(), w[:, 0].numel()
    with torch.no_grad():
        w.copy_(torch.where(torch.rand_like(w) < 0.5, -1.0, 1.0) * math.sqrt(2 / (fan_in + fan_out)))


RULES = {
    rule.__name__: rule
    for rule in (
        glorot_normal,
        glorot_truncated_normal,
        glorot_uniform,
        glorot_signed_constant,
        kaiming_normal,
        kaiming_normal_fan_out,
        kaiming_uniform,
        signed_constant,
        elus_signed_constant,
        standard_normal,
        unsigned_constant,
    )
}


def initialise(net: nn.Module, init: Init, head: Init | None = None) -> None:
    """Draw every Linear and Conv weight of `net` by the named rule and set their biases to zero.

    A layer of several matrices lists them by `matrices()`; each is drawn as a layer of its own. The layer `net.head` may have
    a rule `head` of its own.
    """
    net.init, net.head_init = init, head
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d) or hasattr(module, "matrices"):
            rule = head if head is not None and module is net.head else init
            if rule == "torch":
                continue
            for w in getattr(module, "matrices", lambda own=module: [own.weight])():
                RULES[rule](w)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def fresh(net: nn.Module) -> dict[str, Tensor]:
    """New initial values for all of a net's tensors, by name, drawn by the rule that made its present ones; of a net whose
    values a file gave, by the rule it would have had."""
    if hasattr(net, "given"):
        log.info("weights are drawn anew by %s: those that %s gave have no rule of their own", net.init, net.given["source"])
    twin = copy.deepcopy(net)
    for module in twin.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    initialise(twin, net.init, getattr(net, "head_init", None))
    return {name: value.detach() for name, value in twin.state_dict().items()}


def stored_bytes(net: nn.Module) -> int:
    """What it takes to keep weights that never move: a seed where a rule drew them, all of them where a file gave them."""
    return sum(p.numel() * p.element_size() for p in net.parameters()) if hasattr(net, "given") else 8
