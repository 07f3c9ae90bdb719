"""What members compute on the way to their answers, in one pass: logits, log-probabilities, and what the last layer is given.

A method's `predict` applies `stage.link` to each member's outputs, so under a link that leaves them they are logits. A method
that makes its answer in another way has none: which it is, is told by its first rows, asked once more for log-probabilities.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from maskbench.backbones.batch_statistics import answers_in_groups
from maskbench.data.stage import Split, Stage, log_probabilities, probabilities
from maskbench.training import evaluate
from maskbench.training.method import Method

FIRST = 4  # members whose features are kept, at most
FEW = 16  # rows that tell whether answers are made of logits
NEAR = 1e-4  # log-probabilities of the two ways differ by less, relative to the largest: by as much as sizes of batches make


@dataclass(frozen=True)
class Outputs:
    """Of the rows of a split, in its order.

    Attributes:
        log_p: members' log-probabilities [members, n, classes], float64: those of `evaluate.log_members`, to the bit.
        y: targets [n].
        logits: members' outputs [members, n, classes], as the net gives them; None where a method's answers are not made of any.
        features: what the net's last layer is given [members, n, features], of the FIRST members of its own; None where the net
            has no layer `head`, answers rows in groups, or is run inside a transform that hides them.
    """

    log_p: Tensor
    y: Tensor
    logits: Tensor | None
    features: Tensor | None


def identity(outputs: Tensor) -> Tensor:
    """A link that leaves a net's outputs as they are."""
    return outputs


@torch.no_grad()
def outputs(method: Method, stage: Stage, split: Split, first: int | None = None) -> Outputs:
    """Of a split, or of its `first` rows; the net is asked once for each row (and a second time for the first FEW)."""
    method.eval()
    predict, plain, seen = method.predict, replace(stage, link=identity), []
    made_of_logits: bool | None = None

    def answer(x: Tensor) -> Tensor:
        nonlocal made_of_logits
        if made_of_logits is None:
            some = x if answers_in_groups(method.net) else x[:FEW]
            made_of_logits = (
                stage.link is probabilities and len(x) > 0 and same(predict(some, plain), evaluate.logs(predict, some, stage))
            )
        with at_head(method.net) as given:
            made = predict(x, plain) if made_of_logits else evaluate.logs(predict, x, stage)
        seen.append(by_member(given, len(x)))
        return made

    parts, y = evaluate.pieces(method, answer, stage, split, first)
    made = torch.cat(parts, 1)
    hidden = answers_in_groups(method.net) or any(part is None for part in seen) or not seen
    features = None if hidden else torch.cat(seen, 1)
    return Outputs(log_probabilities(made) if made_of_logits else made, y, made if made_of_logits else None, features)


def same(logits: Tensor, log_p: Tensor) -> bool:
    """Whether these log-probabilities are made of these outputs."""
    if logits.shape != log_p.shape or not logits.is_floating_point():
        return False
    apart = (log_probabilities(logits) - log_p).abs().max()
    return bool(apart <= NEAR * max(1.0, log_p.abs().max().item()))


@contextmanager
def at_head(net: nn.Module) -> Iterator[list[Tensor]]:
    """Inside, each forward pass leaves what its last layer is given, [rows, features], in the list."""
    given: list[Tensor] = []
    head = getattr(net, "head", None)
    if not isinstance(head, nn.Module):
        yield given
        return
    handle = head.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0].flatten(1)))
    try:
        yield given
    finally:
        handle.remove()


def by_member(given: list[Tensor], rows: int) -> Tensor | None:
    """What the last layer was given in the passes of one answer, as [members, rows, features]; None where it cannot be told."""
    if not given or not rows or any(torch._C._functorch.is_functorch_wrapped_tensor(part) for part in given):
        return None
    if len({part.shape[1] for part in given}) > 1 or sum(map(len, given)) % rows:
        return None
    return torch.cat(given).unflatten(0, (-1, rows))[:FIRST]


def side_by_side(features: Tensor) -> Tensor:
    """Features of several members as those of one, [n, members * features], whose squared distances are their mean."""
    return features.double().movedim(0, 1).flatten(1) / math.sqrt(len(features))
