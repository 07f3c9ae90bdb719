"""Nets of one shape that train as one: their Linear layers along the diagonal of large sparse ones, under one optimiser.

What a small sparse net's training step costs is calls, some forty of them whatever their size; here n nets share them, each on
batches and under masks of its own. Net by net the training is that of the net alone, but for the rounding of sums.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskbench.masks.kernels import BlockDiagonal, Pattern, SparseWeight
from maskbench.training.optimizers import entrywise, state_of
from maskbench.training.stand_in import call

ELEMENTWISE = {  # optimisers that treat each entry by itself, so that vectors may be joined, and leave a 0 without gradient be
    torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, torch.optim.RMSprop, torch.optim.Adagrad, torch.optim.NAdam,
    torch.optim.RAdam, torch.optim.Adadelta,
}  # fmt: skip
Values = dict[str, Tensor]
Moments = dict[str, dict[str, Any]]  # by a parameter's name what the optimiser remembers of it


@dataclass(frozen=True)
class Part:
    """What one net brings to the wide one.

    Attributes:
        shapes: of its weights, by name: (outputs, inputs).
        places: of their kept values, in the flattened weight, ascending.
        values: of each weight the kept ones, of each bias all.
        moments: of the same, in the same order.
    """

    shapes: dict[str, tuple[int, int]]
    places: Values
    values: Values
    moments: Moments


class Wide:
    """Nets that train as one.

    Args:
        net: one of them: how its layers follow each other. What lies between them must act on each unit by itself.
        parts: of each net.
        optimizer: parameters -> an optimiser that treats each entry by itself.
    """

    def __init__(self, net: nn.Module, parts: Sequence[Part], optimizer: Callable[[Iterable], torch.optim.Optimizer]) -> None:
        self.net, self.n = net, len(parts)
        self.blocks = {
            name: BlockDiagonal([Pattern(part.places[name], shape) for part in parts]) for name, shape in parts[0].shapes.items()
        }
        self.moved = {
            name: nn.Parameter(torch.cat([part.values[name] for part in parts]), requires_grad=True) for name in parts[0].values
        }
        self.sizes = {name: [len(part.values[name]) for part in parts] for name in self.moved}
        self.optimizer = optimizer(list(self.moved.values()))
        for name, moments in parts[0].moments.items():
            of_all = [part.moments[name] for part in parts]
            whole = {
                key: torch.cat([one[key] for one in of_all]) if entrywise(key, value, parts[0].values[name]) else apart(value)
                for key, value in moments.items()
            }
            if whole:
                self.optimizer.state[self.moved[name]] = whole

    def logits(self, x: Tensor) -> Tensor:
        """Outputs [batch, nets, outputs] from the nets' inputs side by side, [batch, nets * inputs]."""
        weights = {name: SparseWeight(self.moved[name], block.pattern) for name, block in self.blocks.items()}
        return call(self.net, self.moved | weights, x).unflatten(1, (self.n, -1))

    def step(self, x: Tensor, y: Tensor, criterion: Callable[[Tensor, Tensor], Tensor], lr: float) -> Tensor:
        """One step of the optimiser on inputs [batch, nets * inputs] and targets [batch, nets, ...]; the losses [nets]."""
        self.optimizer.param_groups[0]["lr"] = lr
        losses = each(criterion, self.logits(x), y)
        self.optimizer.zero_grad(set_to_none=True)
        losses.sum().backward()
        self.optimizer.step()
        return losses.detach()

    def parts(self) -> list[tuple[Values, Moments]]:
        """Values and moments of each net, as they stand now."""
        split: list[tuple[Values, Moments]] = [({}, {}) for _ in range(self.n)]
        for name, p in self.moved.items():
            state = state_of(self.optimizer, p)
            for (values, _), own in zip(split, p.detach().split(self.sizes[name]), strict=True):
                values[name] = own
            pieces = {key: v.split(self.sizes[name]) if entrywise(key, v, p) else [v] * self.n for key, v in state.items()}
            for number, (_, moments) in enumerate(split):
                moments[name] = {key: piece[number] for key, piece in pieces.items()}
        return split


def apart(value: Any) -> Any:
    """A count of steps and the like, which an optimiser changes in place, as a copy."""
    return value.clone() if isinstance(value, Tensor) else value


def each(criterion: Callable[[Tensor, Tensor], Tensor], outputs: Tensor, y: Tensor) -> Tensor:
    """The loss of every net, [nets], of outputs [batch, nets, outputs] and targets [batch, nets, ...]."""
    if criterion is F.cross_entropy:
        return F.cross_entropy(outputs.flatten(0, 1), y.flatten(), reduction="none").view(y.shape).mean(0)
    return torch.stack([criterion(outputs[:, number], y[:, number]) for number in range(outputs.shape[1])])


class Own:
    """A net's part, and the parameters that it is of: what trains alone where nobody is beside it.

    Args:
        net: whose parameters are the weights and biases of Linear layers and nothing else.
        stands_in: what its method puts in the place of its weights: a SparseWeight, whose kept values train; else w * m.
        masks: bool, by the weight's name; a weight without one is kept whole.
    """

    def __init__(self, net: nn.Module, stands_in: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> None:
        self.held: dict[str, nn.Parameter] = {}  # by the name of a weight or bias what trains of it
        self.patterns: dict[str, Pattern] = {}
        self.thin: set[str] = set()  # weights of which the kept values alone train
        for name, p in net.named_parameters():
            weight = stands_in.get(name)
            if isinstance(weight, SparseWeight):
                self.held[name], self.patterns[name] = weight.kept, weight.pattern
                self.thin.add(name)
                continue
            self.held[name] = p
            if p.ndim == 2:
                self.patterns[name] = Pattern.of(masks[name] if name in masks else torch.ones_like(p, dtype=torch.bool))

    def gather(self, name: str, whole: Tensor) -> Tensor:
        """The kept entries of what has the shape of the parameter."""
        full = name not in self.patterns or name in self.thin
        return (whole if full else self.patterns[name].gather(whole)).detach().clone()

    def part(self, optimizer: torch.optim.Optimizer) -> Part:
        """As it stands now."""
        moments: Moments = {}
        for name, p in self.held.items():
            state = state_of(optimizer, p).items()
            moments[name] = {key: self.gather(name, v) if entrywise(key, v, p) else apart(v) for key, v in state}
        return Part(
            {name: pattern.shape for name, pattern in self.patterns.items()},
            {name: pattern.flat for name, pattern in self.patterns.items()},
            {name: self.gather(name, p) for name, p in self.held.items()},
            moments,
        )

    @torch.no_grad()
    def take(self, values: Values, moments: Moments, optimizer: torch.optim.Optimizer) -> None:
        """Put values and moments of the wide net into the parameters and their optimiser."""
        for name, p in self.held.items():
            self.put(name, p, values[name])
            state = optimizer.state[p]
            for key, value in moments[name].items():
                if not isinstance(value, Tensor) or value.shape != values[name].shape or key == "step":
                    state[key] = apart(value)
                    continue
                if key not in state:
                    state[key] = torch.zeros_like(p)
                self.put(name, state[key], value)

    def put(self, name: str, whole: Tensor, kept: Tensor) -> None:
        if name in self.patterns and name not in self.thin:
            whole.put_(self.patterns[name].flat, kept)
        else:
            whole.copy_(kept)
