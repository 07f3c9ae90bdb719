"""A random net in which a ticket is hidden whose mask is known: Plant 'n' Seek (Fischer & Burkholz 2022, arXiv 2111.11153).

The net is drawn as others are. Then each unit of a hand-made ticket (tickets.py) takes the place of the random unit that is
most like it already, up to a positive factor, which ReLU lets through: only the weights that the ticket needs are changed,
and these to sizes that their random neighbours have. A pruner that keeps just them has a net that solves the problem.
"""

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from maskbench.backbones import tickets
from maskbench.backbones.initial import Init
from maskbench.backbones.mlp import MLP
from maskbench.common.errors import UsageError
from maskbench.common.knobs import Count, Length, Within

Name = Literal["circle", "relu", "helix"]
SIZES = {"circle": (2, 4), "relu": (1, 1), "helix": (1, 3)}  # inputs and outputs
TICKETS: dict[str, Callable[[int, int], list[tickets.Layer]]] = {
    "circle": tickets.circle, "relu": tickets.relu, "helix": tickets.helix
}  # fmt: skip
KNOTS = {"circle": 10, "relu": 0, "helix": 30}


def Planted(  # noqa: N802 - named like a class, as the nets of conv.py
    shape: tuple[int, ...],
    outputs: int,
    *,
    widths: Annotated[Sequence[Count], Length(least=1)],
    ticket: Name | None = None,
    knots: Annotated[int, Within(least=2)] | None = None,
    init: Init = "kaiming_normal",
) -> MLP:
    """[batch, inputs] -> [batch, outputs]: a fully connected ReLU net with a planted ticket.

    Its `planted` holds the ticket's mask, bool by weight; `ticket_scale` how many times what the problem asks the ticket
    answers (a positive number, the same for all outputs).

    Args:
        widths: units of each hidden layer.
        ticket: `circle`, `relu` or `helix`; null: the one of so many inputs and outputs.
        knots: through which functions of one variable are drawn; null: 10 of a circle, 30 of a helix.
        init: how weights are drawn before (initial.py). Biases are normal; their deviation in a layer is the product of
            sqrt(2 / fan_in) over the layers up to it.

    Raises:
        UsageError: no ticket has so many inputs and outputs, or a layer has too few units for it.
    """
    sizes = (math.prod(shape), outputs)
    name = ticket or next((name for name, its in SIZES.items() if its == sizes), None)
    if name is None or SIZES[name] != sizes:
        asked = f"backbone.ticket={name} has {' and '.join(map(str, SIZES[name]))}" if name else "no ticket has as many"
        data = f"data=planted_{name}" if name else "data=planted_circle, planted_relu or planted_helix"
        raise UsageError(f"this data has {sizes[0]} inputs and {sizes[1]} outputs, and {asked}: take {data}")
    layers = TICKETS[name](len(widths), knots or KNOTS[name])
    for number, (units, layer) in enumerate(zip(widths, layers, strict=False)):
        if units < len(layer.bias):
            raise UsageError(
                f"backbone.widths={list(widths)}: hidden layer {number} of the ticket has {len(layer.bias)} units; take as many "
                "at least, or fewer backbone.knots"
            )
    net = MLP(shape, outputs, widths=widths, init=init)
    draw_biases(net)
    net.planted, net.ticket_scale = plant(net, layers)
    return net


@torch.no_grad()
def draw_biases(net: MLP) -> None:
    """Normal biases, as large as what reaches their units: He's variance, scaled from layer to layer."""
    deviation = 1.0
    for _, layer in linears(net):
        deviation *= math.sqrt(2 / layer.in_features)
        nn.init.normal_(layer.bias, std=deviation)


@torch.no_grad()
def plant(net: MLP, ticket: Sequence[tickets.Layer]) -> tuple[dict[str, Tensor], float]:
    """Write a ticket into a net, unit by unit; (its mask, bool by weight, the factor of its outputs)."""
    inputs, factors = torch.arange(ticket[0].weight.shape[1]), torch.ones(ticket[0].weight.shape[1]).double()
    mask = {}
    for (name, layer), own in zip(linears(net), ticket, strict=True):
        wanted = own.weight / factors  # of inputs that are `factors` times too large
        if layer is net.head:  # its units are the outputs, each in its place
            places = torch.arange(len(wanted))
            sizes = torch.full((len(wanted),), like(layer, inputs, wanted), dtype=torch.float64)
        else:
            places, sizes = seats(layer, inputs, wanted, own.bias)
        mask[name] = torch.zeros_like(layer.weight, dtype=torch.bool)
        for place, size, row, bias in zip(places, sizes, wanted, own.bias, strict=True):
            at = inputs[row != 0]
            layer.weight[place, at] = (size * row[row != 0]).float()
            layer.bias[place] = size * bias
            mask[name][place, at] = True
        inputs, factors = places, sizes
    return mask, float(factors[0])


def linears(net: MLP) -> list[tuple[str, nn.Linear]]:
    """Names of the weights, and the layers they are of, from the inputs on."""
    return [*((f"hidden.{number}.weight", layer) for number, layer in enumerate(net.hidden)), ("head.weight", net.head)]


def seats(layer: nn.Linear, inputs: Tensor, wanted: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """For each row of a ticket's layer the unit that it takes, and its factor there: [units], [units].

    Of the units that are free it is that with the least distance sum |w - factor * row|: among those whose weights and bias
    have the row's signs, by the factor of least squares; where there is none, among all, by the factor that keeps a unit's size.
    """
    free = torch.ones(layer.out_features, dtype=torch.bool)
    places, sizes = [], []
    for row, offset in zip(wanted, bias, strict=True):
        used = row != 0
        target = torch.cat([offset[None], row[used]])
        own = torch.cat([layer.bias[:, None], layer.weight[:, inputs[used]]], 1).double()
        agrees = ((own.sign() == target.sign()) | (target == 0)).all(1)
        size = torch.where(agrees, own @ target / target.square().sum(), own.abs().sum(1) / target.abs().sum())
        distance = (own - size[:, None] * target).abs().sum(1)
        able = free & agrees if (free & agrees).any() else free
        place = int(distance.masked_fill(~able, math.inf).argmin())
        free[place] = False
        places.append(place)
        sizes.append(size[place])
    return torch.tensor(places), torch.stack(sizes)


def like(layer: nn.Linear, inputs: Tensor, wanted: Tensor) -> float:
    """The one factor by which a ticket's last layer has the sizes of the weights it stands for."""
    used = wanted != 0
    return float(layer.weight[:, inputs].double()[used].abs().sum() / wanted[used].abs().sum())
