"""Scores for pruning: the higher, the longer a weight stays. Each criterion is one function of one layer's weights.

A new one is a function here (or anywhere importable: `method.criterion=mymodule.my_criterion`) and is chosen by its name.
Names and definitions: Deconstructing Lottery Tickets (arXiv 1905.01067), its table of mask criteria; SNIP (arXiv 1810.02340),
GraSP (2002.07376), SynFlow (2006.05467), Wanda (2306.11695). What they ask of the net is made by methods/prune/scoring.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated

import torch
from torch import Tensor

from maskbench.common.errors import UsageError
from maskbench.common.knobs import FunctionIn
from maskbench.masks.pruning import ranked

Criterion = Annotated[str, FunctionIn("maskbench.masks.criteria")]  # a knob: one of these by its name, or the dotted path of any


@dataclass
class Weights:
    """What a criterion may rank a layer's weights by: their values before and after training, and what the net makes of them.

    Attributes:
        init: the values training started from. final: those it ended at.
        alive: what the mask still keeps, bool.
        keep: how many will stay.
        gradient: makes the loss gradient at `init` on one batch.
        more: makers of what stands below under their names, each asked when a criterion asks.
    """

    init: Tensor
    final: Tensor
    alive: Tensor
    keep: int
    gradient: Callable[[], Tensor]
    more: Mapping[str, Callable[[], Tensor]] = field(default_factory=dict)

    @cached_property
    def grad(self) -> Tensor:
        return self.gradient()

    @cached_property
    def curvature(self) -> Tensor:
        """Hg at `init`: the Hessian of the loss times its gradient."""
        return self._made("curvature")

    @cached_property
    def flow(self) -> Tensor:
        """dR/d|w| at `init`, float64: R is the sum of the outputs to an input of ones, all weights at their magnitudes."""
        return self._made("flow")

    @cached_property
    def inputs(self) -> Tensor:
        """The l2 norm of each input over a batch, under the masks of the layers before: [1, inputs, 1, ...]."""
        return self._made("inputs")

    def _made(self, name: str) -> Tensor:
        if name not in self.more:
            raise UsageError(f"this method's criterion cannot have the {name} of weights: take another method.criterion")
        return self.more[name]()

    @property
    def same_sign(self) -> Tensor:
        return self.init * self.final > 0

    @property
    def diff_sign(self) -> Tensor:
        return self.init * self.final < 0


def large_final(w: Weights) -> Tensor:
    """The lottery ticket's own criterion: magnitude of the trained weight."""
    return w.final.abs()


def small_final(w: Weights) -> Tensor:
    """The control: smallest trained weights stay."""
    return -w.final.abs()


def large_init(w: Weights) -> Tensor:
    """Magnitude of the initial weight, whatever training did."""
    return w.init.abs()


def small_init(w: Weights) -> Tensor:
    """The control: smallest initial weights stay."""
    return -w.init.abs()


def large_init_large_final(w: Weights) -> Tensor:
    """Large at both ends: the smaller of the two ranks within the layer."""
    return torch.minimum(_rank(w.init.abs(), w.alive), _rank(w.final.abs(), w.alive))


def small_init_small_final(w: Weights) -> Tensor:
    """Small at both ends: the smaller of the two ranks within the layer."""
    return torch.minimum(_rank(-w.init.abs(), w.alive), _rank(-w.final.abs(), w.alive))


def magnitude_increase(w: Weights) -> Tensor:
    """How much training increased the magnitude."""
    return w.final.abs() - w.init.abs()


def movement(w: Weights) -> Tensor:
    """How far training moved the weight, in either direction."""
    return (w.final - w.init).abs()


def random(w: Weights) -> Tensor:
    """The control: which weights stay is chance."""
    return torch.rand_like(w.final)


def large_final_same_sign(w: Weights) -> Tensor:
    """max(0, final * sign(init)): the best heuristic supermask. Flipped weights tie at 0 and go at random."""
    return w.final.abs() * w.same_sign


def large_final_diff_sign(w: Weights) -> Tensor:
    """The control: of the weights whose sign training flipped, the largest."""
    return w.final.abs() * w.diff_sign


def magnitude_increase_same_sign(w: Weights) -> Tensor:
    """Flipped weights rank below all others (the authors' code gives them 0, above same-sign weights that shrank)."""
    return magnitude_increase(w).masked_fill(w.init * w.final <= 0, -torch.inf)  # NaN stays, to be refused


def magnitude_increase_diff_sign(w: Weights) -> Tensor:
    """The control: magnitude increase among weights whose sign training flipped; all others rank below."""
    return magnitude_increase(w).masked_fill(w.init * w.final >= 0, -torch.inf)


def snip(w: Weights) -> Tensor:
    """SNIP: |gradient * weight| at the initial values, the change of the loss when the weight goes."""
    return (w.grad * w.init).abs()


def grad(w: Weights) -> Tensor:
    """|gradient| at the initial values."""
    return w.grad.abs()


def grasp(w: Weights) -> Tensor:
    """GraSP: weight * Hg at the initial values, signed; what goes takes least of the gradient's flow with it (its authors rank
    by -weight * Hg and remove the largest: the same)."""
    return w.init * w.curvature


def grasp_magnitude(w: Weights) -> Tensor:
    """|weight * Hg|: GraSP without its sign, the variant of arXiv 2009.08576."""
    return (w.init * w.curvature).abs()


def synflow(w: Weights) -> Tensor:
    """SynFlow: |weight| * dR/d|weight| at the initial values, the weight's part of what flows from inputs to outputs."""
    return w.init.abs() * w.flow


def wanda(w: Weights) -> Tensor:
    """Wanda: |trained weight| * l2 norm of its input."""
    return w.final.abs() * w.inputs


def _rank(score: Tensor, alive: Tensor) -> Tensor:
    """Place of each living weight in its layer's order, from 0 for the lowest; -1 for the dead.

    Raises:
        FloatingPointError: a score is NaN, which has no place.
    """
    places = torch.full_like(score, -1.0)
    order = ranked(score[alive]).argsort(stable=True)
    values = torch.empty_like(order, dtype=score.dtype)
    values[order] = torch.arange(len(order), dtype=score.dtype, device=score.device)
    places[alive] = values
    return places
