"""Ordinary differential equations as transfer problems: learn the vector field of a system, then that of another.

A net learns state -> its rate of change, from noisy samples of both. The learnt field is also judged by rolling it out:
the state's error along trajectories, and that of the energy.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor

from maskbench.common.knobs import Count, NonNegative, Positive, Within
from maskbench.common.streams import generator
from maskbench.data.stage import Stage
from maskbench.data.tables.generated import Truth, pair

Field = Callable[[Tensor], Tensor]  # states [n, 2] -> rates of change [n, 2]
STEP, STEPS, TRAJECTORIES = 0.05, 200, 25


def runge_kutta(field: Field, state: Tensor, step: float = STEP, steps: int = STEPS) -> Tensor:
    """The trajectories from `state` [n, 2] by the classical fourth-order method: [steps + 1, n, 2]."""
    path = [state]
    for _ in range(steps):
        s = path[-1]
        k1 = field(s)
        k2 = field(s + step / 2 * k1)
        k3 = field(s + step / 2 * k2)
        k4 = field(s + step * k3)
        path.append(s + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4))
    return torch.stack(path)


# ---- the damped pendulum


def pendulum_field(state: Tensor, damping: float, gravity: float) -> Tensor:
    """theta'' = -(g / L) sin theta - beta theta': (theta, omega) -> (omega, omega')."""
    theta, omega = state[:, 0], state[:, 1]
    return torch.stack([omega, -gravity * torch.sin(theta) - damping * omega], 1)


def pendulum_energy(state: Tensor, gravity: float) -> Tensor:
    """omega^2 / 2 - (g / L) cos theta, of states [..., 2]."""
    return state[..., 1].square() / 2 - gravity * torch.cos(state[..., 0])


def turn(state: Tensor) -> Tensor:
    """The same states with their angles in [-pi, pi), where the field was sampled."""
    theta = torch.remainder(state[..., 0] + math.pi, 2 * math.pi) - math.pi
    return torch.stack([theta, state[..., 1]], -1)


def pendulum(
    *,
    source_damping: NonNegative,
    target_damping: NonNegative,
    gravity: Positive,
    n_source: Annotated[int, Within(least=2)],
    n_target: Count,
    val: Count,
    test: Count,
    noise: NonNegative,
    standardize: bool,
    root: Path,
    seed: int,
) -> list[Stage]:
    """Source and target differ in damping; states in U[-pi, pi] x U[-3, 3].

    Measures of a model: `rollout_mse` over 25 trajectories of 200 steps (angles as points on a circle, so that a whole
    turn is no error), and `energy_error`, the mean absolute difference of energies along them.

    Args:
        source_damping, target_damping: beta, the damping of each.
        gravity: g / L.
        n_source: training samples of the source.
        n_target: training samples of the target; those of a smaller target are among those of a larger one.
        val: noisy samples that validate, of source and target each.
        test: samples without noise that test, of each.
        noise: standard deviation of what is added to training and validation targets.
        standardize: whether targets are standardised by the source's mean and deviation.
        root: the data folder, which is not needed.
        seed: of the run, draws all samples.
    """
    box = torch.tensor([math.pi, 3.0], dtype=torch.float64)

    def truth(name: str, damping: float) -> Truth:
        def field(state: Tensor) -> Tensor:
            return pendulum_field(state, damping, gravity)

        def paths(answer: Field) -> tuple[Tensor, Tensor]:
            begin = 2 * torch.rand(TRAJECTORIES, 2, generator=generator(seed, "pendulum rollouts"), dtype=torch.float64) - 1
            begin = begin * torch.tensor([2.0, 1.5], dtype=torch.float64)  # no whole turns, and well inside the box
            return runge_kutta(field, begin), runge_kutta(lambda s: answer(turn(s).float()).double(), begin)

        def rollout_mse(answer: Field) -> float:
            own, model = paths(answer)
            return (turn(model - own)).square().mean().item()

        def energy_error(answer: Field) -> float:
            own, model = (pendulum_energy(path, gravity) for path in paths(answer))
            return (own - model).abs().mean().item()

        return Truth(name, field, {"rollout_mse": rollout_mse, "energy_error": energy_error})

    return pair(
        "pendulum",
        truth(f"damping {source_damping:g}", source_damping),
        truth(f"damping {target_damping:g}", target_damping),
        lambda rows, draw: (2 * torch.rand(rows, 2, generator=draw, dtype=torch.float64) - 1) * box,
        n_source=n_source, n_target=n_target, val=val, test=test, noise=noise, seed=seed, standardize=standardize,
    )  # fmt: skip
