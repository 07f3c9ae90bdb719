"""A source and a target drawn from known functions: regression pairs whose truth is known exactly.

Targets are standardised by the source's training part, the target's too: five samples have no statistics worth using.
Test targets are free of noise.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from maskbench.common.streams import generator
from maskbench.data.stage import Origin, Split, Stage
from maskbench.data.tables.regression import identity, squared_error

POOL = 1000  # target samples are the first of so many, so that a smaller sample is part of a larger one


@dataclass(frozen=True)
class Truth:
    """A function to be learnt: `f` gives [rows, values] for x [rows, features]; `measures` are further scores of its model."""

    name: str
    f: Callable[[Tensor], Tensor]
    measures: Mapping[str, Callable[[Callable[[Tensor], Tensor]], float]] = field(default_factory=dict)


def pair(
    name: str,
    source: Truth,
    target: Truth,
    inputs: Callable[[int, torch.Generator], Tensor],
    *,
    n_source: int,
    n_target: int,
    val: int,
    test: int,
    noise: float,
    seed: int,
    standardize: bool = True,
) -> list[Stage]:
    """The two stages: `n_source` and `n_target` noisy training samples, `val` noisy ones, `test` without noise, each.

    `inputs(rows, generator)` draws inputs [rows, features]. Every part has streams of its own for inputs and noise, so
    that one is the same whatever the sizes of the others; the samples of a smaller `n_target` are among those of a
    larger. Without `standardize` targets stay in their own units.
    """
    sizes = {"val": val, "test": test}

    def draw(truth: Truth, role: str, part: str, rows: int) -> tuple[Tensor, Tensor]:
        pool = max(rows, POOL) if (role, part) == ("target", "train") else rows
        x = inputs(pool, generator(seed, name, role, part, "inputs"))
        y = truth.f(x)
        if part != "test":
            y = y + noise * torch.randn(y.shape, generator=generator(seed, name, role, part, "noise"), dtype=y.dtype)
        return x[:rows], y[:rows]

    parts = {
        (role, part): draw(truth, role, part, rows)
        for role, truth, count in (("source", source, n_source), ("target", target, n_target))
        for part, rows in {"train": count, **sizes}.items()
    }
    y = parts["source", "train"][1]
    mean, deviation = (y.mean(0), y.std(0)) if standardize else (torch.zeros_like(y[0]), torch.ones_like(y[0]))

    def split(role: str, part: str) -> Split:
        x, y = parts[role, part]
        return Split(x.float(), ((y - mean) / deviation).float())

    def stage(index: int, role: str, truth: Truth) -> Stage:
        samples = b"".join(t.numpy().tobytes() for part in ("train", "val", "test") for t in parts[role, part])
        return Stage(
            index=index,
            total=2,
            name=truth.name,
            train=split(role, "train"),
            val=split(role, "val"),
            test=split(role, "test"),
            classes=(),
            outputs=y.shape[1],
            shape=tuple(parts[role, "train"][0].shape[1:]),
            origin=Origin(name, "generated", {role: hashlib.md5(samples, usedforsecurity=False).hexdigest()}),
            criterion=squared_error,
            link=identity,
            units=(mean[None].float(), deviation[None].float()),
            measures=truth.measures,
        )

    return [stage(0, "source", source), stage(1, "target", target)]
