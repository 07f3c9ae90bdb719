"""Masks over whole neurons of a random depth-two net, and what bounds them (Malach et al. 2020, section 3).

With features phi [points, k] = relu(x U') and random outgoing weights V [k, outputs], a mask m keeps neurons:
g(x) = a sum_k m_k phi_k(x) V_k, with one scalar a. Training the outgoing weights instead gives the random-features
predictor, which no mask over neurons beats by more than chance.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Quadratic(NamedTuple):
    """|y - a g|^2 over a sample as a function of mask and scalar: |y|^2 - 2 a p'm + a^2 m'Gm."""

    gram: Tensor  # [k, k]
    slope: Tensor  # [k]

    def gain(self, m: Tensor) -> Tensor:
        """By how much the best scalar lowers |y|^2."""
        return (self.slope @ m).square() / (m @ self.gram @ m).clamp(min=1e-300)

    def scalar(self, m: Tensor) -> float:
        return ((self.slope @ m) / (m @ self.gram @ m).clamp(min=1e-300)).item()


def quadratic(phi: Tensor, v: Tensor, y: Tensor) -> Quadratic:
    """phi [points, k], v [k, outputs], y [points, outputs]."""
    return Quadratic((phi.T @ phi) * (v @ v.T), ((phi.T @ y) * v).sum(1))


def greedy(q: Quadratic) -> Tensor:
    """Flip one neuron after another, each time the one that helps most, until none helps; bool [k].

    A local optimum over single flips. From nothing, the first neuron is the one nearest to the target.
    """
    m = torch.zeros_like(q.slope)
    diagonal = q.gram.diagonal()
    against, along, length = torch.zeros_like(m), 0.0, 0.0  # G m, p'm, m'Gm
    best = 0.0
    while True:
        step = 1 - 2 * m  # +1 adds, -1 removes
        gain = (along + step * q.slope).square() / (length + 2 * step * against + diagonal).clamp(min=1e-12)
        k = int(gain.argmax())
        if gain[k] <= best * (1 + 1e-9):
            return m.bool()
        best = gain[k]
        along, length = along + step[k] * q.slope[k], length + 2 * step[k] * against[k] + diagonal[k]
        against = against + step[k] * q.gram[k]
        m[k] = 1 - m[k]


def ridge(phi: Tensor, y: Tensor, penalty: float) -> Tensor:
    """Outgoing weights [k, outputs] of the random-features predictor."""
    gram = phi.T @ phi
    gram.diagonal().add_(penalty * gram.diagonal().mean())
    return torch.linalg.solve(gram, phi.T @ y)


def rounded(weights: Tensor, v: Tensor, generator: torch.Generator) -> Tensor:
    """A weak baseline: a neuron stays with a probability in proportion to its ridge weights along v; bool [k]."""
    wanted = ((weights * v).sum(1) / v.square().sum(1)).clamp(min=0)
    return torch.rand(len(wanted), generator=generator, dtype=wanted.dtype) < wanted / wanted.max()


def relative(answer: Tensor, y: Tensor) -> float:
    """Root mean square error over that of answering 0."""
    return ((answer - y).square().sum() / y.square().sum()).sqrt().item()
