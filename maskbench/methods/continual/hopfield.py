"""Hopfield memory as pure functions: patterns z of +1 and -1 [units] are added up in one matrix Psi [units, units].

A stored pattern is a valley of the energy, so that it can be found again from a point near it. Psi stays symmetric and
of one size however many patterns go in; beyond its capacity they disturb each other.
"""

import math

import torch
from torch import Tensor


def hebb(psi: Tensor, z: Tensor) -> Tensor:
    """Psi + z z^T / d: the step in the SupSup paper's text."""
    return psi + torch.outer(z, z) / len(z)


def storkey(psi: Tensor, z: Tensor) -> Tensor:
    """Psi + (z z^T - I - z h^T - h z^T) / d with h = Psi z: the step in the SupSup paper's code.

    Storkey's rule with the whole of h in every entry (his own leaves the entry's two units out of it). What Psi knows
    of z already is not added again.
    """
    z_h = torch.outer(z, psi @ z)
    one = torch.eye(len(z), dtype=z.dtype, device=z.device)
    return psi + (torch.outer(z, z) - one - (z_h + z_h.T)) / len(z)  # in this order Psi is symmetric to the last bit


def energy(psi: Tensor, z: Tensor) -> Tensor:
    """E(z) = -1/2 z^T Psi z, a scalar."""
    return -0.5 * (z @ (psi @ z))


def capacity(units: int) -> float:
    """How many random patterns Storkey's rule holds: d / sqrt(2 ln d), for d of at least 2."""
    return units / math.sqrt(2 * math.log(units))


RULES = {rule.__name__: rule for rule in (storkey, hebb)}
