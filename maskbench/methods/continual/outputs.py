"""Which outputs of one head over all classes a loss sees: those of the classes so far (`seen`), `all`, or the `stage`'s own.

What a loss does not see is left out of its softmax and gets no gradient. The choice moves accuracy without the stage more
than most methods do, so it belongs in the name of a row.
"""

from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from maskbench.common.errors import UsageError
from maskbench.data.stage import Stage

Outputs = Literal["seen", "all", "stage"]
Together = tuple[tuple[int, ...], ...]  # sets of outputs, each under a softmax of its own


def loss(logits: Tensor, y: Tensor, stage: Stage, outputs: Outputs) -> Tensor:
    """The stage's criterion of logits [rows, outputs], each row over the outputs that go with its class y [rows].

    Rows may be of earlier stages too. Under `stage` they are judged among the outputs of the latest stage that has their class.
    """
    sets = together(stage, outputs)
    if len(sets[-1]) == logits.shape[-1]:
        return stage.criterion(logits, y)
    columns, place, beyond = tables(sets, logits.shape[-1], logits.device)
    chosen = logits.gather(1, columns[y])
    return stage.criterion(chosen if beyond is None else chosen.masked_fill(beyond[y], -torch.inf), place[y])


def among(logits: Tensor, own: tuple[int, ...]) -> Tensor:
    """The columns of logits [rows, outputs] that belong to a set of outputs: [rows, len(own)]."""
    if own == tuple(range(logits.shape[1])):
        return logits
    return logits.index_select(1, places(own, logits.device))


@lru_cache(maxsize=64)
def places(own: tuple[int, ...], device: torch.device) -> Tensor:
    """A set of outputs as indices [len(own)] on a device."""
    return torch.tensor(own, device=device)


def together(stage: Stage, outputs: Outputs) -> Together:
    """The sets of outputs that a loss on rows of this stage and of earlier ones sees, this stage's last.

    Raises:
        UsageError: the stage's own set is a single output, whose loss is 0 whatever the net answers.
    """
    if outputs == "all":
        return (tuple(range(stage.outputs)),)
    if outputs == "seen":
        return (stage.seen,)
    if len(stage.own) == 1:
        raise UsageError(
            f"method.outputs=stage: the one class of stage {stage.name} has loss 0 and accuracy 1 whatever is learnt; take "
            "method.outputs=seen, or data with two classes a stage or more"
        )
    return tuple(dict.fromkeys(one.own for one in (*stage.earlier, stage)))


@lru_cache(maxsize=64)
def tables(sets: Together, outputs: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor | None]:
    """By class: the outputs it is judged among [outputs, most], its own place among them [outputs], and which of them are there
    only because other sets are larger [outputs, most] (None: none). A class of no set has place -1, which no criterion takes.
    """
    most = max(map(len, sets))
    columns, place = torch.zeros(outputs, most, dtype=torch.long), torch.full((outputs,), -1)
    beyond = torch.zeros(outputs, most, dtype=torch.bool)
    for own in sets:
        members = torch.tensor(own)
        columns[members, : len(own)] = members
        place[members] = torch.arange(len(own))
        beyond[members] = torch.arange(most) >= len(own)
    ragged = min(map(len, sets)) < most
    return columns.to(device), place.to(device), beyond.to(device) if ragged else None
