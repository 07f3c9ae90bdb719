"""Bootstrap over test inputs: percentile intervals of scores that are functions of how often each input is counted.

A resample of n inputs is n counts (Efron 1979); draws come in blocks of their own streams, so that neither memory nor the number
of draws decides what is drawn. Equal numbers of inputs get equal draws: two methods judged on the same test inputs, in the same
order, are paired draw by draw, and the differences of their draws have an interval too (`difference`).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from maskbench.common.streams import generator

BLOCK = 20  # draws at a time: of 10,000 inputs they stay in a processor's cache
TAIL = 0.025  # of the draws lies below an interval, and as much above it

Score = Callable[[Tensor], dict[str, Tensor]]  # counts [n, draws] -> by name [draws]


def counts(rows: int, draws: int, of: str) -> Iterable[Tensor]:
    """How often each of `rows` inputs is in each resample, [rows, draws], float64, BLOCK draws at a time.

    of: names the stream: known and unknown inputs are drawn apart.
    """
    for block in range(-(-draws // BLOCK)):
        size = min(BLOCK, draws - block * BLOCK)
        picked = torch.randint(rows, (rows, BLOCK), generator=generator("bootstrap", of, rows, block))[:, :size]
        flat = picked * size + torch.arange(size)
        yield torch.bincount(flat.flatten(), minlength=rows * size).view(rows, size).double()


def drawn(score: Callable[..., dict[str, Tensor]], blocks: Iterable[Tensor | tuple[Tensor, ...]]) -> dict[str, Tensor]:
    """What a score is in every draw, by name [draws]; blocks: of `counts`, several sets' side by side as tuples."""
    parts = [score(*(block if isinstance(block, tuple) else (block,))) for block in blocks]
    return {name: torch.cat([part[name] for part in parts]) for name in (parts[0] if parts else ())}


def interval(draws: Tensor) -> tuple[float, float] | None:
    """(lower, upper) end of the 95 % percentile interval; None where a draw has no number."""
    if not len(draws) or not draws.isfinite().all():
        return None
    low, high = torch.quantile(draws.double(), torch.tensor([TAIL, 1 - TAIL], dtype=torch.float64, device=draws.device)).tolist()
    return low, high


def ends(draws: dict[str, Tensor]) -> dict[str, float | None]:
    """`<name>_low` and `<name>_high` of the interval of each name's draws."""
    numbers: dict[str, float | None] = {}
    for name, values in draws.items():
        low, high = interval(values) or (None, None)
        numbers |= {f"{name}_low": low, f"{name}_high": high}
    return numbers


def row(metric: str, draws: Tensor) -> dict[str, Any]:
    """The draws of a metric as a row of curves, to seven digits: what two runs' difference is made of."""
    return {"kind": "draws", "metric": metric, "values": [float(f"{value:.7g}") for value in draws.tolist()]}


def difference(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float] | None:
    """The interval of one method's score minus another's, out of the draws of both, on the same test inputs in the same order.

    Raises:
        ValueError: they have unequal numbers of draws, so are not paired.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} and {len(theirs)} draws are not paired: take runs of the same task.draws")
    return interval(torch.tensor(ours, dtype=torch.float64) - torch.tensor(theirs, dtype=torch.float64))
